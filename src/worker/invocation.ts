/** One run of one function: where it came from, where its answer goes, and what its handler is given. */
import type { Logger } from 'pino';
import type { PreparedEvent } from '../bus/publisher.ts';
import { asCallError } from '../bus/call-errors.ts';
import { MillraceError } from '../core/errors.ts';
import type { Age } from '../core/state/age.ts';
import type { DeliveryHeader, DispatchedEvent } from '../delivery/outcome.ts';
import type { Attempt } from '../state/attempt.ts';
import type { Joinable } from '../state/join.ts';
import type { ContentType, Encoded, EncodedBody } from '../core/payload.ts';
import type { Trace } from '../telemetry/tracing.ts';
import type { Context, FunctionEvent, InvocationInfo } from '../function/context.ts';
import type { LoadedFunction } from '../function/load.ts';
import { givenName } from '../function/reference.ts';
import { guardSignal } from './guarded-signal.ts';
import { logThrown } from './log-thrown.ts';
import { idsOf } from './logs/ids.ts';
import { notNamed, type Secrets } from './secrets.ts';
import type { Sender } from './streams.ts';
import type { FollowedRun } from './traces/followed-run.ts';

/** What a transport brings in; `answer` and `fail` are called at most once together. */
export interface Incoming {
  /** Who called, '' for a plain message: with the event's id it tells whether a call is one that runs already. */
  caller: string;
  subject: string;
  type: ContentType;
  body: EncodedBody;
  headers: Readonly<Record<string, string>>;
  eventId: string;
  attempt: number;
  /**
   * May the same request come again? `id`: it has an id of its requester's, at any time; `call`: only when this worker
   * dies; `never`.
   */
  repeats: 'id' | 'call' | 'never';
  /** Of the caller: where the transaction is in which this invocation takes part. */
  transaction?: string | undefined;
  joined?: Joinable | undefined;
  /** Not to be answered by what is kept. */
  fresh?: boolean;
  /** Its trace began at its caller, and is not kept. */
  untraced?: boolean;
  /** Where the requester takes an answer in parts: how it is told that there are some; `to`: where they go, if that is known. */
  parts?: { to: string | undefined; announce: (control: string) => void } | undefined;
  /** The followed run that has called: see RUN_HEADER. */
  cause?: string | undefined;
  /** How long the requester waits, in milliseconds from now; undefined for an event that nobody waits for. */
  timeoutMs: number | undefined;
  /** When the stream stored it; undefined for what comes without a stream. */
  time?: Date;
  /** Of a durable event: how it is settled. */
  delivery?: DeliveryHeader;
  /** Names the call that has brought an event; that of others is `eventId`. */
  callId?: string;
  /** All events of the run, for a function with batches: `delivery` is the first one's. */
  batch?: readonly DispatchedEvent[];
  answer(encoded: Encoded): void;
  /** `thrown`: by the handler, or what its schema or its timeout says; absent where the platform failed. */
  fail(error: MillraceError, thrown?: unknown): void;
}

/** How many events one invocation may emit, and how many bytes their payloads may have together: all are held in memory. */
export const MAX_EMITTED_EVENTS = 1_024;
export const MAX_EMITTED_BYTES = 8 * 1024 * 1024;

export class Invocation {
  #incoming: Incoming;
  readonly deadlineMs: number;
  startedAtMs = 0;
  /** Answered, by its result, its error or its timeout: nothing that comes later counts. */
  settled = false;
  /** Among the live ones; -1 where it is none of them. */
  place = -1;
  /** Its handler has begun. */
  running = false;
  /** Its handler has returned or thrown: its context is of no use any more. */
  returned = false;
  /** True once its deadline has taken its slot away while the handler went on. */
  expired = false;
  /** Encoded when they were emitted: what the handler changes afterwards is not sent. */
  readonly emits: PreparedEvent[] = [];
  /** How often its handler has begun: more than once when its transaction was refused. */
  runs = 1;
  /** The transaction of the present run, if it uses state. */
  attempt: Attempt | undefined;
  age: Age | undefined;
  /** What its handler was given. */
  event: FunctionEvent | undefined;
  /** Undefined where traces are off. */
  trace: Trace | undefined;
  /** Of one that is answered in parts, from the first one on. */
  sender: Sender | undefined;
  /** Its first part is given: what it may do in its transaction is done. */
  gaveParts = false;
  /** Told when it is given up. */
  onAbort: (() => Promise<unknown>) | undefined;
  /** While somebody follows runs, and this one is among them. */
  followed: FollowedRun | undefined;
  #emittedBytes = 0;
  #abort: AbortController | undefined;
  #abortReason: unknown;

  constructor(incoming: Incoming, deadlineMs: number) {
    this.#incoming = incoming;
    this.deadlineMs = deadlineMs;
  }

  get incoming(): Incoming {
    return this.#incoming;
  }

  /** The same call came again, because its caller could not know that this one lives: it gets the answer. */
  answerTo(again: Incoming): void {
    this.#incoming = this.sender?.over(again) ?? again;
  }

  streamTo(sender: Sender): void {
    this.sender = sender;
    this.#incoming = sender.over(this.#incoming);
  }

  /** What the handler emits or calls from here on would be lost. */
  get ended(): boolean {
    return this.returned || this.settled;
  }

  /** Its handler has returned or thrown. */
  handlerEnded(): void {
    this.returned = true;
    this.followed?.returned();
  }

  /** Nothing of the run before counts. */
  beginAgain(): void {
    this.runs += 1;
    this.returned = false;
    this.gaveParts = false;
    this.onAbort = undefined;
    this.emits.length = 0;
    this.#emittedBytes = 0;
  }

  /** Throws PAYLOAD_TOO_LARGE beyond what one invocation may emit. */
  addEvent(event: PreparedEvent): void {
    if (this.emits.length >= MAX_EMITTED_EVENTS) {
      throw new MillraceError(
        'PAYLOAD_TOO_LARGE',
        `One invocation can emit ${MAX_EMITTED_EVENTS} events, no more.`,
        { details: { limitEvents: MAX_EMITTED_EVENTS } },
      );
    }
    if (this.#emittedBytes + event.payload.length > MAX_EMITTED_BYTES) {
      throw new MillraceError(
        'PAYLOAD_TOO_LARGE',
        `The events of one invocation can have ${MAX_EMITTED_BYTES} bytes together, no more.`,
        { details: { limitBytes: MAX_EMITTED_BYTES } },
      );
    }
    this.#emittedBytes += event.payload.length;
    this.emits.push(event);
  }

  /**
   * Made when first asked for: most handlers never look, and an AbortController costs more than a small call.
   * `onMistake` is told of what its listeners throw.
   */
  signal(onMistake: (thrown: unknown) => void): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController();
      guardSignal(this.#abort.signal, onMistake);
      if (this.#abortReason !== undefined) this.#abort.abort(this.#abortReason);
    }
    return this.#abort.signal;
  }

  abort(reason: unknown): void {
    this.#abortReason = reason;
    this.#abort?.abort(reason);
    // What it throws the run throws, too.
    this.onAbort?.().catch(() => {});
  }
}

/** What the context needs of its worker. */
export interface InvocationHost {
  readonly workerId: string;
  readonly secrets: Secrets;
  /** Writes the function's name with every line, and keeps the last ones. */
  logOf: (functionName: string) => Logger;
  prepareEvent: (
    functionName: string,
    invocation: Invocation,
    ...emit: Parameters<Context['emit']>
  ) => PreparedEvent;
  /** `transaction`: the caller's, begun when it is first asked for. */
  invoke: (
    functionName: string,
    invocation: Invocation,
    transaction: () => Joinable,
    ...call: Parameters<Context['invoke']>
  ) => Promise<unknown>;
}

/** What `ctx.emit` rejects with: the handler's own mistake, never the answer to its requester. */
export class EmitError extends MillraceError {}

/**
 * The handler's second argument. All that it can do is built when first asked for: a handler may take it out of `ctx`, so each is a function
 * of this run's own, and making and keeping those costs more than a small call, most of it in garbage collection (docs/ARCHITECTURE.md).
 */
export class InvocationContext {
  readonly invocation: InvocationInfo;
  readonly #run: Invocation;
  readonly #runs: number;
  readonly #host: InvocationHost;
  readonly #secrets: readonly string[];
  readonly #transaction: () => Joinable;
  #log: Logger | undefined;

  constructor(
    run: Invocation,
    { name, version, definition: { secrets } }: LoadedFunction,
    host: InvocationHost,
    transaction: () => Joinable,
  ) {
    const { eventId: id, attempt } = run.incoming;
    this.invocation = { id, attempt, function: name, version, worker: host.workerId };
    this.#run = run;
    this.#runs = run.runs;
    this.#host = host;
    this.#secrets = secrets;
    this.#transaction = transaction;
  }

  get invoke(): Context['invoke'] {
    return async (...call: Parameters<Context['invoke']>) => {
      try {
        this.#check('invoke');
        const { function: name } = this.invocation;
        return await this.#host.invoke(name, this.#run, this.#transaction, ...call);
      } catch (thrown) {
        throw asCallError(givenName(call[0]), thrown);
      }
    };
  }

  get emit(): Context['emit'] {
    return async (subject, data, options) => {
      try {
        this.#check('emit');
        if (this.#run.gaveParts) throw closedByParts(this.invocation);
        const { function: name } = this.invocation;
        this.#run.addEvent(this.#host.prepareEvent(name, this.#run, subject, data, options));
      } catch (thrown) {
        throw asEmitError(thrown);
      }
    };
  }

  get state(): Context['state'] {
    return (collection) => {
      this.#check('state');
      if (this.#run.gaveParts) throw closedByParts(this.invocation);
      const { invocation } = this;
      const own = this.#transaction().collection(collection);
      return this.#host.secrets.guarded(invocation.function, own);
    };
  }

  /** For functions of the platform's own, which do more than users' may. */
  static insideOf(context: Context): { run: Invocation; transaction: () => Joinable } {
    const own = context as InvocationContext;
    return { run: own.#run, transaction: own.#transaction };
  }

  get secret(): Context['secret'] {
    return (name) => {
      if (this.#secrets.includes(name)) return this.#host.secrets.value(name);
      throw notNamed(this.invocation.function, name);
    };
  }

  get signal(): AbortSignal {
    return this.#run.signal((thrown) => this.#listenerFailed(thrown));
  }

  get log(): Logger {
    this.#log ??= this.#host.logOf(this.invocation.function).child(idsOf(this.#run));
    return this.#log;
  }

  /** Throws CANCELLED when the run that it was made for is over. */
  #check(method: string): void {
    const run = this.#run;
    if (run.ended || run.runs !== this.#runs) throw usedTooLate(method, this.invocation);
  }

  #listenerFailed(thrown: unknown): void {
    const message = `a listener on ctx.signal of ${this.invocation.function} threw`;
    logThrown(this.log, 'error', {}, thrown, message);
  }
}

function usedTooLate(method: string, { function: name }: InvocationInfo): MillraceError {
  return new MillraceError('CANCELLED', `${method} was called after ${name} had ended.`);
}

function closedByParts({ function: name }: InvocationInfo): MillraceError {
  return new MillraceError(
    'FUNCTION_FAILED',
    `${name} has given the first part of its answer: its transaction is over. What comes later is for another function, which it can invoke.`,
  );
}

function asEmitError(thrown: unknown): unknown {
  if (!(thrown instanceof MillraceError)) return thrown;
  const { code, message, retryable, details } = thrown;
  return new EmitError(code, message, { retryable, details, cause: thrown });
}

export function eventOf(incoming: Incoming, data: unknown): FunctionEvent {
  const { eventId: id, subject, headers, attempt, time = new Date() } = incoming;
  return { id, subject, data, headers, time, attempt };
}

/** Names a call: the same one that comes again has the same. */
export function callKey(functionName: string, { caller, eventId, callId }: Incoming): string {
  return `${functionName} ${caller} ${callId ?? eventId}`;
}

/** By what names a call. */
export function runningByCall(
  live: Iterable<readonly [Invocation, { loaded: { name: string } }]>,
): Map<string, Invocation> {
  const running = new Map<string, Invocation>();
  for (const [invocation, { loaded }] of live) {
    running.set(callKey(loaded.name, invocation.incoming), invocation);
  }
  return running;
}
