/**
 * Whether a stream stores what is published on a subject, and says so. JetStream is asked, and its answer is believed
 * for a while: which streams capture a subject for two seconds, how a stream is configured for thirty.
 */
import { z } from 'zod';
import { MillraceError } from '../core/errors.ts';
import { NO_RESPONDERS, type Bus } from './connection.ts';
import { readControl } from './messages.ts';

const STREAM_NAMES = '$JS.API.STREAM.NAMES';
const STREAM_INFO = '$JS.API.STREAM.INFO.';
/** JetStream's error code: not for this account. */
const NOT_ENABLED = 10039;
const CAPTURE_CACHE_MS = 2_000;
/** Hardly anybody edits whether a stream acknowledges. */
const STREAM_CACHE_MS = 30_000;
/** Subjects, and likewise streams, that are remembered. */
const CACHE_ENTRIES = 1_024;
const LOOKUP_TIMEOUT_MS = 2_000;
const NS_PER_MS = 1_000_000;

const namesSchema = z.object({
  streams: z.array(z.string()).nullish(),
  error: z
    .object({ err_code: z.number().optional(), description: z.string().optional() })
    .optional(),
});
const infoSchema = z.object({
  config: z.object({
    no_ack: z.boolean().optional(),
    duplicate_window: z.number().optional(),
    metadata: z.record(z.string(), z.string()).optional(),
  }),
});

/** In a stream's metadata, when it was restored from a backup (ISO 8601): it remembers no ids from before. */
export const RESTORED_METADATA = 'millrace-restored';

/** What becomes of an event on a subject. */
export interface Capture {
  /** False where no stream stores it, or one that never acknowledges (`no_ack`). */
  acknowledged: boolean;
  /** That acknowledges it; undefined for none. */
  stream: string | undefined;
  /** For how long the stream remembers the event's id; 0 where that is not known. */
  rememberedMs: number;
  /** Since when (since 1970). */
  remembersSinceMs: number;
}

const UNCAPTURED: Capture = {
  acknowledged: false,
  stream: undefined,
  rememberedMs: 0,
  remembersSinceMs: 0,
};

export class Captures {
  readonly #bus: Bus;
  readonly #bySubject = new Answers<Capture>(CAPTURE_CACHE_MS);
  readonly #byStream = new Answers<Capture>(STREAM_CACHE_MS);

  constructor(bus: Bus) {
    this.#bus = bus;
  }

  /** Throws UNAVAILABLE or TIMEOUT where JetStream does not say: an event must not pass for stored by mistake. */
  of(subject: string): Promise<Capture> {
    return this.#bySubject.get(subject, () => this.#lookUp(subject));
  }

  /** The next event on the subject asks again. */
  forget(subject: string): void {
    this.#bySubject.forget(subject);
  }

  /** A worker may have had subjects captured. */
  forgetAll(): void {
    this.#bySubject.clear();
  }

  async #lookUp(subject: string): Promise<Capture> {
    const streams = await this.#streamsOf(subject);
    // Its account imports the subject from one that may have a stream: the acknowledgement tells.
    if (streams === undefined) return { ...unknownCapture(''), stream: undefined };
    const captures = await Promise.all(
      streams.map(async (name) =>
        this.#byStream.get(name, () => this.#look(name)).catch(() => unknownCapture(name)),
      ),
    );
    return captures.find(({ acknowledged }) => acknowledged) ?? UNCAPTURED;
  }

  /** Undefined in an account without JetStream. */
  async #streamsOf(subject: string): Promise<readonly string[] | undefined> {
    let answer: Uint8Array;
    try {
      answer = await this.#ask(STREAM_NAMES, JSON.stringify({ subject }));
    } catch (error) {
      // Nobody listens there: a server without JetStream, so that nothing is ever stored.
      if (this.#bus.up && (error as MillraceError).details === NO_RESPONDERS) return [];
      throw error;
    }
    const names = readControl(namesSchema, answer);
    if (names?.error?.err_code === NOT_ENABLED) return undefined;
    if (names === undefined || names.error !== undefined) {
      const why = names?.error?.description ?? 'its answer was not understood';
      throw new MillraceError('UNAVAILABLE', `JetStream cannot say who stores ${subject}: ${why}.`);
    }
    return names.streams ?? [];
  }

  /** Throws where the connection is down. */
  async #look(stream: string): Promise<Capture> {
    try {
      const info = readControl(infoSchema, await this.#ask(`${STREAM_INFO}${stream}`, ''));
      const { no_ack = false, duplicate_window = 0, metadata = {} } = info?.config ?? {};
      if (no_ack) return UNCAPTURED;
      return {
        acknowledged: true,
        stream,
        rememberedMs: duplicate_window / NS_PER_MS,
        remembersSinceMs: Date.parse(metadata[RESTORED_METADATA] ?? '') || 0,
      };
    } catch (error) {
      // Remembered, since it may be for want of permission: asking costs the whole wait then.
      if (['TIMEOUT', 'FORBIDDEN'].includes((error as MillraceError).code))
        return unknownCapture(stream);
      throw error;
    }
  }

  async #ask(subject: string, question: string): Promise<Uint8Array> {
    return (await this.#bus.request(subject, Buffer.from(question), LOOKUP_TIMEOUT_MS)).data;
  }
}

/**
 * A stream that cannot be asked counts as one that acknowledges: then an event fails for want of its acknowledgement,
 * and does not pass for stored.
 */
function unknownCapture(stream: string): Capture {
  return { acknowledged: true, stream, rememberedMs: 0, remembersSinceMs: 0 };
}

/** Answers by key, each believed for `cacheMs`; at most CACHE_ENTRIES of them. */
class Answers<Value> {
  readonly #cacheMs: number;
  readonly #known = new Map<string, { until: number; answer: Promise<Value> }>();

  constructor(cacheMs: number) {
    this.#cacheMs = cacheMs;
  }

  get(key: string, ask: () => Promise<Value>): Promise<Value> {
    const now = performance.now();
    const known = this.#known.get(key);
    if (known !== undefined && known.until > now) return known.answer;
    if (this.#known.size >= CACHE_ENTRIES) this.#known.clear();
    const answer = ask();
    this.#known.set(key, { until: now + this.#cacheMs, answer });
    // What could not be learnt is asked again by the next.
    answer.catch(() => this.#known.delete(key));
    return answer;
  }

  forget(key: string): void {
    this.#known.delete(key);
  }

  clear(): void {
    this.#known.clear();
  }
}
