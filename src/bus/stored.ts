/**
 * Whether a stream has an event already, though it may have forgotten the event's id: looked for on the event's subject,
 * by the time since when it can be there. For what is rare: headers of all events of that time are read. Those who look on
 * the same subject at the same time share one reading.
 */
import type { Msg } from 'nats';
import type { Bus } from './connection.ts';
import type { JetStreamApi } from './jetstream-api.ts';
import type { PreparedEvent } from './publisher.ts';
import { StreamReader } from './stream-reader.ts';

const ID_HEADER = 'Nats-Msg-Id';
/** The broker's clock, which says when it has stored something, may be behind by less. */
const CLOCK_MARGIN_MS = 60_000;

interface Asked {
  id: string;
  sinceMs: number;
  resolve: (sequence: number | undefined) => void;
  reject: (error: Error) => void;
}

export class Stored {
  readonly #api: JetStreamApi;
  readonly #reader: StreamReader;
  /** By stream and subject: those who wait for the next reading. */
  readonly #asked = new Map<string, Asked[]>();
  readonly #reading = new Set<string>();

  constructor(bus: Bus, api: JetStreamApi) {
    this.#api = api;
    this.#reader = new StreamReader(bus, api);
  }

  /** The event's sequence, undefined where the stream does not have it. Throws UNAVAILABLE or TIMEOUT. */
  find(
    stream: string,
    { id, subject }: Pick<PreparedEvent, 'id' | 'subject'>,
    sinceMs: number,
  ): Promise<number | undefined> {
    return new Promise((resolve, reject) => {
      const key = `${stream} ${subject}`;
      this.#asked.set(key, [...(this.#asked.get(key) ?? []), { id, sinceMs, resolve, reject }]);
      if (!this.#reading.has(key)) void this.#read(key, stream, subject);
    });
  }

  async #read(key: string, stream: string, subject: string): Promise<void> {
    this.#reading.add(key);
    for (let asked = this.#take(key); asked !== undefined; asked = this.#take(key)) {
      const sinceMs = Math.min(...asked.map((each) => each.sinceMs)) - CLOCK_MARGIN_MS;
      const wanted = new Set(asked.map(({ id }) => id));
      try {
        const found = await this.#find(stream, subject, new Date(sinceMs), wanted);
        for (const { id, resolve } of asked) resolve(found.get(id));
      } catch (error) {
        for (const { reject } of asked) reject(error as Error);
      }
    }
    this.#reading.delete(key);
  }

  #take(key: string): Asked[] | undefined {
    const asked = this.#asked.get(key);
    this.#asked.delete(key);
    return asked;
  }

  async #find(
    stream: string,
    subject: string,
    since: Date,
    wanted: ReadonlySet<string>,
  ): Promise<Map<string, number>> {
    const found = new Map<string, number>();
    const last = await this.#api.last(stream, subject);
    if (last === undefined || new Date(last.time) < since) return found;
    const note = (sequence: number, _bytes: Uint8Array, { headers }: Msg): void => {
      const id = headers?.get(ID_HEADER) ?? '';
      if (wanted.has(id)) found.set(id, sequence);
    };
    await this.#reader.read(stream, subject, 1, last.sequence, note, { since, headersOnly: true });
    return found;
  }
}
