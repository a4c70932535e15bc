/**
 * Publishes events. Where a stream captures the subject, a publish resolves when the stream has stored it; elsewhere
 * when the broker has taken it, which is all that core NATS promises.
 *
 * A stored publish that got no acknowledgement is unknown, not failed. It is sent again with the
 * same id after a reconnect, because the stream drops the duplicate; at its deadline it fails as TIMEOUT.
 */
import { headers as newHeaders, nuid, type Msg, type MsgHdrs } from 'nats';
import { MillraceError } from '../core/errors.ts';
import {
  CONTENT_TYPE_HEADER,
  contentTypeHeader,
  ContentType,
  encodePayload,
  type Encoded,
} from '../core/payload.ts';
import { publishSubjectReason } from '../core/names.ts';
import type { Settings } from '../core/settings.ts';
import type { Bus } from './connection.ts';
import { checkHeaders, checkId } from './invoke.ts';
import { isNoResponders } from './status.ts';

export interface PublishOptions {
  /** The event's id; a stream stores the same id once (within its duplicate window). Default: a new one. */
  id?: string;
  headers?: Readonly<Record<string, string>>;
}

export interface PublishReceipt {
  id: string;
  /** The stream that stored the event; absent where none captures its subject. */
  stream?: string;
  /** The event's place in the stream. */
  sequence?: number;
  /** The stream had this id already and stored nothing. */
  duplicate?: boolean;
}

/** An event that is ready to be sent. */
export interface PreparedEvent {
  id: string;
  subject: string;
  payload: Uint8Array;
  headers: MsgHdrs;
}

interface Unacknowledged extends PreparedEvent {
  deadlineMs: number;
  resolve: (receipt: PublishReceipt) => void;
  reject: (error: MillraceError) => void;
}

const CAPTURE_CACHE_MS = 2_000;
const CAPTURE_CACHE_ENTRIES = 1_024;
const CAPTURE_LOOKUP_TIMEOUT_MS = 2_000;

export class Publisher {
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #unacknowledged = new Map<number, Unacknowledged>();
  readonly #captured = new Map<string, { until: number; answer: Promise<boolean> }>();
  readonly #stopListening: () => void;
  #nextToken = 1;
  #flushing: Promise<void> | undefined;
  #sweep: NodeJS.Timeout | undefined;

  constructor(bus: Bus, settings: Settings) {
    this.#bus = bus;
    this.#settings = settings;
    bus.subscribe(`${bus.inbox}.a.*`, (message) => this.#onAcknowledged(message));
    this.#stopListening = bus.onStatus((up) => {
      if (up) for (const [token, event] of this.#unacknowledged) this.#post(token, event);
    });
  }

  /** Checks and encodes an event without sending it; throws INVALID_INPUT or PAYLOAD_TOO_LARGE. */
  prepare(subject: string, data: unknown, options: PublishOptions = {}): PreparedEvent {
    const reason = publishSubjectReason(subject);
    if (reason !== undefined) {
      throw new MillraceError('INVALID_INPUT', `The subject ${JSON.stringify(subject)} ${reason}.`);
    }
    const id = options.id ?? nuid.next();
    checkId(id);
    const encoded = encodePayload(data, ContentType.json, this.#settings);
    const headers = eventHeaders(id, encoded, options.headers);
    const payload = typeof encoded.body === 'string' ? Buffer.from(encoded.body) : encoded.body;
    return { id, subject, payload, headers };
  }

  /** Throws UNAVAILABLE or TIMEOUT; then the event may or may not have been taken. */
  async send(event: PreparedEvent): Promise<PublishReceipt> {
    if (await this.#isCaptured(event.subject)) return this.#store(event);
    this.#bus.publish(event.subject, event.payload, { headers: event.headers });
    await this.#flushed();
    return { id: event.id };
  }

  close(): void {
    this.#stopListening();
    clearInterval(this.#sweep);
    for (const event of this.#unacknowledged.values()) {
      event.reject(new MillraceError('UNAVAILABLE', 'This client is closed.'));
    }
    this.#unacknowledged.clear();
  }

  #store(prepared: PreparedEvent): Promise<PublishReceipt> {
    if (this.#unacknowledged.size >= this.#settings.maxCallsInFlight) {
      throw new MillraceError('UNAVAILABLE', 'Too many events wait for their acknowledgement.');
    }
    return new Promise((resolve, reject) => {
      const token = this.#nextToken;
      this.#nextToken += 1;
      const deadlineMs = performance.now() + this.#settings.callTimeoutMs;
      const event = { ...prepared, deadlineMs, resolve, reject };
      this.#unacknowledged.set(token, event);
      if (this.#bus.up) this.#post(token, event);
      this.#sweep ??= setInterval(() => this.#onSweep(), this.#settings.sweepIntervalMs);
    });
  }

  #post(token: number, event: Unacknowledged): void {
    const { subject, payload, headers } = event;
    this.#bus.publish(subject, payload, { headers, reply: `${this.#bus.inbox}.a.${token}` });
  }

  #onAcknowledged(message: Msg): void {
    const token = Number(message.subject.slice(message.subject.lastIndexOf('.') + 1));
    const event = this.#unacknowledged.get(token);
    if (event === undefined) return;
    this.#unacknowledged.delete(token);
    if (isNoResponders(message)) {
      // The stream is gone since the lookup: to the next publish its subject is not captured.
      this.#captured.delete(event.subject);
      event.reject(new MillraceError('UNAVAILABLE', `No stream stores ${event.subject} just now.`));
      return;
    }
    const ack = message.json<{
      stream?: string;
      seq?: number;
      duplicate?: boolean;
      error?: { description?: string };
    }>();
    if (ack.stream === undefined || ack.seq === undefined) {
      const why = ack.error?.description ?? 'its answer was not understood';
      event.reject(new MillraceError('UNAVAILABLE', `The event was not stored: ${why}.`));
      return;
    }
    const { stream, seq: sequence, duplicate = false } = ack;
    event.resolve({ id: event.id, stream, sequence, duplicate });
  }

  #onSweep(): void {
    const now = performance.now();
    for (const [token, event] of this.#unacknowledged) {
      if (now < event.deadlineMs) continue;
      this.#unacknowledged.delete(token);
      event.reject(
        new MillraceError(
          'TIMEOUT',
          `No acknowledgement for the event ${event.id} in time; publishing it again with this id is safe.`,
          { details: { outcome: 'unknown', id: event.id } },
        ),
      );
    }
    if (this.#unacknowledged.size > 0) return;
    clearInterval(this.#sweep);
    this.#sweep = undefined;
  }

  /** One round trip for all that was published in the same turn. */
  #flushed(): Promise<void> {
    this.#flushing ??= new Promise((resolve, reject) => {
      setImmediate(() => {
        this.#flushing = undefined;
        this.#bus.flush().then(resolve, reject);
      });
    });
    return this.#flushing;
  }

  #isCaptured(subject: string): Promise<boolean> {
    const now = performance.now();
    const known = this.#captured.get(subject);
    if (known !== undefined && known.until > now) return known.answer;
    if (this.#captured.size >= CAPTURE_CACHE_ENTRIES) this.#captured.clear();
    const answer = this.#lookUpCapture(subject);
    this.#captured.set(subject, { until: now + CAPTURE_CACHE_MS, answer });
    return answer;
  }

  async #lookUpCapture(subject: string): Promise<boolean> {
    try {
      const request = Buffer.from(JSON.stringify({ subject }));
      const message = await this.#bus.request(
        '$JS.API.STREAM.NAMES',
        request,
        CAPTURE_LOOKUP_TIMEOUT_MS,
      );
      return (message.json<{ streams?: string[] | null }>().streams ?? []).length > 0;
    } catch (error) {
      if (!this.#bus.up) throw error;
      // No JetStream, or no right to ask it: what is published here is core NATS.
      return false;
    }
  }
}

function eventHeaders(
  id: string,
  encoded: Encoded,
  given: Readonly<Record<string, string>> = {},
): MsgHdrs {
  checkHeaders(given);
  const headers = newHeaders();
  for (const [name, value] of Object.entries(given)) headers.set(name, value);
  headers.set('Nats-Msg-Id', id);
  if (encoded.type === ContentType.bytes) {
    headers.set(CONTENT_TYPE_HEADER, contentTypeHeader(encoded.type));
  }
  return headers;
}
