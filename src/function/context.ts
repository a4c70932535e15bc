import type { Logger } from 'pino';
import type { InvokeOptions } from '../bus/invoke.ts';
import type { PublishOptions } from '../bus/publisher.ts';
import type { FunctionReference, InputOf, OutputOf } from './reference.ts';

/** What a handler is given: a NATS message on one of its subjects, or a call. */
export interface FunctionEvent<Data = unknown> {
  /** `Nats-Msg-Id`, or one made by the platform; the same for every attempt. */
  readonly id: string;
  /** The subject of the message, never a wildcard; `<namespace>.fn.<name>` for a call by name. */
  readonly subject: string;
  /** The payload after `input` has validated it; without `input` as it was decoded. */
  readonly data: Data;
  /** One value for each header, the last one if it was given several times. */
  readonly headers: Readonly<Record<string, string>>;
  /** When the broker stored the event, or the worker received it. */
  readonly time: Date;
  /** 1 for the first run, one more for each run after it. */
  readonly attempt: number;
  /** Only where the function has `batch`: all events of the run in the order of their stream, this one first. */
  readonly batch?: readonly FunctionEvent<Data>[];
}

/** Facts about the one run that a handler is in. */
export interface InvocationInfo {
  /** The id of the event that it handles; the same for every attempt. */
  readonly id: string;
  /** 1 for the first run, one more for each run after it. */
  readonly attempt: number;
  /** The name of the function. */
  readonly function: string;
  /** 12 hexadecimal digits of the hash of the function's code. */
  readonly version: string;
  /** The id of the worker that runs it. */
  readonly worker: string;
}

/**
 * Values by key. What is read and written is part of the invocation's transaction: it is seen by others, wholly, when the
 * handler has returned, and never when it throws. When another transaction stands in the way the handler is run again:
 * what it does outside of state, events and calls may then happen more than once.
 *
 * Values are what JSON can hold, up to 512 KiB each; keys are text of 1 to 1,024 bytes without control characters.
 * Methods reject with INVALID_INPUT or PAYLOAD_TOO_LARGE.
 */
export interface Collection<Value = unknown> {
  /** The value, with this invocation's own writes; undefined where there is none. */
  get<Read = Value>(key: string): Promise<Read | undefined>;
  /** Takes the value as it is now: later changes of the object are not written. */
  set(key: string, value: Value): Promise<void>;
  delete(key: string): Promise<void>;
}

/**
 * What a handler is given beside its event. Valid until the handler has returned, thrown or run into its timeout: from
 * then on `invoke` and `emit` reject with CANCELLED. What they reject with and the handler does not catch makes it fail
 * as FUNCTION_FAILED, whatever its own code: the requester's input was not to blame.
 */
export interface Context {
  /**
   * Runs another function and resolves with its result.
   *
   * By its definition (`import sum from './sum.ts'`) both sides are typed; by its name the result is what the caller
   * says it is. Rejects with a CallError: INVALID_INPUT (the data does not fit the function's `input`),
   * UNKNOWN_FUNCTION, PAYLOAD_TOO_LARGE, FUNCTION_FAILED (it threw), TIMEOUT, UNAVAILABLE, CANCELLED.
   */
  invoke<F extends FunctionReference>(
    target: F,
    data: InputOf<F>,
    options?: InvokeOptions,
  ): Promise<OutputOf<F>>;
  invoke<Result = unknown>(name: string, data?: unknown, options?: InvokeOptions): Promise<Result>;

  /**
   * Publishes an event once the handler has returned; it is dropped when the handler throws. Resolves as soon as the
   * event is taken, before it is published; the data is taken as it is at the call. With `delayMs`, counted from the call, or `at`
   * it is published later; that it will be is part of the transaction. Rejects with INVALID_INPUT (the
   * subject has a wildcard or is not legal, the data cannot be encoded) or PAYLOAD_TOO_LARGE: an event is too large,
   * or an invocation emits more than 1,024 events or 8 MiB of payloads together.
   */
  emit(subject: string, data?: unknown, options?: PublishOptions): Promise<void>;

  /**
   * Values by key in a collection (1 to 64 of `A-Z a-z 0-9 _ -`), which exists as soon as something is in it. Throws
   * INVALID_INPUT for another name, NOT_SUPPORTED where the NATS server has no JetStream.
   */
  state<Value = unknown>(collection: string): Collection<Value>;

  /**
   * The value of a secret that the function names with the option `secrets`. A file that is replaced gives the new value within 10 s. Throws
   * INVALID_INPUT for a name that is not among them. What the function writes, emits, calls with or answers must not contain it: that is
   * refused with FUNCTION_FAILED; in logs and errors its name stands in its place.
   */
  secret(name: string): string;

  /** A pino child logger that writes the function's name and the invocation's id with every line. */
  readonly log: Logger;

  /**
   * Aborted at the function's timeout, and when the worker stops before the handler has ended. What its listeners
   * throw is logged.
   */
  readonly signal: AbortSignal;

  readonly invocation: InvocationInfo;
}
