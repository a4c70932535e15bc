/**
 * Stores messages in the streams of logs and snapshots, over one wildcard inbox for all partitions: neither
 * `js.publish` nor `nc.request`, which build an Error with a stack for every message.
 *
 * L1 An append carries `Nats-Expected-Last-Subject-Sequence` on its literal subject; one is under way at a time.
 * L2 Only JetStream's own acknowledgement counts: our stream, no error (a refusal has a `seq`, too: 0), a sequence behind
 *    the expected one, no `duplicate`.
 * L3 An append without such an answer is unknown, and read back from the leader. It is ours byte for byte, or something
 *    else stands there, or nothing: only then it is sent again, with the same fence, so that at most one of its copies
 *    lands. A copy that is refused after that may have met the first one, so it is read back as well.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { headers as newHeaders, nuid, type Msg, type Subscription } from 'nats';
import { z } from 'zod';
import { MillraceError, messageOf } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import type { Bus } from './connection.ts';
import { apiErrorSchema, type JetStreamApi } from './jetstream-api.ts';
import { readControl } from './messages.ts';
import { isNoResponders } from './status.ts';

/** JetStream's error codes. */
const WRONG_LAST_SEQUENCE = 10071;
const IN_FLIGHT_ELSEWHERE = 10164;
/** No space, on the server or for the account: said before anything is stored. */
const NO_SPACE = new Set([10002, 10023, 10047]);

const EXPECTED_SEQUENCE = 'Nats-Expected-Last-Subject-Sequence';
const NO_SPACE_LEFT = 'the NATS server has no space left';
const RETRY_MIN_MS = 20;
const RETRY_MAX_MS = 500;
/** How long an append is tried and looked for: longer than a stream is away when its leader was killed (8 s). */
const APPEND_GIVE_UP_MS = 12_000;
/** Room for headers in a message: the fence and its protocol lines. */
export const HEADER_BYTES = 1_024;

/**
 * - `refused`: something else follows the expected append. Ownership is over.
 * - `not-stored`: the append never left this process, or the broker said each time that another one was under way, or that it has
 *   no space.
 * - `unknown`: it may be in the log, or may still come to be.
 */
export type AppendOutcome = 'refused' | 'not-stored' | 'unknown';

export class AppendError extends MillraceError {
  readonly outcome: AppendOutcome;

  constructor(outcome: AppendOutcome, message: string) {
    super('UNAVAILABLE', message, { retryable: outcome !== 'refused', details: { outcome } });
    this.outcome = outcome;
  }
}

const answerSchema = z.object({
  stream: z.string().optional(),
  seq: z.number().int().optional(),
  duplicate: z.boolean().optional(),
  error: apiErrorSchema.optional(),
});

type Answer =
  | { kind: 'stored'; sequence: number }
  | { kind: 'refused' }
  | { kind: 'in-flight' }
  | { kind: 'no-space' }
  /** The connection was down: nothing has left. */
  | { kind: 'unsent' }
  | { kind: 'unknown'; why: string };

interface Unanswered {
  stream: string;
  expected: number;
  deadlineMs: number;
  resolve: (answer: Answer) => void;
}

export interface LogCounts {
  appends: number;
  bytes: number;
}

export class LogWriter {
  /** Acknowledged, snapshots left out. */
  readonly counts: LogCounts = { appends: 0, bytes: 0 };
  /** The highest sequence of an append that is known to be stored. */
  acknowledged = 0;
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #api: JetStreamApi;
  /** Its own, so that two writers on one connection never take each other's answers. */
  readonly #inbox: string;
  readonly #answers: Subscription;
  readonly #stopListening: () => void;
  readonly #unanswered = new Map<number, Unanswered>();
  #nextToken = 1;
  #sweep: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(bus: Bus, settings: Settings, api: JetStreamApi) {
    this.#bus = bus;
    this.#settings = settings;
    this.#api = api;
    this.#inbox = `${bus.inbox}.l.${nuid.next()}`;
    this.#answers = bus.subscribe(`${this.#inbox}.*`, (message) => this.#onAnswer(message));
    this.#stopListening = bus.onStatus((up) => {
      // What was sent before may have arrived, its answer never will.
      if (!up) this.#giveUp('the connection was lost');
    });
  }

  /** Appends that are not settled and wait for the broker's answer. */
  get inFlight(): number {
    return this.#unanswered.size;
  }

  /**
   * Resolves with the sequence. `expected` is the sequence of the append before on this subject, 0 for none. Throws
   * AppendError, and PAYLOAD_TOO_LARGE for what the broker would not take.
   */
  async append(
    stream: string,
    subject: string,
    bytes: Uint8Array,
    expected: number,
  ): Promise<number> {
    this.#assertFits(bytes);
    const giveUpAtMs = performance.now() + APPEND_GIVE_UP_MS;
    let doubt: string | undefined;
    let why = 'the connection is down';
    for (let waitMs = RETRY_MIN_MS; ; waitMs = Math.min(RETRY_MAX_MS, waitMs * 2)) {
      const answer = await this.#publish(stream, subject, bytes, expected);
      if (answer.kind === 'stored') {
        this.counts.appends += 1;
        this.counts.bytes += bytes.length;
        this.acknowledged = Math.max(this.acknowledged, answer.sequence);
        return answer.sequence;
      }
      if (answer.kind === 'refused' && doubt === undefined) throw refused(subject);
      if (answer.kind === 'in-flight') why = 'others were writing to it all the time';
      if (answer.kind === 'no-space') why = NO_SPACE_LEFT;
      if (answer.kind === 'unknown') doubt = answer.why;
      if (answer.kind === 'unknown' || answer.kind === 'refused') {
        const sequence = await this.#readBack(stream, subject, bytes, expected, giveUpAtMs);
        if (sequence !== undefined) return sequence;
      }
      if (this.#closed || performance.now() >= giveUpAtMs) {
        throw doubt === undefined ? notStored(subject, why) : unknown(subject, doubt);
      }
      await delay(waitMs * (0.5 + Math.random() / 2));
    }
  }

  /** Without a fence and tried once. Resolves with the sequence; throws AppendError or PAYLOAD_TOO_LARGE. */
  async store(stream: string, subject: string, bytes: Uint8Array): Promise<number> {
    this.#assertFits(bytes);
    const answer = await this.#publish(stream, subject, bytes, undefined);
    if (answer.kind === 'stored') return answer.sequence;
    if (answer.kind === 'unknown') throw unknown(subject, answer.why);
    const full = answer.kind === 'no-space';
    throw notStored(subject, full ? NO_SPACE_LEFT : 'the connection is down');
  }

  close(): void {
    this.#closed = true;
    this.#stopListening();
    this.#answers.unsubscribe();
    this.#giveUp('the log is closed');
  }

  #assertFits(bytes: Uint8Array): void {
    const limitBytes = this.#bus.maxMessageBytes - HEADER_BYTES;
    if (bytes.length <= limitBytes) return;
    const message = `A message of ${bytes.length} bytes cannot be stored, the broker takes ${limitBytes}.`;
    throw new MillraceError('PAYLOAD_TOO_LARGE', message, { details: { limitBytes } });
  }

  #publish(
    stream: string,
    subject: string,
    bytes: Uint8Array,
    expected: number | undefined,
  ): Promise<Answer> {
    return new Promise((resolve) => {
      if (!this.#bus.up || this.#closed) {
        resolve({ kind: 'unsent' });
        return;
      }
      const token = this.#nextToken;
      this.#nextToken += 1;
      const deadlineMs = performance.now() + this.#settings.appendTimeoutMs;
      this.#unanswered.set(token, { stream, expected: expected ?? 0, deadlineMs, resolve });
      this.#sweep ??= setInterval(() => this.#onSweep(), this.#settings.sweepIntervalMs);
      const reply = `${this.#inbox}.${token}`;
      try {
        if (expected === undefined) {
          this.#bus.publish(subject, bytes, { reply });
        } else {
          const headers = newHeaders();
          headers.set(EXPECTED_SEQUENCE, String(expected));
          this.#bus.publish(subject, bytes, { reply, headers });
        }
      } catch (error) {
        this.#settle(token, { kind: 'unknown', why: messageOf(error) });
      }
    });
  }

  /** L3. The sequence of this very append; undefined when nothing follows `expected`. Throws AppendError. */
  async #readBack(
    stream: string,
    subject: string,
    bytes: Uint8Array,
    expected: number,
    giveUpAtMs: number,
  ): Promise<number | undefined> {
    for (let waitMs = RETRY_MIN_MS; ; waitMs = Math.min(RETRY_MAX_MS, waitMs * 2)) {
      try {
        // The first one that follows, not the last: a new owner may have written behind ours already.
        const timeoutMs = this.#settings.appendTimeoutMs;
        const next = await this.#api.next(stream, subject, expected + 1, timeoutMs);
        if (next === undefined) return undefined;
        if (Buffer.compare(next.bytes, bytes) === 0) return next.sequence;
        throw refused(subject);
      } catch (error) {
        if (error instanceof AppendError) throw error;
        if (this.#closed || performance.now() >= giveUpAtMs) {
          throw unknown(subject, messageOf(error));
        }
      }
      await delay(waitMs * (0.5 + Math.random() / 2));
    }
  }

  #onAnswer(message: Msg): void {
    const token = Number(message.subject.slice(message.subject.lastIndexOf('.') + 1));
    const unanswered = this.#unanswered.get(token);
    if (unanswered === undefined) return;
    if (isNoResponders(message)) {
      this.#settle(token, { kind: 'unknown', why: 'no stream answers there' });
      return;
    }
    const answer = readAnswer(message, unanswered);
    if (answer !== undefined) this.#settle(token, answer);
  }

  #settle(token: number, answer: Answer): void {
    const unanswered = this.#unanswered.get(token);
    this.#unanswered.delete(token);
    if (this.#unanswered.size === 0) {
      clearInterval(this.#sweep);
      this.#sweep = undefined;
    }
    unanswered?.resolve(answer);
  }

  #onSweep(): void {
    const now = performance.now();
    for (const [token, { deadlineMs }] of this.#unanswered) {
      if (now < deadlineMs) continue;
      const why = `no answer within ${this.#settings.appendTimeoutMs} ms`;
      this.#settle(token, { kind: 'unknown', why });
    }
  }

  #giveUp(why: string): void {
    for (const token of this.#unanswered.keys()) this.#settle(token, { kind: 'unknown', why });
  }
}

/** L2. Undefined for what is not JetStream's word: another subscriber's, by mistake. */
function readAnswer(message: Msg, { stream, expected }: Unanswered): Answer | undefined {
  const answer = readControl(answerSchema, message.data);
  if (answer === undefined) return undefined;
  const { error, seq: sequence, duplicate = false } = answer;
  if (error !== undefined) {
    if (error.err_code === WRONG_LAST_SEQUENCE) return { kind: 'refused' };
    if (error.err_code === IN_FLIGHT_ELSEWHERE) return { kind: 'in-flight' };
    if (NO_SPACE.has(error.err_code ?? 0)) return { kind: 'no-space' };
    return { kind: 'unknown', why: error.description ?? `error ${error.err_code}` };
  }
  if (answer.stream === undefined || sequence === undefined) return undefined;
  if (answer.stream !== stream || duplicate || sequence <= expected) {
    return { kind: 'unknown', why: 'the acknowledgement is of another message' };
  }
  return { kind: 'stored', sequence };
}

function refused(subject: string): AppendError {
  return new AppendError('refused', `Another owner has written to ${subject}.`);
}

function notStored(subject: string, why: string): AppendError {
  return new AppendError('not-stored', `Nothing was written to ${subject}: ${why}.`);
}

function unknown(subject: string, why: string): AppendError {
  return new AppendError('unknown', `Whether ${subject} was written to is not known: ${why}.`);
}
