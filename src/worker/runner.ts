/**
 * Runs one version of one function on this worker.
 *
 * - R1  Every accepted invocation is answered once: result, coded error, or TIMEOUT at its deadline.
 * - R2  At most `concurrency` handlers hold a slot, at most `maxQueued` invocations wait, the next is refused.
 * - R3  A handler that outlives its deadline loses its slot, so that it cannot stop the function; how many such
 *       handlers there are is counted, and beyond `maxAbandoned` new invocations are refused.
 * - R4  Nothing that a handler does or throws reaches the caller of these methods.
 * - R5  Emitted events are published after the handler has succeeded and before its answer; with state they are part of
 *       the transaction, which is committed before the answer.
 * - R6  What a handler read is true before anyone hears of it, its error included: the transaction is committed, without
 *       its writes if the handler threw, before the answer. A transaction that is refused is run again, unseen.
 */
import { Admission } from '../core/admission.ts';
import type { PreparedEvent } from '../bus/publisher.ts';
import { MillraceError } from '../core/errors.ts';
import { ContentType, type Encoded } from '../core/payload.ts';
import type { Settings } from '../core/settings.ts';
import type { Failure } from '../core/state/transaction.ts';
import type { Context, FunctionEvent } from '../function/context.ts';
import { slotsOf } from '../function/isolation.ts';
import type { LoadedFunction } from '../function/load.ts';
import { answerKey, firstAnswer } from '../state/answers.ts';
import { refusalFor, type Attempt, type WrittenCollections } from '../state/attempt.ts';
import type { Joinable } from '../state/join.ts';
import { encodeEmit } from '../state/outbox.ts';
import { inSpan } from '../telemetry/tracing.ts';
import { answerFor, encodeResult } from './answers.ts';
import { complete } from './complete.ts';
import { deliveriesOf, without } from './delivered.ts';
import { Invocation, InvocationContext, type Incoming } from './invocation.ts';
import { logThrown } from './log-thrown.ts';
import { logFailure } from './logs/failure.ts';
import { isPromiseLike } from './promise-like.ts';
import { isAsyncIterable, runInParts } from './parts.ts';
import type { RunnerHost } from './runner-host.ts';
import { checkedOutput, readEvent } from './read-event.ts';
import { answerToKeep, waitBeforeRun } from './run-again.ts';
import { full, late, noState } from './refusals.ts';
import { settledOf, settleWith } from './settle-event.ts';
import type { FunctionStats } from './stats.ts';
import { attemptOf, beginRun, endRun } from './traced.ts';

/** What was thrown where a handler has thrown nothing at all: `throw undefined`. */
const UNDEFINED = new Error('undefined was thrown');
/** What a handler of an event answers. */
const NOTHING: Encoded = { type: ContentType.empty, body: '' };

export class FunctionRunner {
  readonly loaded: LoadedFunction;
  /** Runs at once, at most. */
  readonly slots: number;
  readonly stats: FunctionStats;
  readonly #settings: Settings;
  readonly #host: RunnerHost;
  readonly #admission: Admission<Invocation>;
  readonly #written: WrittenCollections = new Set();
  #freedSlots = 0;
  #starting = false;
  #stopped = false;

  constructor(loaded: LoadedFunction, stats: FunctionStats, settings: Settings, host: RunnerHost) {
    this.loaded = loaded;
    this.stats = stats;
    this.#settings = settings;
    this.#host = host;
    this.slots = slotsOf(loaded.definition, settings.concurrency);
    this.#admission = new Admission(this.slots, settings.maxQueued, ({ settled }) => settled);
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
      this.stats.abandoned >= this.#settings.maxAbandoned
        ? 'refused'
        : this.#admission.offer(invocation);
    if (admitted === 'refused') {
      this.stats.refused += 1;
      const { abandoned } = this.stats;
      const stuck = abandoned >= this.#settings.maxAbandoned ? abandoned : 0;
      incoming.fail(full(this.loaded.name, this, stuck));
      return;
    }
    this.#host.live.add(invocation, this);
    if (admitted === 'run') this.#start(invocation);
  }

  /** The deadline has come: R1, R3. */
  expire(invocation: Invocation): void {
    this.giveUp(invocation, late(this.loaded.name, invocation));
  }

  /** Answers with `error` now, whatever the handler does later. */
  giveUp(invocation: Invocation, error: MillraceError): void {
    invocation.abort(error);
    const own = invocation.running && error.code === 'TIMEOUT';
    this.#fail(invocation, error, own ? error : undefined);
    invocation.attempt?.transaction.abandon();
    if (!invocation.running) {
      this.#admission.forget();
      return;
    }
    invocation.expired = true;
    this.stats.abandoned += 1;
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
      this.#fail(invocation, late(this.loaded.name, invocation));
      this.#slotFreed();
      return;
    }
    invocation.running = true;
    invocation.startedAtMs = now;
    const { tracing, runTraces } = this.#host;
    if (tracing !== undefined) beginRun(tracing, this.#host, this.loaded, invocation);
    if (runTraces?.followed === true) runTraces.begin(this.loaded, invocation);
    this.#run(invocation);
  }

  #run(invocation: Invocation): void {
    const { delivery } = invocation.incoming;
    try {
      if (delivery?.again === true) this.#unlessSettled(invocation);
      else if (!this.#mayBeKnown(invocation)) this.#decode(invocation);
      else
        this.#then(
          invocation,
          firstAnswer(this.#attempt(invocation), this.#answerKey(invocation)),
          (first) => {
            if (first === undefined) this.#decode(invocation);
            else this.#succeed(invocation, first);
          },
        );
    } catch (thrown) {
      this.#thrown(invocation, thrown);
    }
  }

  #decode(invocation: Invocation): void {
    const event = readEvent(invocation.incoming, this.loaded, this.#settings);
    this.#then(invocation, event, (read) => this.#handle(invocation, read));
  }

  #handle(invocation: Invocation, event: FunctionEvent): void {
    invocation.event = event;
    const { joined } = invocation.incoming;
    const transaction = (): Joinable => joined ?? this.#attempt(invocation);
    const { loaded } = this;
    const context = new InvocationContext(invocation, loaded, this.#host, transaction) as Context;
    const { handler } = this.loaded.definition;
    const span = invocation.trace?.span;
    const result: unknown =
      span === undefined ? handler(event, context) : inSpan(span, () => handler(event, context));
    this.#then(invocation, result, (value) => this.#returned(invocation, value));
  }

  #returned(invocation: Invocation, value: unknown): void {
    if (isAsyncIterable(value)) {
      const { loaded } = this;
      const cancel = (): void => this.#cancel(invocation);
      const options = { loaded, settings: this.#settings, host: this.#host, cancel };
      this.#then(invocation, runInParts(invocation, value, options), (whole) => {
        invocation.handlerEnded();
        this.#finish(invocation, whole);
      });
      return;
    }
    invocation.handlerEnded();
    this.#then(invocation, checkedOutput(this.loaded, value), (checked) =>
      this.#finish(invocation, checked),
    );
  }

  /** Nobody wants its answer any more. */
  #cancel(invocation: Invocation): void {
    const message = `${this.loaded.name} is not listened to any more.`;
    if (!invocation.settled) this.giveUp(invocation, new MillraceError('CANCELLED', message));
  }

  #finish(invocation: Invocation, value: unknown): void {
    const { attempt, emits, settled, sender } = invocation;
    if (!settled && sender === undefined) complete(invocation, this.loaded, this.#host);
    const { joined, delivery, type } = invocation.incoming;
    // Nobody waits for what a handler makes of an event.
    const encoded =
      delivery === undefined
        ? encodeResult(this.loaded.name, value, type, this.#settings, this.#host.secrets)
        : NOTHING;
    if (settled) this.#succeed(invocation, encoded);
    else if (delivery !== undefined && (emits.length > 0 || attempt?.wrote === true)) {
      this.#settleEvent(invocation);
    } else if (joined !== undefined) {
      // The transaction is its caller's to commit.
      const taken = Promise.all(emits.map(async (emit) => joined.emit(emit)));
      this.#then(invocation, taken, () => this.#succeed(invocation, encoded));
    } else if (attempt !== undefined && attempt.transaction.size > 0) {
      // R6
      this.#keepAnswer(invocation, attempt, encoded);
      attempt.over();
      this.#then(invocation, attempt.commit(emits.map((emit) => encodeEmit(emit))), () =>
        this.#succeed(invocation, encoded),
      );
    } else if (emits.length === 0) this.#succeed(invocation, encoded);
    else {
      // R5
      this.#then(invocation, this.#host.publishAll(emits), () =>
        this.#succeed(invocation, encoded),
      );
    }
  }

  #settleEvent(invocation: Invocation): void {
    const attempt = this.#attempt(invocation);
    const emits = invocation.emits.map((emit) => encodeEmit(emit));
    const deliveries = deliveriesOf(invocation.incoming);
    attempt.over();
    this.#host.past(this.loaded.name, deliveries).then(
      (past) => {
        const settling = settleWith(attempt, this.loaded.name, deliveries, emits, past);
        this.#then(invocation, settling, (settled) => {
          if (settled.size === 0) this.#succeed(invocation, NOTHING);
          else this.#goOnWithout(invocation, settled);
        });
      },
      // The platform's failure and no attempt of the function's.
      (error: MillraceError) => this.#failed(invocation, error),
    );
  }

  /** They may have run before. */
  #unlessSettled(invocation: Invocation): void {
    const deliveries = deliveriesOf(invocation.incoming);
    const asked = settledOf(this.#attempt(invocation), this.loaded.name, deliveries);
    this.#then(invocation, asked, (settled) => {
      if (settled.size > 0) this.#goOnWithout(invocation, settled);
      else {
        this.#endAttempt(invocation);
        this.#decode(invocation);
      }
    });
  }

  /** Of a batch the others are run. */
  #goOnWithout(invocation: Invocation, settled: ReadonlySet<number>): void {
    const rest = without(invocation.incoming, settled);
    if (rest === undefined || invocation.settled) {
      this.#succeed(invocation, NOTHING);
      return;
    }
    this.#endAttempt(invocation);
    invocation.beginAgain();
    invocation.answerTo(rest);
    this.#decode(invocation);
  }

  /** In the same transaction as its effects: a repeated request gets this answer, whichever worker it reaches. */
  #keepAnswer(invocation: Invocation, { transaction }: Attempt, encoded: Encoded): void {
    const { repeats } = invocation.incoming;
    // S2: its caller has heard of it, so that the call does not come again.
    if (invocation.sender !== undefined) return;
    if (repeats === 'never' || (repeats === 'call' && !transaction.writes)) return;
    const answer = answerToKeep(invocation.incoming, encoded, this.#settings);
    transaction.write(this.#answerKey(invocation), answer, performance.now());
  }

  /** A request with an id of its own, or a call that comes again because its worker died, may have an answer already. */
  #mayBeKnown({ incoming: { repeats, attempt } }: Invocation): boolean {
    if (this.#host.transactions === undefined || repeats === 'never') return false;
    return repeats === 'id' || attempt > 1;
  }

  #answerKey({ incoming: { eventId } }: Invocation): string {
    return answerKey(this.loaded.name, eventId);
  }

  #attempt(invocation: Invocation): Attempt {
    const { transactions } = this.#host;
    if (transactions === undefined) throw noState();
    if (invocation.attempt === undefined) {
      const transaction = transactions.begin(invocation.deadlineMs, invocation.age);
      invocation.age = transaction.identity.age;
      const add = (event: PreparedEvent): void => invocation.addEvent(event);
      const own = [transaction, this.#settings, this.#written, add] as const;
      const attempt = attemptOf(this.#host.tracing, invocation, ...own);
      transactions.attempts.set(transaction.identity.id, attempt);
      invocation.attempt = attempt;
    }
    return invocation.attempt;
  }

  #endAttempt(invocation: Invocation): void {
    const { attempt } = invocation;
    if (attempt !== undefined) this.#host.transactions?.ended(attempt.transaction);
    invocation.attempt = undefined;
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
    this.#endAttempt(invocation);
    if (!invocation.settled) {
      this.#settle(invocation);
      this.#deliver(() => invocation.incoming.answer(encoded));
    }
    this.#ended(invocation);
  }

  #thrown(invocation: Invocation, thrown: unknown): void {
    invocation.handlerEnded();
    const { attempt } = invocation;
    const { joined } = invocation.incoming;
    // What it wrote in its caller's transaction cannot be told from the rest.
    if (joined?.wrote === true) {
      void joined.doom(`${this.loaded.name}, which took part in the transaction, failed.`);
    }
    const failure = attempt?.transaction.failure;
    if (failure !== undefined) this.#interrupted(invocation, failure);
    else if (attempt === undefined || invocation.settled || attempt.transaction.size === 0) {
      this.#failed(invocation, answerFor(this.loaded.name, thrown), thrown ?? UNDEFINED);
    } else {
      // R6: what it threw for may have been another transaction's doing that is not committed in the end.
      attempt.over();
      attempt.forgetWrites();
      attempt.commit([]).then(
        () => this.#failed(invocation, answerFor(this.loaded.name, thrown), thrown ?? UNDEFINED),
        () => this.#interrupted(invocation, attempt.transaction.failure as Failure),
      );
    }
  }

  /** `thrown`: where it is the function's own failure. */
  #failed(invocation: Invocation, error: MillraceError, thrown?: unknown): void {
    this.#endAttempt(invocation);
    if (!invocation.settled) this.#fail(invocation, error, thrown);
    // One that was cancelled may end as it likes.
    if (invocation.sender?.gone !== true) {
      logFailure(this.#host, this.loaded.name, invocation, error, thrown ?? error);
    }
    this.#ended(invocation);
  }

  /** Its transaction was refused: the handler is run again, with the same age, until it is told that it can't be. */
  #interrupted(invocation: Invocation, failure: Failure): void {
    this.#endAttempt(invocation);
    const { maxTransactionAttempts } = this.#settings;
    // S5: what it has sent cannot be taken back.
    const once = this.#stopped || (invocation.gaveParts && invocation.sender !== undefined);
    const waitMs = once ? undefined : waitBeforeRun(invocation, failure, maxTransactionAttempts);
    if (waitMs === undefined) {
      this.#failed(invocation, refusalFor(failure, this.loaded.name, invocation.runs));
      return;
    }
    invocation.beginAgain();
    setTimeout(() => {
      // Its deadline may have come meanwhile.
      if (invocation.settled) this.#ended(invocation);
      else this.#run(invocation);
    }, waitMs);
  }

  #fail(invocation: Invocation, raw: MillraceError, thrown?: unknown): void {
    const { secrets } = this.#host;
    const error = secrets.cleanError(raw);
    this.#settle(invocation, error);
    if (invocation.sender?.gone !== true) this.stats.failed(error.message);
    this.#deliver(() => invocation.incoming.fail(error, secrets.cleanThrown(thrown)));
  }

  /** R4: an answer that cannot leave must not leave its slot taken. */
  #deliver(answer: () => void): void {
    try {
      answer();
    } catch (thrown) {
      logThrown(this.#host.logOf(this.loaded.name), 'warn', {}, thrown, 'an answer was not sent');
    }
  }

  #settle(invocation: Invocation, error?: MillraceError): void {
    invocation.settled = true;
    if (invocation.trace !== undefined) endRun(invocation, error);
    invocation.followed?.end(error);
    this.#host.live.delete(invocation);
    const { startedAtMs, incoming } = invocation;
    const durationMs = startedAtMs === 0 ? undefined : performance.now() - startedAtMs;
    this.stats.ended(incoming.subject, durationMs);
  }

  /** The handler has really ended: its slot is free, unless its timeout has given the slot away already. */
  #ended(invocation: Invocation): void {
    if (invocation.expired) this.stats.abandoned -= 1;
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
}
