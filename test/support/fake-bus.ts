/**
 * A Bus without a broker, for the calling side: the test plays the broker. What is published is kept in `published`;
 * `deliver` brings a message to whoever subscribed, `refuse` is the broker's "no responders".
 */
import { headers as newHeaders, type Msg, type MsgHdrs } from 'nats';
import {
  NO_RESPONDERS,
  type Bus,
  type MessageHandler,
  type PublishOptions,
} from '../../src/bus/connection.ts';
import { MillraceError } from '../../src/core/errors.ts';
import { subjectMatches } from '../../src/core/names.ts';

export interface Published {
  subject: string;
  data: Uint8Array;
  reply: string;
}

export class FakeBus {
  readonly inbox = '_INBOX.TESTCALLER';
  maxMessageBytes = 1024 * 1024;
  up = true;
  epoch = 1;
  published: Published[] = [];
  readonly #subscriptions = new Set<{ pattern: string; handler: MessageHandler }>();
  readonly #listeners = new Set<(up: boolean) => void>();

  /** What the code under test takes it for. */
  asBus(): Bus {
    return this as unknown as Bus;
  }

  get subscriptions(): number {
    return this.#subscriptions.size;
  }

  publish(subject: string, payload: Uint8Array, options?: PublishOptions): void {
    if (!this.up) throw new MillraceError('UNAVAILABLE', 'The connection to NATS is down.');
    // As the NATS client does.
    if (payload.length > this.maxMessageBytes) throw new Error('MAX_PAYLOAD_EXCEEDED');
    this.published.push({ subject, data: Uint8Array.from(payload), reply: options?.reply ?? '' });
  }

  answer(reply: string | undefined, payload: Uint8Array): void {
    if (reply !== undefined && reply !== '' && this.up) this.publish(reply, payload);
  }

  subscribe(
    pattern: string,
    handler: MessageHandler,
  ): { unsubscribe: () => void; drain: () => Promise<void> } {
    const subscription = { pattern, handler };
    this.#subscriptions.add(subscription);
    const unsubscribe = (): void => void this.#subscriptions.delete(subscription);
    return { unsubscribe, drain: () => Promise.resolve(unsubscribe()) };
  }

  /** As without permissions. */
  readonly outside = false;
  readonly restricted = false;

  onRefused(): () => void {
    return () => {};
  }

  onStatus(listener: (up: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** What the broker says to a request; by default nobody listens. */
  onRequest: (subject: string) => Promise<Msg> = () =>
    Promise.reject(new MillraceError('UNAVAILABLE', 'nobody', { details: NO_RESPONDERS }));

  request(subject: string): Promise<Msg> {
    return this.onRequest(subject);
  }

  /** By default the broker confirms at once. */
  onFlush: () => Promise<void> = () => Promise.resolve();

  flush(): Promise<void> {
    return this.onFlush();
  }

  /** Takes out what was published on subjects that match. */
  take(pattern: string): Published[] {
    const taken = this.published.filter(({ subject }) => subjectMatches(pattern, subject));
    this.published = this.published.filter((message) => !taken.includes(message));
    return taken;
  }

  deliver(
    subject: string,
    data: Uint8Array = new Uint8Array(),
    headers?: MsgHdrs,
    reply?: string,
  ): void {
    const message = { subject, data, headers, reply } as unknown as Msg;
    for (const { pattern, handler } of this.#subscriptions) {
      if (subjectMatches(pattern, subject)) handler(message);
    }
  }

  /** Nobody listens on the message's subject: an empty message with status 503 comes back to its reply subject. */
  refuse(message: Published): void {
    this.deliver(message.reply, new Uint8Array(), newHeaders(503, 'No Responders'));
  }

  lose(): void {
    this.#setUp(false);
  }

  restore(): void {
    this.epoch += 1;
    this.#setUp(true);
  }

  #setUp(up: boolean): void {
    this.up = up;
    for (const listener of this.#listeners) listener(up);
  }
}
