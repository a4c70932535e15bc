/**
 * Runs one version of one function on this worker.
 *
 * - R1  Every accepted invocation is answered once: result, coded error, or TIMEOUT at its deadline.
 * - R2  At most `concurrency` handlers hold a slot, at most `maxQueued` invocations wait, the next is refused.
 * - R3  A handler that outlives its deadline loses its slot, so that it cannot stop the function; how many such
 *       handlers there are is counted, and beyond `maxAbandoned` new invocations are refused.
 * - R4  Nothing that a handler does or throws reaches the caller of these methods.
 * - R5  Emitted events are published after the handler has succeeded and before its answer.
 */
import { Admission } from '../core/admission.ts';
import { CallError, MillraceError, messageOf } from '../core/errors.ts';
import { decodePayload, encodePayload, type Encoded } from '../core/payload.ts';
import type { PreparedEvent } from '../bus/publisher.ts';
import type { Settings } from '../core/settings.ts';
import type { Context, InvocationInfo } from '../function/context.ts';
import type { LoadedFunction } from '../function/load.ts';
import { validate, type Validation } from '../function/schema.ts';
import {
  EmitError,
  eventOf,
  Invocation,
  InvocationContext,
  type Incoming,
  type InvocationHost,
} from './invocation.ts';
import { logThrown } from './log-thrown.ts';
import type { FunctionStats } from './stats.ts';

export interface RunnerHost extends InvocationHost {
  readonly workerId: string;
  publishAll(events: readonly PreparedEvent[]): Promise<void>;
  /** All invocations that are not answered yet; the worker's sweep looks for deadlines here. */
  readonly live: Map<Invocation, FunctionRunner>;
}

export class FunctionRunner {
  readonly loaded: LoadedFunction;
  readonly #stats: FunctionStats;
  readonly #settings: Settings;
  readonly #host: RunnerHost;
  readonly #admission: Admission<Invocation>;
  #freedSlots = 0;
  #starting = false;
  #stopped = false;

  constructor(loaded: LoadedFunction, stats: FunctionStats, settings: Settings, host: RunnerHost) {
    this.loaded = loaded;
    this.#stats = stats;
    this.#settings = settings;
    this.#host = host;
    this.#admission = new Admission(
      settings.concurrency,
      settings.maxQueued,
      (invocation) => invocation.settled,
    );
  }

  get running(): number {
    return this.#admission.running;
  }

  get queued(): number {
    return this.#admission.queued;
  }

  accept(incoming: Incoming): void {
    const limitMs = this.loaded.definition.timeoutMs;
    const timeoutMs = Math.min(incoming.timeoutMs ?? limitMs, limitMs);
    const invocation = new Invocation(incoming, performance.now() + timeoutMs);
    const admitted =
      this.#stats.abandoned >= this.#settings.maxAbandoned
        ? 'refused'
        : this.#admission.offer(invocation);
    if (admitted === 'refused') {
      this.#stats.refused += 1;
      incoming.fail(this.#full());
      return;
    }
    this.#host.live.set(invocation, this);
    if (admitted === 'run') this.#start(invocation);
  }

  /** The deadline has come: R1, R3. */
  expire(invocation: Invocation): void {
    this.giveUp(invocation, this.#late(invocation));
  }

  /** Answers with `error` now, whatever the handler does later. */
  giveUp(invocation: Invocation, error: MillraceError): void {
    invocation.abort(error);
    this.#fail(invocation, error);
    if (!invocation.running) {
      this.#admission.forget();
      return;
    }
    invocation.expired = true;
    this.#stats.abandoned += 1;
    this.#slotFreed();
  }

  /** Starts nothing more: what waits is to be given up, not begun. */
  stop(): void {
    this.#stopped = true;
  }

  #start(invocation: Invocation): void {
    const now = performance.now();
    if (now >= invocation.deadlineMs) {
      // Its deadline came while it waited, and the sweep has not come by yet.
      this.#fail(invocation, this.#late(invocation));
      this.#slotFreed();
      return;
    }
    invocation.running = true;
    invocation.startedAtMs = now;
    try {
      const { incoming } = invocation;
      const data = decodePayload(incoming.type, incoming.body, this.#settings);
      const schema = this.loaded.definition.input;
      if (schema === undefined) this.#handle(invocation, data);
      else
        this.#then(invocation, validate(schema, data), (checked) =>
          this.#checkedInput(invocation, checked),
        );
    } catch (thrown) {
      this.#thrown(invocation, thrown);
    }
  }

  #checkedInput(invocation: Invocation, checked: Validation): void {
    if (checked.ok) {
      this.#handle(invocation, checked.value);
      return;
    }
    const { name } = this.loaded;
    const message = `The input of ${name} is not valid: ${describe(checked.issues)}.`;
    this.#thrown(
      invocation,
      new MillraceError('INVALID_INPUT', message, { details: { issues: checked.issues } }),
    );
  }

  #handle(invocation: Invocation, data: unknown): void {
    const { incoming } = invocation;
    const info: InvocationInfo = {
      id: incoming.eventId,
      attempt: incoming.attempt,
      function: this.loaded.name,
      version: this.loaded.version,
      worker: this.#host.workerId,
    };
    const context = new InvocationContext(invocation, info, this.#host) as Context;
    const result: unknown = this.loaded.definition.handler(eventOf(incoming, data), context);
    this.#then(invocation, result, (value) => this.#returned(invocation, value));
  }

  #returned(invocation: Invocation, value: unknown): void {
    invocation.returned = true;
    const schema = this.loaded.definition.output;
    if (schema === undefined) this.#finish(invocation, value);
    else
      this.#then(invocation, validate(schema, value), (checked) =>
        this.#checkedOutput(invocation, checked),
      );
  }

  #checkedOutput(invocation: Invocation, checked: Validation): void {
    if (checked.ok) {
      this.#finish(invocation, checked.value);
      return;
    }
    const message = `${this.loaded.name} returned what its output schema refuses: ${describe(checked.issues)}.`;
    this.#thrown(
      invocation,
      new MillraceError('FUNCTION_FAILED', message, { details: { issues: checked.issues } }),
    );
  }

  #finish(invocation: Invocation, value: unknown): void {
    const encoded = this.#encodeResult(invocation, value);
    if (invocation.emits.length === 0 || invocation.settled) {
      this.#succeed(invocation, encoded);
      return;
    }
    // R5
    this.#then(invocation, this.#host.publishAll(invocation.emits), () =>
      this.#succeed(invocation, encoded),
    );
  }

  #encodeResult(invocation: Invocation, value: unknown): Encoded {
    try {
      return encodePayload(value, invocation.incoming.type, this.#settings);
    } catch (cause) {
      const { code, message } = cause as MillraceError;
      throw new MillraceError(
        code === 'PAYLOAD_TOO_LARGE' ? code : 'FUNCTION_FAILED',
        `The result of ${this.loaded.name} cannot be sent. ${message}`,
        { cause },
      );
    }
  }

  /** Goes on at once with a plain value, later with a promise's; what is thrown on the way ends the invocation (R4). */
  #then<Value>(
    invocation: Invocation,
    value: Value | PromiseLike<Value>,
    next: (value: Value) => void,
  ): void {
    if (!isPromiseLike(value)) {
      next(value);
      return;
    }
    // A foreign thenable may call back twice, or throw: a real promise does neither.
    Promise.resolve(value).then(
      (resolved) => {
        try {
          next(resolved);
        } catch (thrown) {
          this.#thrown(invocation, thrown);
        }
      },
      (thrown: unknown) => this.#thrown(invocation, thrown),
    );
  }

  #succeed(invocation: Invocation, encoded: Encoded): void {
    if (!invocation.settled) {
      this.#settle(invocation);
      this.#deliver(() => invocation.incoming.answer(encoded));
    }
    this.#ended(invocation);
  }

  #thrown(invocation: Invocation, thrown: unknown): void {
    invocation.returned = true;
    const error = this.#asAnswer(thrown);
    if (!invocation.settled) this.#fail(invocation, error);
    this.#logFailure(invocation, error, thrown);
    this.#ended(invocation);
  }

  #logFailure(invocation: Invocation, error: MillraceError, thrown: unknown): void {
    const { eventId, attempt } = invocation.incoming;
    const { code, message } = error;
    const facts = { function: this.loaded.name, invocation: eventId, attempt, code };
    const level = code === 'INVALID_INPUT' ? 'debug' : 'error';
    logThrown(this.#host.log, level, facts, thrown, message);
  }

  #fail(invocation: Invocation, error: MillraceError): void {
    this.#settle(invocation);
    this.#stats.failed(error.message);
    this.#deliver(() => invocation.incoming.fail(error));
  }

  /** R4: an answer that cannot leave must not leave its slot taken. */
  #deliver(answer: () => void): void {
    try {
      answer();
    } catch (thrown) {
      const facts = { function: this.loaded.name };
      logThrown(this.#host.log, 'warn', facts, thrown, 'an answer was not sent');
    }
  }

  #settle(invocation: Invocation): void {
    invocation.settled = true;
    this.#host.live.delete(invocation);
    const { startedAtMs, incoming } = invocation;
    const durationMs = startedAtMs === 0 ? undefined : performance.now() - startedAtMs;
    this.#stats.ended(incoming.subject, durationMs);
  }

  /** The handler has really ended: its slot is free, unless its timeout has given the slot away already. */
  #ended(invocation: Invocation): void {
    if (invocation.expired) this.#stats.abandoned -= 1;
    else this.#slotFreed();
  }

  /** A loop, not recursion: a handler that ends at once frees its slot while the one before it is being started. */
  #slotFreed(): void {
    this.#freedSlots += 1;
    if (this.#starting || this.#stopped) return;
    this.#starting = true;
    while (this.#freedSlots > 0) {
      this.#freedSlots -= 1;
      const next = this.#admission.release();
      if (next !== undefined) this.#start(next);
    }
    this.#starting = false;
  }

  #late(invocation: Invocation): MillraceError {
    const phase = invocation.running ? 'did not end' : 'was not started';
    return new MillraceError('TIMEOUT', `${this.loaded.name} ${phase} before its deadline.`);
  }

  #full(): MillraceError {
    const { name } = this.loaded;
    if (this.#stats.abandoned >= this.#settings.maxAbandoned) {
      return new MillraceError(
        'UNAVAILABLE',
        `${name} is stopped on this worker: ${this.#stats.abandoned} of its handlers never ended.`,
      );
    }
    return new MillraceError(
      'UNAVAILABLE',
      `${name} is full on this worker: ${this.running} run and ${this.queued} wait.`,
    );
  }

  /**
   * A MillraceError that the handler throws itself is its answer; the failure of a call that it made, or of an event
   * that it wanted to emit, is not: the requester's input was fine.
   */
  #asAnswer(thrown: unknown): MillraceError {
    const own = ownAnswer(thrown);
    if (own !== undefined) return own;
    const { name, code, retryable } = thrownFacts(thrown);
    return new MillraceError(
      'FUNCTION_FAILED',
      `${this.loaded.name} failed: ${messageOf(thrown)}`,
      {
        retryable,
        details: code === undefined ? { name } : { name, code },
        cause: thrown,
      },
    );
  }
}

/** A copy: the handler can have put anything into the original, and a proxy throws even when it is asked what it is. */
function ownAnswer(thrown: unknown): MillraceError | undefined {
  try {
    if (thrown instanceof CallError || thrown instanceof EmitError) return undefined;
    if (!(thrown instanceof MillraceError)) return undefined;
    const { code, details } = thrown;
    const { message, retryable }: { message: unknown; retryable: unknown } = thrown;
    const answer = new MillraceError(code, String(message), {
      retryable: retryable === true,
      details,
      cause: thrown,
    });
    return answer.status > 0 ? answer : undefined;
  } catch {
    return undefined;
  }
}

/** Characters of a thrown error's name or code that travel in the answer. */
const MAX_FACT_LENGTH = 100;

function isPromiseLike<Value>(value: Value | PromiseLike<Value>): value is PromiseLike<Value> {
  return typeof (value as PromiseLike<Value> | null | undefined)?.then === 'function';
}

function thrownFacts(thrown: unknown): {
  name: string;
  code: string | undefined;
  retryable: boolean;
} {
  if (typeof thrown !== 'object' || thrown === null) {
    return { name: typeof thrown, code: undefined, retryable: false };
  }
  try {
    const { name, code, retryable } = thrown as Record<string, unknown>;
    return {
      name: typeof name === 'string' ? name.slice(0, MAX_FACT_LENGTH) : 'Error',
      code: typeof code === 'string' ? code.slice(0, MAX_FACT_LENGTH) : undefined,
      retryable: retryable === true,
    };
  } catch {
    // Its own getters throw.
    return { name: 'Error', code: undefined, retryable: false };
  }
}

function describe(
  issues: readonly { path: readonly (string | number)[]; message: string }[],
): string {
  return issues
    .map(({ path, message }) => (path.length === 0 ? message : `${path.join('.')}: ${message}`))
    .join('; ');
}
