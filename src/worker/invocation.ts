/** One run of one function: where it came from, where its answer goes, and what its handler is given. */
import type { Logger } from 'pino';
import type { PreparedEvent } from '../bus/publisher.ts';
import type { MillraceError } from '../core/errors.ts';
import type { ContentType, Encoded, EncodedBody } from '../core/payload.ts';
import type { Context, FunctionEvent, InvocationInfo } from '../function/context.ts';

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
  /** How long the requester waits, in milliseconds from now; undefined for an event that nobody waits for. */
  timeoutMs: number | undefined;
  answer(encoded: Encoded): void;
  fail(error: MillraceError): void;
}

export class Invocation {
  #incoming: Incoming;
  readonly deadlineMs: number;
  startedAtMs = 0;
  /** Answered, by its result, its error or its timeout: nothing that comes later counts. */
  settled = false;
  /** Its handler has begun. */
  running = false;
  /** True once its deadline has taken its slot away while the handler went on. */
  expired = false;
  /** Encoded when they were emitted: what the handler changes afterwards is not sent. */
  readonly emits: PreparedEvent[] = [];
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
    this.#incoming = again;
  }

  /** Made when first asked for: most handlers never look, and an AbortController costs more than a small call. */
  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController();
      if (this.#abortReason !== undefined) this.#abort.abort(this.#abortReason);
    }
    return this.#abort.signal;
  }

  abort(reason: unknown): void {
    this.#abortReason = reason;
    this.#abort?.abort(reason);
  }
}

/** What the context needs of its worker. */
export interface InvocationHost {
  readonly log: Logger;
  prepareEvent: (invocation: Invocation, ...emit: Parameters<Context['emit']>) => PreparedEvent;
  invoke: (invocation: Invocation, ...call: Parameters<Context['invoke']>) => Promise<unknown>;
}

/** The handler's second argument. `log` and `signal` are built when first used. */
export class InvocationContext {
  readonly invocation: InvocationInfo;
  readonly invoke: (...call: Parameters<Context['invoke']>) => Promise<unknown>;
  readonly emit: Context['emit'];
  readonly #run: Invocation;
  readonly #host: InvocationHost;
  #log: Logger | undefined;

  constructor(run: Invocation, info: InvocationInfo, host: InvocationHost) {
    this.#run = run;
    this.#host = host;
    this.invocation = info;
    this.invoke = (...call) => host.invoke(run, ...call);
    this.emit = async (subject, data, options) => {
      run.emits.push(host.prepareEvent(run, subject, data, options));
    };
  }

  get signal(): AbortSignal {
    return this.#run.signal;
  }

  get log(): Logger {
    const { id, attempt, function: name } = this.invocation;
    this.#log ??= this.#host.log.child({ function: name, invocation: id, attempt });
    return this.#log;
  }
}

export function eventOf(incoming: Incoming, data: unknown): FunctionEvent {
  const { eventId: id, subject, headers, attempt } = incoming;
  return { id, subject, data, headers, time: new Date(), attempt };
}
