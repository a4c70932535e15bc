/** The reading side of an answer in parts: docs/streaming.md has its states and invariants. */
import type { Msg, Subscription } from 'nats';
import { messageOf, type CallError } from '../core/errors.ts';
import { CONTENT_TYPE_HEADER, contentTypeOf, decodePayload } from '../core/payload.ts';
import type { Settings } from '../core/settings.ts';
import { ReceiveWindow } from '../core/stream-window.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';
import {
  answeredError,
  cancelled,
  clientClosed,
  streamLost,
  timedOut,
  unreadableAnswer,
} from './call-errors.ts';
import type { CallAnswer } from './call.ts';
import type { Bus } from './connection.ts';
import { isNoResponders } from './status.ts';

/** On the last message of a stream: how many chunks there were. */
export const END_HEADER = 'Millrace-End';
export const ERROR_CODE_HEADER = 'Nats-Service-Error-Code';
/** What a reader says; nothing: "I live". */
export const AGAIN = 'again';
export const STOP = 'stop';

/** How often a reader says that it lives, and asks for what may be lost. */
const TELL_EVERY_MS = 1_000;
/** Its worker may be reconnecting: only when nobody listens for longer it is gone. */
const NOBODY_MS = 2_000;

const NOTHING = new Uint8Array();
const word = (text: string): Uint8Array => Buffer.from(text);

export interface StreamCall {
  functionName: string;
  /** By `performance.now()`. */
  deadlineMs: number;
  signal?: AbortSignal | undefined;
}

/** `control`: the worker's subject for it. */
type StreamOptions = StreamCall & { control: string };

/** All streams that this process reads. */
export class StreamedAnswers {
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #subjects: Subjects;
  readonly #open = new Map<string, StreamedAnswer>();
  #subscription: Subscription | undefined;
  #ticks: NodeJS.Timeout | undefined;
  #last = 0;

  constructor(bus: Bus, settings: Settings) {
    this.#bus = bus;
    this.#settings = settings;
    this.#subjects = subjectsOf(settings.namespace);
  }

  get size(): number {
    return this.#open.size;
  }

  /** Throws FUNCTION_FAILED for what no worker of ours has said. */
  open(answer: CallAnswer, call: StreamCall): StreamedAnswer {
    const control = this.#controlOf(answer);
    if (control === undefined) throw unreadableAnswer(call.functionName, 'it names no stream.');
    this.#subscription ??= this.#bus.subscribe(`${this.#bus.inbox}.s.*`, (message) =>
      this.#open.get(message.subject)?.received(message),
    );
    this.#last += 1;
    const subject = `${this.#bus.inbox}.s.${this.#last}`;
    const made = new StreamedAnswer(
      this.#bus,
      this.#settings,
      subject,
      { ...call, control },
      () => {
        this.#open.delete(subject);
        if (this.#open.size > 0) return;
        clearInterval(this.#ticks);
        this.#ticks = undefined;
      },
    );
    this.#open.set(subject, made);
    this.#ticks ??= setInterval(() => {
      for (const each of this.#open.values()) each.tick();
    }, TELL_EVERY_MS);
    made.begin();
    return made;
  }

  /** A stream that nobody wants any more. */
  refuse(answer: CallAnswer): void {
    const control = this.#controlOf(answer);
    if (control !== undefined) tell(this.#bus, `${control}.0`, STOP);
  }

  /** Anybody who knows our inbox could name any subject. */
  #controlOf({ type, body }: CallAnswer): string | undefined {
    const control = decodePayload(type, body, this.#settings);
    if (typeof control !== 'string') return undefined;
    const [, , worker = '', , key = ''] = control.split('.');
    const own = /^[A-Za-z0-9]+$/.test(worker) && /^[A-Za-z0-9]+$/.test(key);
    return own && control === this.#subjects.workerStream(worker, key) ? control : undefined;
  }

  close(): void {
    for (const [, answer] of this.#open) answer.closed();
    clearInterval(this.#ticks);
    this.#subscription?.unsubscribe();
  }
}

type End = { error?: CallError };

/** For one `for await`; leaving it cancels the run. Rejects with a CallError where the run, or the way to it, fails. */
export class StreamedAnswer implements AsyncIterableIterator<unknown> {
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #subject: string;
  readonly #of: StreamOptions;
  readonly #window = new ReceiveWindow<Msg>();
  readonly #onEnded: () => void;
  readonly #onAbort: () => void;
  #end: End | undefined;
  /** All that was sent has come, or nothing more will. */
  #over = false;
  #waiting: (() => void) | undefined;
  #nobodySinceMs: number | undefined;
  #heard = false;

  constructor(
    bus: Bus,
    settings: Settings,
    subject: string,
    options: StreamOptions,
    onEnded: () => void,
  ) {
    this.#bus = bus;
    this.#settings = settings;
    this.#subject = subject;
    this.#of = options;
    this.#onEnded = onEnded;
    const { functionName, signal } = options;
    this.#onAbort = () => this.#giveUp(cancelled(functionName, signal?.reason));
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  begin(): void {
    if (this.#of.signal?.aborted === true) this.#onAbort();
    else this.#tell(AGAIN);
  }

  async next(): Promise<IteratorResult<unknown, undefined>> {
    // One waits at a time: who asks before he has got the one before waits behind it.
    while (this.#window.empty && this.#end === undefined) {
      const before = this.#waiting;
      await new Promise<void>((resolve) => {
        this.#waiting = () => {
          before?.();
          resolve();
        };
      });
    }
    const message = this.#window.take();
    if (message === undefined) {
      const { error } = this.#end ?? {};
      this.#end = {};
      if (error !== undefined) throw error;
      return { done: true, value: undefined };
    }
    if (!this.#over && this.#window.worthTelling) this.#tell('');
    return { done: false, value: this.#read(message) };
  }

  /** The run is cancelled. */
  async return(): Promise<IteratorResult<unknown, undefined>> {
    this.#giveUp(undefined);
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  received(message: Msg): void {
    if (this.#over) return;
    const { functionName } = this.#of;
    if (isNoResponders(message)) {
      const now = performance.now();
      this.#nobodySinceMs ??= now;
      if (now - this.#nobodySinceMs >= NOBODY_MS) this.#ended({ error: streamLost(functionName) });
      return;
    }
    this.#nobodySinceMs = undefined;
    this.#heard = true;
    const ends = message.headers?.get(END_HEADER) ?? '';
    const code = message.headers?.get(ERROR_CODE_HEADER) ?? '';
    const number = numberOf(message.reply);
    // The worker knows nothing of it.
    if (number === undefined) {
      if (code !== '') this.#ended({ error: streamLost(functionName) });
      return;
    }
    if (ends === '') {
      if (this.#window.receive(number, message, message.data.length)) this.#wake();
      return;
    }
    if (number !== this.#window.received + 1) return;
    const failed = code !== '';
    this.#tellTaken(number);
    this.#ended(failed ? { error: answeredError(functionName, message.data, this.#settings) } : {});
  }

  tick(): void {
    if (performance.now() >= this.#of.deadlineMs + TELL_EVERY_MS) {
      this.#giveUp(timedOut(this.#of.functionName, true));
      return;
    }
    const waits = this.#window.empty && !this.#heard;
    this.#heard = false;
    this.#tell(waits ? AGAIN : '');
  }

  closed(): void {
    this.#giveUp(clientClosed(this.#of.functionName));
  }

  #read(message: Msg): unknown {
    const type = contentTypeOf(message.headers?.get(CONTENT_TYPE_HEADER));
    try {
      return decodePayload(type, message.data, this.#settings);
    } catch (cause) {
      const error = unreadableAnswer(this.#of.functionName, messageOf(cause), cause);
      this.#giveUp(undefined);
      throw error;
    }
  }

  #tell(text: string): void {
    this.#window.told();
    tell(this.#bus, `${this.#of.control}.${this.#window.taken}`, text, this.#subject);
  }

  #tellTaken(number: number): void {
    tell(this.#bus, `${this.#of.control}.${number}`, '');
  }

  /** What has come and was not taken is dropped: whoever gives up wants no more. */
  #giveUp(error: CallError | undefined): void {
    if (!this.#over) tell(this.#bus, `${this.#of.control}.${this.#window.taken}`, STOP);
    while (!this.#window.empty) this.#window.take();
    this.#ended(error === undefined ? {} : { error });
  }

  #ended(end: End): void {
    if (this.#over) {
      if (this.#window.empty) this.#end = end;
      return;
    }
    this.#over = true;
    this.#end = end;
    this.#of.signal?.removeEventListener('abort', this.#onAbort);
    this.#onEnded();
    this.#wake();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.();
  }
}

/** While the connection is down nothing is said: it is said again a second later. */
function tell(bus: Bus, subject: string, text: string, reply?: string): void {
  if (!bus.up) return;
  const payload = text === '' ? NOTHING : word(text);
  bus.publish(subject, payload, reply === undefined ? {} : { reply });
}

/** Of a chunk: the last token of its reply subject. */
function numberOf(reply: string | undefined): number | undefined {
  const token = reply?.slice(reply.lastIndexOf('.') + 1) ?? '';
  return /^[1-9]\d{0,14}$/.test(token) ? Number(token) : undefined;
}
