/**
 * Publishes events. Where a stream captures the subject, a publish resolves when the stream has stored it; elsewhere,
 * and where the stream never acknowledges (`no_ack`), when the broker has taken it, which is all that core NATS promises.
 *
 * A stored publish that got no acknowledgement is unknown, not failed. It is sent again with the
 * same id after a reconnect, because the stream drops the duplicate; at its deadline it fails as TIMEOUT.
 *
 * One that is to come later is stored in a stream of the platform's own until it is due (later.ts).
 */
import { setImmediate as turn } from 'node:timers/promises';
import { headers as newHeaders, nuid, type Msg, type MsgHdrs, type Subscription } from 'nats';
import { z } from 'zod';
import { MillraceError } from '../core/errors.ts';
import {
  CONTENT_TYPE_HEADER,
  contentTypeHeader,
  ContentType,
  encodePayload,
  type Encoded,
} from '../core/payload.ts';
import { dueMsOf, type When } from '../core/later.ts';
import { assertNotReserved, assertPublishSubject } from '../core/names.ts';
import type { Settings } from '../core/settings.ts';
import { Captures, type Capture } from './captures.ts';
import { subjectsOf } from '../core/subjects.ts';
import { forbidden, type Bus } from './connection.ts';
import { EVENT_ID_HEADER, MESSAGE_ID_HEADER, scopedId } from './event-id.ts';
import { checkHeaders, checkId } from './invoke.ts';
import { JetStreamApi } from './jetstream-api.ts';
import { LaterStream } from './later-stream.ts';
import { isScheduled, scheduled } from './later.ts';
import { readControl } from './messages.ts';
import { Stored } from './stored.ts';
import { isNoResponders } from './status.ts';

export interface PublishOptions extends When {
  /** The event's id; a stream stores the same id once (within its duplicate window). Default: a new one. */
  id?: string;
  headers?: Readonly<Record<string, string>>;
}

export interface PublishReceipt {
  id: string;
  /** The stream that stored the event, `<namespace>-later` for one that waits for its time; absent where none captures its subject, or one that never acknowledges. */
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

/** The clocks of two workers, or of a worker and of who has restored a stream, differ by less. */
const CLOCK_MARGIN_MS = 60_000;
/** Subjects of refused events that are remembered, for the turn in which they are told of. */
const MAX_REFUSED = 1_024;
/** So soon after its transaction nobody else can have taken its outbox over. */
const SURELY_FIRST_MS = 1_000;

interface Unacknowledged extends PreparedEvent {
  deadlineMs: number;
  resolve: (receipt: PublishReceipt) => void;
  reject: (error: MillraceError) => void;
}

export class Publisher {
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #unacknowledged = new Map<number, Unacknowledged>();
  readonly #captures: Captures;
  readonly #inbox: string;
  readonly #subscriptions: readonly Subscription[];
  readonly #later: LaterStream;
  readonly #api: JetStreamApi;
  readonly #stored: Stored;
  readonly #stopListening: () => void;
  readonly #stopHearing: () => void;
  /** Subjects that permissions forbade just now. */
  readonly #refused = new Set<string>();
  #nextToken = 1;
  #flushing: Promise<void> | undefined;
  /** How to fail the flushes that are under way. */
  readonly #flushes = new Set<(error: MillraceError) => void>();
  #sweep: NodeJS.Timeout | undefined;

  constructor(bus: Bus, settings: Settings) {
    this.#bus = bus;
    this.#settings = settings;
    this.#captures = new Captures(bus);
    this.#later = new LaterStream(bus, settings);
    this.#api = new JetStreamApi(bus);
    this.#stored = new Stored(bus, this.#api);
    // Of its own: another publisher on this connection counts its events, too.
    this.#inbox = `${bus.inbox}.a.${nuid.next()}`;
    this.#subscriptions = [
      bus.subscribe(`${this.#inbox}.*`, (message) => this.#onAcknowledged(message)),
      // Workers announce their functions when their events are captured.
      bus.subscribe(subjectsOf(settings.namespace).announce, () => this.#captures.forgetAll()),
    ];
    this.#stopHearing = bus.onRefused((subject) => this.#onRefused(subject));
    this.#stopListening = bus.onStatus((up) => {
      if (up) for (const [token, event] of this.#unacknowledged) this.#post(token, event);
    });
  }

  /**
   * Checks and encodes an event without sending it; throws INVALID_INPUT or PAYLOAD_TOO_LARGE. `trace`: headers of the platform's
   * own, instead of the publisher's.
   */
  prepare(
    subject: string,
    data: unknown,
    options: PublishOptions = {},
    trace?: Readonly<Record<string, string>>,
  ): PreparedEvent {
    assertPublishSubject(subject, 'INVALID_INPUT');
    const { namespace } = this.#settings;
    assertNotReserved(subject, namespace, 'INVALID_INPUT');
    const dueMs = dueMsOf(options, Date.now());
    const id = options.id ?? nuid.next();
    checkId(id);
    const encoded = encodePayload(data, ContentType.json, this.#settings);
    const headers = eventHeaders(id, encoded, options.headers);
    for (const name in trace) headers.set(name, trace[name] ?? '');
    const payload = typeof encoded.body === 'string' ? Buffer.from(encoded.body) : encoded.body;
    const event = { id, subject, payload, headers };
    return dueMs === undefined ? event : scheduled(event, dueMs, namespace);
  }

  /**
   * Throws UNAVAILABLE or TIMEOUT; then the event may or may not have been taken. STREAM_UNUSABLE where one that is to come later
   * cannot be kept.
   */
  async send(event: PreparedEvent): Promise<PublishReceipt> {
    if (isScheduled(event, this.#settings.namespace)) {
      await this.#later.ensure();
      return this.#store(event);
    }
    const { acknowledged } = await this.#captures.of(event.subject);
    if (acknowledged) return this.#store(event);
    this.#refused.delete(event.subject);
    this.#bus.publish(event.subject, event.payload, { headers: event.headers });
    await this.#flushed();
    // The broker says so before it confirms; the client tells of it a turn later.
    if (this.#bus.restricted) await turn();
    if (this.#refused.has(event.subject)) throw forbidden('publish', event.subject);
    return { id: event.id };
  }

  /**
   * As `send`, for an event that may have been sent before, at `sinceMs` at the earliest (since 1970): where its stream may have
   * forgotten the id by now, it is asked whether it has the event. `again`: it was somebody else who may have sent it.
   */
  async sendOnce(event: PreparedEvent, sinceMs: number, again = true): Promise<PublishReceipt> {
    // One that is to come later is published once all the same: worker/later.ts.
    if (!isScheduled(event, this.#settings.namespace)) {
      const { id, subject } = event;
      const capture = await this.#captures.of(subject);
      if (capture.stream !== undefined && mayBeForgotten(capture, sinceMs, again)) {
        const { stream } = capture;
        const sequence = await this.#stored.find(stream, event, sinceMs);
        if (sequence !== undefined) return { id, stream, sequence, duplicate: true };
      }
    }
    return this.send(event);
  }

  close(): void {
    this.#stopListening();
    this.#stopHearing();
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
    clearInterval(this.#sweep);
    for (const event of this.#unacknowledged.values()) {
      event.reject(new MillraceError('UNAVAILABLE', 'This client is closed.'));
    }
    this.#unacknowledged.clear();
    for (const fail of this.#flushes)
      fail(new MillraceError('UNAVAILABLE', 'This client is closed.'));
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
      // First sent, then kept: one that cannot be sent at all must not be tried again at every reconnect.
      if (this.#bus.up) this.#post(token, event);
      this.#unacknowledged.set(token, event);
      this.#sweep ??= setInterval(() => this.#onSweep(), this.#settings.sweepIntervalMs);
    });
  }

  #post(token: number, event: Unacknowledged): void {
    const { subject, payload, headers } = event;
    this.#bus.publish(subject, payload, { headers, reply: `${this.#inbox}.${token}` });
  }

  /** NATS permissions have let none of these through. */
  #onRefused(subject: string): void {
    if (this.#refused.size >= MAX_REFUSED) this.#refused.clear();
    this.#refused.add(subject);
    for (const [token, event] of this.#unacknowledged) {
      if (event.subject !== subject) continue;
      this.#unacknowledged.delete(token);
      event.reject(forbidden('publish', subject));
    }
  }

  #onAcknowledged(message: Msg): void {
    const token = Number(message.subject.slice(message.subject.lastIndexOf('.') + 1));
    const event = this.#unacknowledged.get(token);
    if (event === undefined) return;
    const ack = isNoResponders(message) ? 'gone' : readAcknowledgement(message);
    // A function on the same subject answers to the same reply subject: that is no word of the stream's.
    if (ack === undefined) return;
    this.#unacknowledged.delete(token);
    if (ack === 'gone') {
      // The stream is gone since the lookup: to the next publish its subject is not captured.
      this.#captures.forget(event.subject);
      this.#later.forget();
      event.reject(new MillraceError('UNAVAILABLE', `No stream stores ${event.subject} just now.`));
      return;
    }
    if ('error' in ack) {
      const why = ack.error.description ?? `error ${ack.error.err_code}`;
      event.reject(new MillraceError('UNAVAILABLE', `The event was not stored: ${why}.`));
      return;
    }
    const { stream, seq: sequence, duplicate = false } = ack;
    const receipt = { id: event.id, stream, sequence, duplicate };
    if (duplicate) this.#unlessOther(event, receipt).then(event.resolve, event.reject);
    else event.resolve(receipt);
  }

  /** What the stream has under this id may be an event on another subject: this one is stored all the same. */
  async #unlessOther(event: PreparedEvent, receipt: PublishReceipt): Promise<PublishReceipt> {
    const { stream = '', sequence = 0 } = receipt;
    if (event.headers.get(MESSAGE_ID_HEADER) !== event.id) return receipt;
    const found = await this.#api.at(stream, sequence).catch((error: unknown) => {
      // Who may only publish may not look: the stream's word counts.
      if ((error as MillraceError).code !== 'FORBIDDEN') throw error;
      return undefined;
    });
    if (found === undefined || found.subject === event.subject) return receipt;
    const headers = newHeaders();
    for (const [name, values] of event.headers) headers.set(name, values.at(-1) ?? '');
    headers.set(MESSAGE_ID_HEADER, scopedId(event));
    headers.set(EVENT_ID_HEADER, event.id);
    return this.#store({ ...event, headers });
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
        const fail = (error: MillraceError): void => {
          clearTimeout(timer);
          this.#flushes.delete(fail);
          reject(error);
        };
        const timer = setTimeout(() => fail(notConfirmed()), this.#settings.callTimeoutMs);
        this.#flushes.add(fail);
        this.#bus.flush().then(() => {
          clearTimeout(timer);
          this.#flushes.delete(fail);
          resolve();
        }, fail);
      });
    });
    return this.#flushing;
  }
}

/**
 * By its own clock a worker knows when it has emitted; others' may be wrong. What was emitted in the future was emitted before a
 * clock was set back: nobody knows how long ago.
 */
export function mayBeForgotten(
  { rememberedMs, remembersSinceMs }: Pick<Capture, 'rememberedMs' | 'remembersSinceMs'>,
  sinceMs: number,
  again: boolean,
): boolean {
  const ageMs = Date.now() - sinceMs;
  if (ageMs < -CLOCK_MARGIN_MS) return true;
  const half = rememberedMs / 2;
  if (!again) return ageMs >= Math.max(half, SURELY_FIRST_MS);
  return (
    ageMs >= rememberedMs - Math.max(half, CLOCK_MARGIN_MS) ||
    sinceMs <= remembersSinceMs + CLOCK_MARGIN_MS
  );
}

function notConfirmed(): MillraceError {
  return new MillraceError('TIMEOUT', 'The broker did not confirm the event in time.', {
    details: { outcome: 'unknown' },
  });
}

// The error first: a refusal by a stream that is full names the stream, too, and the sequence 0.
const acknowledgementSchema = z.union([
  z.object({ error: z.object({ err_code: z.number(), description: z.string().optional() }) }),
  z.object({ stream: z.string(), seq: z.number().int(), duplicate: z.boolean().optional() }),
]);

/** JetStream's own words only; undefined for anything else. */
function readAcknowledgement(message: Msg): z.infer<typeof acknowledgementSchema> | undefined {
  return readControl(acknowledgementSchema, message.data);
}

function eventHeaders(
  id: string,
  encoded: Encoded,
  given: Readonly<Record<string, string>> = {},
): MsgHdrs {
  checkHeaders(given);
  const headers = newHeaders();
  for (const [name, value] of Object.entries(given)) headers.set(name, value);
  headers.set(MESSAGE_ID_HEADER, id);
  if (encoded.type === ContentType.bytes) {
    headers.set(CONTENT_TYPE_HEADER, contentTypeHeader(encoded.type));
  }
  return headers;
}
