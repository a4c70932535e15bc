/** Reads a range of one subject of a stream, in order and without a gap. */
import { z } from 'zod';
import type { Bus } from './connection.ts';
import { apiErrorSchema, apiSchema, type JetStreamApi } from './jetstream-api.ts';
import { writeControl } from './messages.ts';

/** Messages that one pull asks for. */
const READ_BATCH = 2_000;
/** Silence after which the consumer is made anew. */
const READ_IDLE_MS = 2_000;
const READ_MAX_MS = 60_000;
const CONSUMER_IDLE_NS = 10_000_000_000;

const consumerSchema = z.object({
  name: z.string().optional(),
  error: apiErrorSchema.optional(),
});

export class StreamReader {
  readonly #bus: Bus;
  readonly #api: JetStreamApi;
  #nextToken = 1;

  constructor(bus: Bus, api: JetStreamApi) {
    this.#bus = bus;
    this.#api = api;
  }

  /** Everything on the subject from `from` to `to`, in order; a consumer that falls silent is made anew. */
  async read(
    stream: string,
    subject: string,
    from: number,
    to: number,
    onMessage: (sequence: number, bytes: Uint8Array) => void,
  ): Promise<void> {
    const until = performance.now() + READ_MAX_MS;
    for (let next = from; next <= to;) {
      if (performance.now() >= until) throw new Error('the log could not be read in time');
      const consumer = await this.#consumer(stream, subject, next);
      next = await this.#pull(stream, consumer, next, to, onMessage);
      // Not waited for: one that is forgotten ends by itself.
      void this.#api.ask(`CONSUMER.DELETE.${stream}.${consumer}`, {}, apiSchema).catch(() => {});
    }
  }

  async #consumer(stream: string, subject: string, from: number): Promise<string> {
    const { name, error } = await this.#api.ask(
      `CONSUMER.CREATE.${stream}`,
      {
        stream_name: stream,
        config: {
          deliver_policy: 'by_start_sequence',
          opt_start_seq: from,
          ack_policy: 'none',
          filter_subject: subject,
          mem_storage: true,
          num_replicas: 1,
          inactive_threshold: CONSUMER_IDLE_NS,
        },
      },
      consumerSchema,
    );
    if (name === undefined) throw new Error(error?.description ?? 'no consumer');
    return name;
  }

  /** Resolves with the sequence that is to be read next. */
  #pull(
    stream: string,
    consumer: string,
    from: number,
    to: number,
    onMessage: (sequence: number, bytes: Uint8Array) => void,
  ): Promise<number> {
    return new Promise((resolve, reject) => {
      let next = from;
      let expected = 1;
      let asked = 0;
      const inbox = `${this.#bus.inbox}.r.${this.#nextToken}`;
      this.#nextToken += 1;
      const end = (error?: Error): void => {
        clearTimeout(idle);
        messages.unsubscribe();
        if (error === undefined) resolve(next);
        else reject(error);
      };
      const idle = setTimeout(() => end(), READ_IDLE_MS);
      const ask = (): void => {
        asked += READ_BATCH;
        const request = { batch: READ_BATCH, expires: READ_IDLE_MS * 1_000_000 };
        this.#bus.publish(
          `$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer}`,
          writeControl(request),
          { reply: inbox },
        );
      };
      const messages = this.#bus.subscribe(inbox, (message) => {
        const place = placeOf(message.reply);
        if (place === undefined) return;
        idle.refresh();
        // A message that is missing: from there on it is read again.
        if (place.consumerSequence !== expected) {
          end();
          return;
        }
        expected += 1;
        if (place.sequence > to) next = to + 1;
        else {
          try {
            onMessage(place.sequence, message.data);
          } catch (error) {
            end(error as Error);
            return;
          }
          next = place.sequence + 1;
        }
        if (place.pending === 0) next = to + 1;
        if (next > to) end();
        else if (expected > asked - READ_BATCH / 2) ask();
      });
      ask();
    });
  }
}

/** From the reply subject of a delivery; undefined for a status. */
function placeOf(
  reply: string | undefined,
): { sequence: number; consumerSequence: number; pending: number } | undefined {
  const tokens = (reply ?? '').split('.');
  if (tokens[0] !== '$JS' || tokens[1] !== 'ACK') return undefined;
  // With a domain and an account's hash before the stream's name, and then a token more at the end.
  const at = tokens.length >= 11 ? 7 : 5;
  return {
    sequence: Number(tokens[at]),
    consumerSequence: Number(tokens[at + 1]),
    pending: Number(tokens[at + 3]),
  };
}
