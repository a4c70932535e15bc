/** Durable events that were given up: to be looked at, handled again, or dropped. */
import { headers as newHeaders } from 'nats';
import type { Bus } from '../bus/connection.ts';
import { JetStreamApi, type StoredMessage } from '../bus/jetstream-api.ts';
import { Publisher } from '../bus/publisher.ts';
import { DEAD_HEADER, readDeadLetter, type DeadLetter } from '../core/delivery/dead-letter.ts';
import { MillraceError } from '../core/errors.ts';
import { assertFunctionName, LATER_FUNCTION } from '../core/names.ts';
import { CONTENT_TYPE_HEADER, contentTypeOf, decodePayload } from '../core/payload.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';

/** A dead letter: what is known of the event, and the number by which it is named here. */
export interface DeadEvent extends DeadLetter {
  number: number;
  /** When it was given up, ISO 8601. */
  givenUpAt: string;
  /** The payload; bytes where it is neither JSON nor MessagePack, or cannot be read. */
  data: unknown;
}

export interface DeadFilter {
  /** Only of this function. */
  function?: string;
  /** Only those whose last error has this code, or this text in its message. */
  error?: string;
  /** Only those that were given up then or later. */
  since?: Date;
  /** At most so many, the oldest first; default 100. */
  limit?: number;
}

const DEFAULT_LIMIT = 100;

export class DeadLetters {
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #api: JetStreamApi;
  readonly #subjects: Subjects;
  readonly #stream: string;

  constructor(bus: Bus, settings: Settings) {
    this.#bus = bus;
    this.#settings = settings;
    this.#api = new JetStreamApi(bus);
    this.#subjects = subjectsOf(settings.namespace);
    this.#stream = `${settings.namespace}-dead`;
  }

  /** Rejects with UNAVAILABLE or TIMEOUT. */
  async list(filter: DeadFilter = {}): Promise<DeadEvent[]> {
    const { function: name, error, since, limit = DEFAULT_LIMIT } = filter;
    if (name !== undefined && name !== LATER_FUNCTION) assertFunctionName(name, 'INVALID_INPUT');
    const subject = this.#subjects.dead(name ?? '*');
    const found: DeadEvent[] = [];
    for (let next = 1; found.length < limit;) {
      const stored = await this.#api.next(this.#stream, subject, next);
      if (stored === undefined) break;
      next = stored.sequence + 1;
      const event = this.#read(stored);
      if (event === undefined || (since !== undefined && new Date(event.givenUpAt) < since))
        continue;
      if (error === undefined || saysSo(event, error)) found.push(event);
    }
    return found;
  }

  /** Rejects with NOT_FOUND. */
  async get(number: number): Promise<DeadEvent> {
    const event = this.#read(await this.#at(number));
    if (event === undefined) throw notFound(number);
    return event;
  }

  /**
   * Has the function handle the event again, as if it were new. Repeated within two minutes it is the same
   * request. Rejects with NOT_FOUND for a number that there is not, or when neither the dead letter nor its stream has the payload any more.
   */
  async replay(number: number): Promise<void> {
    const stored = await this.#at(number);
    const letter = letterOf(stored);
    if (letter === undefined) throw notFound(number);
    const headers = newHeaders();
    const id = `replay-${number}`;
    headers.set('Nats-Msg-Id', id);
    headers.set(DEAD_HEADER, JSON.stringify({ ...letter, failures: [] }));
    const type = letter.headers[CONTENT_TYPE_HEADER];
    if (type !== undefined) headers.set(CONTENT_TYPE_HEADER, type);
    const payload = letter.withoutPayload === true ? await this.#payloadOf(letter) : stored.bytes;
    const publisher = new Publisher(this.#bus, this.#settings);
    try {
      await publisher.send({
        id,
        subject: this.#subjects.replay(letter.function),
        payload,
        headers,
      });
    } finally {
      publisher.close();
    }
    await this.#api.remove(this.#stream, number);
  }

  /** It is gone for good. Rejects with NOT_FOUND. */
  async drop(number: number): Promise<void> {
    await this.#at(number);
    await this.#api.remove(this.#stream, number);
  }

  async #at(number: number): Promise<StoredMessage> {
    const stored = await this.#api.at(this.#stream, number);
    const prefix = this.#subjects.dead('');
    if (stored?.subject.startsWith(prefix) === true) return stored;
    throw notFound(number);
  }

  async #payloadOf({ stream, sequence }: DeadLetter): Promise<Uint8Array> {
    const stored = await this.#api.at(stream, sequence);
    if (stored !== undefined) return stored.bytes;
    throw new MillraceError('NOT_FOUND', `The stream ${stream} has the event ${sequence} no more.`);
  }

  #read(stored: StoredMessage): DeadEvent | undefined {
    const letter = letterOf(stored);
    if (letter === undefined) return undefined;
    let data: unknown = stored.bytes;
    try {
      const type = contentTypeOf(letter.headers[CONTENT_TYPE_HEADER]);
      data = decodePayload(type, stored.bytes, this.#settings);
    } catch {
      // It may be dead just because of that.
    }
    return { ...letter, number: stored.sequence, givenUpAt: stored.time, data };
  }
}

function saysSo({ failures }: DeadLetter, error: string): boolean {
  const last = failures.at(-1);
  return last?.code === error || (last?.message.includes(error) ?? false);
}

function notFound(number: number): MillraceError {
  return new MillraceError('NOT_FOUND', `There is no dead letter ${number}.`);
}

function letterOf({ headers = '' }: StoredMessage): DeadLetter | undefined {
  const prefix = `${DEAD_HEADER}: `;
  const line = headers.split('\r\n').find((each) => each.startsWith(prefix));
  return line === undefined ? undefined : readDeadLetter(line.slice(prefix.length));
}
