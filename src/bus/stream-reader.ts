/**
 * Reads a range of one subject of a stream, in order and without a gap.
 *
 * A pull consumer: it is twice as fast as a push consumer with flow control and a hundred times as fast as asking for
 * messages one by one. Deliveries are numbered, so one that is missing is noticed; a consumer that is lost or falls silent is made anew
 * behind what has been read. On a replicated stream it may live on a follower that lags, so its word that nothing is left
 * is not taken: the leader is asked.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { nuid, type Msg } from 'nats';
import { z } from 'zod';
import { MillraceError, messageOf } from '../core/errors.ts';
import type { Bus } from './connection.ts';
import { apiSchema, type JetStreamApi } from './jetstream-api.ts';
import { writeControl } from './messages.ts';

/**
 * So many messages are asked for ahead. Not so many bytes: a pull whose bytes are used up to the last one ends without a
 * word (nats-server 2.14).
 */
const WINDOW_MESSAGES = 64;
const PULL_EXPIRES_NS = 30_000_000_000;
/** Silence after which the consumer is made anew. */
const IDLE_MS = 2_000;
/** How long it goes on without a single message. */
const STALL_MS = 15_000;
const RETRY_MS = 100;
/** One that was forgotten ends by itself. */
const CONSUMER_IDLE_NS = 10_000_000_000;

const consumerSchema = apiSchema.extend({
  name: z.string().optional(),
  num_pending: z.number().optional(),
});

type OnMessage = (sequence: number, bytes: Uint8Array, message: Msg) => void;

export interface ReadOptions {
  /** Nothing that was stored before; something later must be there. */
  since?: Date;
  /** Without payloads. */
  headersOnly?: boolean;
  /** The message `to` is one of those that are read: only when it has come is all read, whatever a server that lags may say. */
  reach?: boolean;
}

interface Range extends ReadOptions {
  stream: string;
  subject: string | readonly string[];
  /** What is to be read next. */
  next: number;
  to: number;
  onMessage: OnMessage;
}

/** `empty`: the consumer says that nothing is left. */
type PullEnd = 'done' | 'lost' | 'empty' | { failure: unknown };

export class StreamReader {
  readonly #bus: Bus;
  readonly #api: JetStreamApi;
  readonly #window: number;

  constructor(bus: Bus, api: JetStreamApi, windowMessages = WINDOW_MESSAGES) {
    this.#bus = bus;
    this.#api = api;
    this.#window = windowMessages;
  }

  /**
   * Calls `onMessage` for everything on the subject from `from` to `to` that is still there. Rejects with what
   * `onMessage` throws; with UNAVAILABLE after 15 s without a message.
   */
  async read(
    stream: string,
    subject: string | readonly string[],
    from: number,
    to: number,
    onMessage: OnMessage,
    options: ReadOptions = {},
  ): Promise<void> {
    const range: Range = { stream, subject, next: from, to, onMessage, ...options };
    let stalledSinceMs = performance.now();
    let why = 'no message came';
    while (range.next <= to) {
      const before = range.next;
      try {
        const end = await this.#readOn(range);
        if (typeof end === 'object') throw new ReadFailure(end.failure);
        if (end === 'empty' && (await this.#isEmpty(range))) return;
      } catch (error) {
        if (error instanceof ReadFailure) throw error.reason;
        why = messageOf(error);
      }
      if (range.next > before) {
        stalledSinceMs = performance.now();
        continue;
      }
      if (performance.now() - stalledSinceMs >= STALL_MS) {
        const what = typeof subject === 'string' ? subject : stream;
        throw new MillraceError('UNAVAILABLE', `${what} could not be read: ${why}.`);
      }
      await delay(RETRY_MS);
    }
  }

  /** The leader's word for it. */
  async #isEmpty({ stream, subject, next, to, since, reach = false }: Range): Promise<boolean> {
    if (reach || typeof subject !== 'string') return false;
    // Of what is there, some is to be read: unless the last one has been removed meanwhile.
    const found = await this.#api.next(stream, subject, since === undefined ? next : to);
    return found === undefined || found.sequence > to;
  }

  async #readOn(range: Range): Promise<PullEnd> {
    const { stream, subject, next, since, headersOnly = false } = range;
    const { name, num_pending, error } = await this.#api.ask(
      `CONSUMER.CREATE.${stream}`,
      {
        stream_name: stream,
        config: {
          ...(since === undefined
            ? { deliver_policy: 'by_start_sequence', opt_start_seq: next }
            : { deliver_policy: 'by_start_time', opt_start_time: since.toISOString() }),
          headers_only: headersOnly,
          ack_policy: 'none',
          ...(typeof subject === 'string'
            ? { filter_subject: subject }
            : { filter_subjects: subject }),
          mem_storage: true,
          num_replicas: 1,
          inactive_threshold: CONSUMER_IDLE_NS,
        },
      },
      consumerSchema,
    );
    if (name === undefined) {
      throw new MillraceError('UNAVAILABLE', error?.description ?? 'no consumer was made');
    }
    const end = num_pending === 0 ? 'empty' : await this.#pull(range, name);
    // Not waited for: one that is forgotten ends by itself.
    void this.#api.ask(`CONSUMER.DELETE.${stream}.${name}`, {}, apiSchema).catch(() => {});
    return end;
  }

  #pull(range: Range, consumer: string): Promise<PullEnd> {
    return new Promise((resolve) => {
      const inbox = `${this.#bus.inbox}.r.${nuid.next()}`;
      let expected = 1;
      let asked = 0;
      let ended = false;
      const end = (how: PullEnd): void => {
        ended = true;
        clearTimeout(idle);
        messages.unsubscribe();
        resolve(how);
      };
      const idle = setTimeout(() => end('lost'), IDLE_MS);
      const ask = (): void => {
        const batch = this.#window - asked;
        asked = this.#window;
        const request = writeControl({ batch, expires: PULL_EXPIRES_NS });
        const subject = `$JS.API.CONSUMER.MSG.NEXT.${range.stream}.${consumer}`;
        try {
          this.#bus.publish(subject, request, { reply: inbox });
        } catch {
          end('lost');
        }
      };
      const messages = this.#bus.subscribe(inbox, (message) => {
        if (ended) return;
        idle.refresh();
        const place = deliveredAs(message.reply);
        // The broker's word that the consumer is gone, or one is missing: it is read again from there.
        if (place?.consumerSequence !== expected) {
          end('lost');
          return;
        }
        expected += 1;
        asked -= 1;
        if (place.sequence <= range.to) {
          try {
            range.onMessage(place.sequence, message.data, message);
          } catch (failure) {
            end({ failure });
            return;
          }
        }
        range.next = place.sequence + 1;
        delete range.since;
        if (range.next > range.to) end('done');
        else if (place.pending === 0) end('empty');
        else if (asked <= this.#window / 2) ask();
      });
      ask();
    });
  }
}

/** What `onMessage` threw: not to be tried again. */
class ReadFailure extends Error {
  readonly reason: unknown;

  constructor(reason: unknown) {
    super('not read');
    this.reason = reason;
  }
}

/** From the reply subject of a delivery; undefined for a status. */
export function deliveredAs(
  reply: string | undefined,
): { sequence: number; consumerSequence: number; time: Date; pending: number } | undefined {
  const tokens = (reply ?? '').split('.');
  if (tokens[0] !== '$JS' || tokens[1] !== 'ACK') return undefined;
  // With a domain and an account's hash before the stream's name, and then a token more at the end.
  const at = tokens.length >= 11 ? 7 : 5;
  return {
    sequence: Number(tokens[at]),
    consumerSequence: Number(tokens[at + 1]),
    // Nanoseconds.
    time: new Date(Number((tokens[at + 2] ?? '0').slice(0, -6))),
    pending: Number(tokens[at + 3]),
  };
}
