/** The sending side of answers in parts: docs/streaming.md has its states and invariants. */
import { headers as newHeaders, nuid, type Msg, type MsgHdrs, type Subscription } from 'nats';
import type { Bus } from '../bus/connection.ts';
import { isNoResponders } from '../bus/status.ts';
import { AGAIN, END_HEADER, STOP } from '../bus/streamed-answer.ts';
import { MillraceError } from '../core/errors.ts';
import {
  CONTENT_TYPE_HEADER,
  ContentType,
  contentTypeHeader,
  type Encoded,
} from '../core/payload.ts';
import type { Settings } from '../core/settings.ts';
import { SendWindow } from '../core/stream-window.ts';
import { subjectsOf } from '../core/subjects.ts';
import type { Incoming } from './invocation.ts';
import { encodeError } from './replies.ts';
import { errorHeaders } from './transports.ts';

/** Of one worker. */
const MAX_STREAMS = 1_000;
/** How long a reader may say nothing while something waits for it. */
const SILENCE_MS = 30_000;
/** It may be reconnecting: only when nobody listens for longer it is gone. */
const NOBODY_MS = 2_000;
const TICK_MS = 500;

const NOTHING = new Uint8Array();

interface Sent {
  payload: Uint8Array;
  headers: MsgHdrs | undefined;
}

export class Streams {
  readonly #bus: Bus;
  readonly #prefix: string;
  readonly #open = new Map<string, Sender>();
  #subscription: Subscription | undefined;
  #ticks: NodeJS.Timeout | undefined;

  constructor(bus: Bus, { namespace }: Settings, workerId: string) {
    this.#bus = bus;
    this.#prefix = subjectsOf(namespace).workerStream(workerId, '');
  }

  /** `to`: where its parts go, where that is known before it is asked for them. Throws UNAVAILABLE when there are too many. */
  open(to: string | undefined, onGone: () => void): Sender {
    if (this.#open.size >= MAX_STREAMS) {
      throw new MillraceError(
        'UNAVAILABLE',
        `This worker sends ${MAX_STREAMS} answers in parts already.`,
      );
    }
    this.#subscription ??= this.#bus.subscribe(`${this.#prefix}*.*`, (message) =>
      this.#heard(message),
    );
    this.#ticks ??= setInterval(() => this.#tick(), TICK_MS);
    const key = nuid.next();
    const sender = new Sender(this.#bus, `${this.#prefix}${key}`, to, (wasOpen) => {
      this.#open.delete(key);
      if (wasOpen) onGone();
    });
    this.#open.set(key, sender);
    return sender;
  }

  close(): void {
    this.#subscription?.unsubscribe();
    clearInterval(this.#ticks);
  }

  #heard(message: Msg): void {
    const [key = '', number = ''] = message.subject.slice(this.#prefix.length).split('.');
    const sender = this.#open.get(key);
    if (sender !== undefined) sender.heard(Number(number), message);
    else if (!isNoResponders(message)) {
      const gone = new MillraceError('NOT_FOUND', 'There is no such stream.');
      this.#bus.answer(message.reply, NOTHING, { headers: errorHeaders(gone) });
    }
  }

  #tick(): void {
    const now = performance.now();
    for (const sender of this.#open.values()) sender.tick(now);
    if (this.#open.size > 0) return;
    clearInterval(this.#ticks);
    this.#ticks = undefined;
  }
}

/** One run's. */
export class Sender {
  readonly #bus: Bus;
  readonly #onGone: (wasOpen: boolean) => void;
  readonly #window = new SendWindow<Sent>();
  /** Where its reader speaks. */
  readonly #control: string;
  #to: string | undefined;
  /** Its reader speaks every second; one with plain NATS only when it has something. */
  readonly #speaks: boolean;
  #state: 'open' | 'ending' | 'gone' = 'open';
  #heardAtMs = performance.now();
  #nobodySinceMs: number | undefined;
  #wake: (() => void) | undefined;

  constructor(
    bus: Bus,
    control: string,
    to: string | undefined,
    onGone: (wasOpen: boolean) => void,
  ) {
    this.#bus = bus;
    this.#control = control;
    this.#to = to;
    this.#speaks = to === undefined;
    this.#onGone = onGone;
  }

  /** Its reader wants no more, or is not there any more. */
  get gone(): boolean {
    return this.#state === 'gone';
  }

  /** The call is answered by the word that there are parts, and then by their end. */
  over(incoming: Incoming): Incoming {
    incoming.parts?.announce(this.#control);
    return {
      ...incoming,
      answer: () => this.#end(undefined),
      fail: (error) => this.#end(error),
    };
  }

  /** What is sent after the end is dropped. */
  send({ type, body }: Encoded): void {
    if (this.#state !== 'open') return;
    const empty = type === ContentType.empty;
    const payload = empty ? 'null' : body;
    const headers = empty || type === ContentType.json ? undefined : newHeaders();
    headers?.set(CONTENT_TYPE_HEADER, contentTypeHeader(type));
    this.#add({
      payload: typeof payload === 'string' ? Buffer.from(payload) : payload,
      headers,
    });
  }

  /** Resolves when the next part is wanted, or none any more. */
  async room(): Promise<void> {
    while (this.#state === 'open' && this.#window.full) await this.#word();
  }

  /** Resolves when its reader has spoken, or is gone. */
  async opened(): Promise<void> {
    while (this.#state === 'open' && this.#to === undefined) await this.#word();
  }

  heard(number: number, message: Msg): void {
    const now = performance.now();
    if (isNoResponders(message)) {
      this.#nobodySinceMs ??= now;
      return;
    }
    this.#heardAtMs = now;
    this.#nobodySinceMs = undefined;
    this.#window.taken(number);
    const word = Buffer.from(message.data).toString('latin1');
    if (word === STOP || (this.#state === 'ending' && this.#window.empty)) this.#go();
    else if (word === AGAIN) {
      this.#to ??= message.reply;
      for (const [each, sent] of this.#window.untaken()) this.#publish(each, sent);
    }
    this.#wake?.();
  }

  tick(now: number): void {
    const waits = this.#speaks || !this.#window.empty;
    const silent = waits && now - this.#heardAtMs >= SILENCE_MS;
    const nobody = this.#nobodySinceMs !== undefined && now - this.#nobodySinceMs >= NOBODY_MS;
    if (silent || nobody) this.#go();
  }

  #end(error: MillraceError | undefined): void {
    if (this.#state !== 'open') return;
    const headers = error === undefined ? newHeaders() : errorHeaders(error);
    headers.set(END_HEADER, String(this.#window.last));
    const payload = error === undefined ? NOTHING : Buffer.from(encodeError(error));
    this.#state = 'ending';
    this.#add({ payload, headers });
    this.#wake?.();
  }

  #add(sent: Sent): void {
    if (this.#window.empty && !this.#speaks) this.#heardAtMs = performance.now();
    const number = this.#window.add(sent, sent.payload.length);
    if (this.#to !== undefined) this.#publish(number, sent);
  }

  /** While the connection is down nothing leaves: the reader asks again. */
  #publish(number: number, { payload, headers }: Sent): void {
    const reply = `${this.#control}.${number}`;
    this.#bus.answer(this.#to, payload, headers === undefined ? { reply } : { reply, headers });
  }

  #go(): void {
    if (this.#state === 'gone') return;
    const wasOpen = this.#state === 'open';
    this.#state = 'gone';
    this.#onGone(wasOpen);
    this.#wake?.();
  }

  #word(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
