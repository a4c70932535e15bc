/** How far functions have come on their sources: a KV bucket with one key for each function and stream. */
import { z } from 'zod';
import { bucketKeys } from '../bus/bucket-keys.ts';
import type { Bus } from '../bus/connection.ts';
import { assertFormat, readControl, writeControl } from '../bus/messages.ts';
import { MillraceError } from '../core/errors.ts';
import { subjectsOverlap } from '../core/names.ts';
import type { RateRecord } from '../core/delivery/rates.ts';
import type { Settings } from '../core/settings.ts';

const whole = z.number().int().nonnegative();
const FORMAT = 1;
const entrySchema = z.object({
  function: z.string(),
  stream: z.string(),
  /** Of the versions that dispatch it (identity.ts). */
  identity: z.string(),
  /** The function's subjects in this stream, former ones too, and the sequence from which on each counts. */
  subjects: z.record(z.string(), whole),
  /** Likewise those of a version that has yet to take over. */
  coming: z.record(z.string(), whole).optional(),
  next: whole,
  open: z.array(z.tuple([whole, whole, whole.optional()])),
  /** Who dispatches it, and that he has stopped in order. */
  worker: z.string().optional(),
  stopped: z.boolean().optional(),
  /** Where everything was settled before when the present dispatcher began, and how many have died since without getting further. */
  floor: whole.optional(),
  deaths: whole.optional(),
  /** What ran alone, and how often it was begun so: its worker may die of it. */
  alone: z.object({ sequence: whole, times: whole }).optional(),
});
export type CursorEntry = z.infer<typeof entrySchema>;
export interface StoredCursor {
  entry: CursorEntry;
  revision: number;
}
type Bucket = Awaited<ReturnType<Bus['keyValue']>>;

const ratesSchema = z.array(z.tuple([z.string(), whole, z.number(), z.number()]));
/** No function's name begins like this. */
const RATES = '=rates.';
/** JetStream's error code for a write under another revision than the present one. */
const OTHER_REVISION = 10071;
/** So often functions may begin while all are read. */
const MAX_READS = 5;

/** Somebody else dispatches the source now. */
export class StaleCursor extends Error {
  override readonly name = 'StaleCursor';
}

export class Cursors {
  readonly #bus: Bus;
  readonly #name: string;
  readonly #bucket: Bucket;

  private constructor(bus: Bus, name: string, bucket: Bucket) {
    this.#bus = bus;
    this.#name = name;
    this.#bucket = bucket;
  }

  static async open(bus: Bus, settings: Settings): Promise<Cursors> {
    const name = `${settings.namespace}-deliveries`;
    return new Cursors(bus, name, await answered(bus.keyValue(name, settings.replicas)));
  }

  async read(functionName: string, stream: string): Promise<StoredCursor | undefined> {
    return this.#read(keyOf(functionName, stream));
  }

  /** The one that is there counts. */
  async create(entry: CursorEntry): Promise<void> {
    const key = keyOf(entry.function, entry.stream);
    try {
      await answered(this.#bucket.create(key, encodeCursor(entry)));
    } catch (error) {
      if (!(error instanceof StaleCursor)) throw error;
    }
  }

  /** Resolves with the new revision. Throws StaleCursor where `revision` is not the present one any more. */
  async put(entry: CursorEntry, revision: number): Promise<number> {
    const key = keyOf(entry.function, entry.stream);
    return answered(this.#bucket.update(key, encodeCursor(entry), revision));
  }

  async remove(functionName: string, stream: string): Promise<void> {
    await answered(this.#bucket.delete(keyOf(functionName, stream)));
  }

  /**
   * Nothing is missing that was created before one of them was stored as it is here: what they all have settled may be removed.
   * Throws UNAVAILABLE where that cannot be had, or one of them not be read: then nothing is known of what it still needs.
   */
  async all(): Promise<CursorEntry[]> {
    for (let tries = 0; tries < MAX_READS; tries += 1) {
      const { keys } = await answered(bucketKeys(this.#bus, this.#name));
      const found: StoredCursor[] = [];
      for (const key of keys) {
        const stored = key.startsWith(RATES) ? undefined : await this.#read(key);
        if (stored !== undefined) found.push(stored);
      }
      // Each may have been answered by another server, one of them from the past.
      const now = await answered(bucketKeys(this.#bus, this.#name));
      const known = new Set(keys);
      const whole =
        now.keys.every((key) => known.has(key)) &&
        found.every(({ revision }) => revision <= now.revision);
      if (whole) return found.map(({ entry }) => entry);
    }
    throw new MillraceError('UNAVAILABLE', 'The cursors change too fast.');
  }

  /** How often the function has begun lately. Times in milliseconds since 1970. */
  async rates(functionName: string): Promise<RateRecord[]> {
    const stored = await answered(this.#bucket.get(`${RATES}${functionName}`));
    if (stored === null || stored.operation !== 'PUT') return [];
    return readControl(ratesSchema, stored.value) ?? [];
  }

  async putRates(functionName: string, records: readonly RateRecord[]): Promise<void> {
    await answered(this.#bucket.put(`${RATES}${functionName}`, writeControl(records)));
  }

  async #read(key: string): Promise<StoredCursor | undefined> {
    const stored = await answered(this.#bucket.get(key));
    if (stored === null || stored.operation !== 'PUT') return undefined;
    assertFormat(stored.value, `The cursor ${key}`, FORMAT);
    const entry = readControl(entrySchema, stored.value);
    if (entry === undefined) {
      throw new MillraceError('UNAVAILABLE', `The cursor ${key} cannot be read.`);
    }
    return { entry, revision: stored.revision };
  }
}

/** The client throws errors of its own: StaleCursor for a revision that is not the present one, UNAVAILABLE for all others. */
async function answered<Answer>(asking: Promise<Answer>): Promise<Answer> {
  try {
    return await asking;
  } catch (cause) {
    const { api_error: refusal } = cause as { api_error?: { err_code?: number } };
    if (refusal?.err_code === OTHER_REVISION) throw new StaleCursor();
    throw new MillraceError('UNAVAILABLE', 'The cursors are not there just now.', { cause });
  }
}

function encodeCursor(entry: CursorEntry): Buffer {
  return writeControl({ format: FORMAT, ...entry });
}

/** Undefined for what is none, such as rates. Throws NEWER_VERSION. */
export function readCursor(value: Uint8Array): CursorEntry | undefined {
  assertFormat(value, 'A cursor', FORMAT);
  return readControl(entrySchema, value);
}

/** What a dispatcher that begins makes of the cursor. `isThere`: the worker lives that dispatched before. */
export function claimed(
  entry: CursorEntry,
  worker: string,
  isThere: (worker: string) => boolean,
): CursorEntry {
  const { stopped = false, floor: before, deaths = 0, worker: last, ...rest } = entry;
  const floor = lowestOf(entry);
  const died = last !== undefined && !stopped && !isThere(last);
  const further = floor !== before;
  return { ...rest, worker, floor, deaths: further ? 0 : deaths + (died ? 1 : 0) };
}

/** Everything before it is settled. */
export function lowestOf({ next, open }: Pick<CursorEntry, 'next' | 'open'>): number {
  return open.reduce((lowest, [sequence]) => Math.min(lowest, sequence), next);
}

/** A stream's name may have characters that a key may not. */
function keyOf(functionName: string, stream: string): string {
  return `${functionName}.${Buffer.from(stream).toString('base64url')}`;
}

/**
 * The cursor for a version with other subjects or another key: it begins where the first of its new subjects counts, and what it meets again of
 * the others before their place is passed over.
 */
export function takenOver(
  entry: CursorEntry,
  identity: string,
  wanted: readonly string[],
  end: number,
): CursorEntry {
  const { coming = {}, ...rest } = entry;
  const subjects: Record<string, number> = {};
  for (const [subject, since] of Object.entries(entry.subjects)) {
    if (wanted.some((each) => subjectsOverlap(each, subject)))
      subjects[subject] = Math.max(since, entry.next);
  }
  let { next } = entry;
  for (const subject of wanted) {
    if (entry.subjects[subject] !== undefined) continue;
    subjects[subject] = coming[subject] ?? end;
    next = Math.min(next, subjects[subject]);
  }
  return { ...rest, identity, subjects, next };
}

/** What all functions that have the subject, or a part of it, have settled lies before these. */
export function lowestBySubject(entries: readonly CursorEntry[]): Map<string, number> {
  const needs = entries.flatMap((entry) => [
    ...Object.keys(entry.subjects).map((subject) => [subject, lowestOf(entry)] as const),
    ...Object.entries(entry.coming ?? {}),
  ]);
  const lowest = new Map<string, number>();
  for (const [subject] of needs) {
    const shared = needs.filter(([other]) => subjectsOverlap(subject, other));
    lowest.set(subject, Math.min(...shared.map(([, sequence]) => sequence)));
  }
  return lowest;
}
