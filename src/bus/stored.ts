/**
 * Whether a stream has an event already, though it may have forgotten the event's id: looked for on the event's subject,
 * by the time since when it can be there. For what is rare: headers of all events of that time are read. Those who look on
 * the same subject at the same time share one reading.
 */
import type { Msg } from 'nats';
import type { Bus } from './connection.ts';
import { eventIdOf } from './event-id.ts';
import type { JetStreamApi } from './jetstream-api.ts';
import type { PreparedEvent } from './publisher.ts';
import { StreamReader } from './stream-reader.ts';

/** The broker's clock, which says when it has stored something, may be behind by less. */
const CLOCK_MARGIN_MS = 60_000;
/** Subjects that are read at the same time: takeovers ask JetStream, too. */
const MAX_READINGS = 16;
/** Ends a reading. */
const ALL_FOUND = new Error('all are found');

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
      const asked = this.#asked.get(key) ?? [];
      asked.push({ id, sinceMs, resolve, reject });
      this.#asked.set(key, asked);
      this.#readNext();
    });
  }

  /** A takeover may have a thousand events on as many subjects. */
  #readNext(): void {
    for (const [key, asked] of this.#asked) {
      if (this.#reading.size >= MAX_READINGS) return;
      if (this.#reading.has(key)) continue;
      this.#asked.delete(key);
      this.#reading.add(key);
      void this.#answer(key, asked).then(() => {
        this.#reading.delete(key);
        this.#readNext();
      });
    }
  }

  async #answer(key: string, asked: readonly Asked[]): Promise<void> {
    const [stream = '', subject = ''] = key.split(' ');
    const sinceMs = Math.min(...asked.map((each) => each.sinceMs)) - CLOCK_MARGIN_MS;
    const wanted = new Set(asked.map(({ id }) => id));
    try {
      const found = await this.#find(stream, subject, new Date(sinceMs), wanted);
      for (const { id, resolve } of asked) resolve(found.get(id));
    } catch (error) {
      for (const { reject } of asked) reject(error as Error);
    }
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
      const id = eventIdOf(headers);
      if (wanted.has(id)) found.set(id, sequence);
      if (found.size === wanted.size) throw ALL_FOUND;
    };
    const options = { since, headersOnly: true };
    await this.#reader
      .read(stream, subject, 1, last.sequence, note, options)
      .catch((error: unknown) => {
        if (error !== ALL_FOUND) throw error;
      });
    return found;
  }
}
