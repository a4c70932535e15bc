/** Events that a transaction has emitted, as bytes for its `decide` record, and their way out once it has committed. */
import { setTimeout as delay } from 'node:timers/promises';
import { Packr } from 'msgpackr';
import { headers as newHeaders } from 'nats';
import type { PreparedEvent, Publisher } from '../bus/publisher.ts';
import { MillraceError } from '../core/errors.ts';
import { scanMsgpack } from '../core/msgpack-scan.ts';
import { publishSubjectReason } from '../core/names.ts';

const packr = new Packr({ useRecords: false, moreTypes: false });
/** A list with a list of pairs in it. */
const LIMITS = { maxDepth: 3, maxValues: 10_000 };
const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 5_000;

type Encoded = [
  id: string,
  subject: string,
  payload: Uint8Array,
  headers: [string, string][],
  emittedAtMs?: number,
];

export interface EmittedEvent extends PreparedEvent {
  /** By its worker's clock, since 1970: it was not published before. */
  emittedAtMs: number;
}

export function encodeEmit({ id, subject, payload, headers }: PreparedEvent): Uint8Array {
  const pairs = [...headers].map(([name, [value = '']]) => [name, value]);
  return packr.pack([id, subject, payload, pairs, Date.now()]);
}

/**
 * Its id was given when it was emitted: published again after a crash, a stream knows it. Throws INVALID_INPUT for what no worker of
 * ours has encoded.
 */
export function decodeEmit(bytes: Uint8Array): EmittedEvent {
  try {
    const fields: unknown = scanMsgpack(bytes, LIMITS) ?? packr.unpack(bytes);
    if (!isEncoded(fields)) throw new Error('it is none');
    const [id, subject, payload, pairs, emittedAtMs = 0] = fields;
    const headers = newHeaders();
    for (const [name, value] of pairs) headers.set(name, value);
    return { id, subject, payload, headers, emittedAtMs };
  } catch (cause) {
    throw new MillraceError('INVALID_INPUT', 'An emitted event cannot be read.', { cause });
  }
}

function isEncoded(fields: unknown): fields is Encoded {
  if (!Array.isArray(fields)) return false;
  const [id, subject, payload, pairs, emittedAtMs = 0] = fields as unknown[];
  return (
    typeof id === 'string' &&
    publishSubjectReason(subject) === undefined &&
    payload instanceof Uint8Array &&
    Array.isArray(pairs) &&
    pairs.every((pair) => Array.isArray(pair) && pair.every((each) => typeof each === 'string')) &&
    Number.isFinite(emittedAtMs)
  );
}

/** One that nobody can read is nobody's event: the transaction would never end, here nor at the next owner, for its sake. */
function readable(emits: readonly Uint8Array[]): EmittedEvent[] {
  return emits.flatMap((emit) => {
    try {
      return [decodeEmit(emit)];
    } catch {
      return [];
    }
  });
}

/**
 * Tries until all are published, or until `over` says that it is somebody else's task now. True: all are. `again`: some may
 * have been published before.
 */
export async function publishEmits(
  publisher: Publisher,
  emits: readonly Uint8Array[],
  again: boolean,
  over: () => boolean,
): Promise<boolean> {
  const left = new Set(readable(emits));
  let others = again;
  for (let waitMs = FIRST_RETRY_MS; !over(); waitMs = Math.min(MAX_RETRY_MS, waitMs * 2)) {
    await Promise.all(
      [...left].map(async (event) => {
        await publisher.sendOnce(event, event.emittedAtMs, others).then(
          () => left.delete(event),
          () => {},
        );
      }),
    );
    if (left.size === 0) return true;
    others = true;
    await delay(waitMs);
  }
  return false;
}
