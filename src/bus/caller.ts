/**
 * The calling side: sends calls to workers in frames and brings each an answer.
 *
 * A call is `held` (no live worker is known, or the connection is down), `queued` (chosen a worker, waits for the end
 * of this turn of the event loop, so that calls made together travel together), `sent`, and then settled, once:
 *
 * - C1  Every call settles by its deadline, at most one sweep interval late: answer, coded error, or TIMEOUT.
 * - C2  A call that provably ran nowhere (no responders, or a worker without the function) goes elsewhere, whatever its kind.
 * - C3  A call that may have reached a worker is sent again only if `retry` allows, with its id kept and its attempt
 *       counted; otherwise it fails as UNAVAILABLE with `details.outcome: 'unknown'` once its worker is known dead, or
 *       says after a broken connection that it does not run the call.
 * - C4  A worker counts as dead only when the broker says that nobody listens on its own subject. Silence is not
 *       death: a worker that computes for seconds keeps its calls.
 * - C5  At most `maxCallsInFlight` calls are unsettled; the next one is refused as UNAVAILABLE.
 */
import type { Msg, Subscription } from 'nats';
import { Balancer, type CallEnd } from '../core/balance/balancer.ts';
import type { CallError, MillraceError } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';
import {
  answeredError,
  answerLost,
  cancelled,
  clientClosed,
  notUnderstood,
  noWorker,
  saysNotHere,
  saysNotRunning,
  timedOut,
  tooManyInFlight,
  workerGone,
} from './call-errors.ts';
import {
  callSubject,
  deliver,
  endOf,
  failRefused,
  framesOf,
  inboxToken,
  newCall,
  watchSignal,
  type Call,
  type CallAnswer,
  type CallRequest,
} from './call.ts';
import type { Bus } from './connection.ts';
import {
  callSizeBytes,
  decodeReplies,
  encodeCalls,
  ReplyStatus,
  type OutgoingCall,
} from './frame.ts';
import { HeldCalls, whyHeld } from './held-calls.ts';
import { Members } from './members.ts';
import { SentCalls } from './sent-calls.ts';
import { isNoResponders } from './status.ts';
import { StreamedAnswers } from './streamed-answer.ts';

/** The frame has one byte for it. */
const MAX_ATTEMPT = 255;
/** After our own reconnect workers may still be reconnecting: that nobody listens is no proof of death yet. */
const RECONNECT_GRACE_MS = 2_000;

export class Caller {
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #subjects: Subjects;
  readonly members: Members;
  readonly balancer: Balancer;
  readonly streams: StreamedAnswers;
  /** The worker with the state of a key, if that is known. */
  ownerOf: (key: string) => string | undefined = () => undefined;
  readonly #subscription: Subscription;
  readonly #stopListening: () => void;
  readonly #sent = new SentCalls();
  readonly #held = new HeldCalls();
  /** worker id → calls that leave for it at the end of this turn. */
  readonly #queued = new Map<string, Call[]>();
  /** worker id → when it last gave a sign of life, for those with calls in flight. */
  readonly #heardAtMs = new Map<string, number>();
  #unsettled = 0;
  #flushScheduled = false;
  #sweep: NodeJS.Timeout | undefined;
  #closed = false;
  #graceUntilMs = 0;

  constructor(bus: Bus, settings: Settings, random: () => number = Math.random) {
    this.#bus = bus;
    this.#settings = settings;
    this.#subjects = subjectsOf(settings.namespace);
    this.streams = new StreamedAnswers(bus, settings);
    this.#subscription = bus.subscribe(`${bus.inbox}.c.>`, (message) => this.#onMessage(message));
    this.members = new Members(bus, settings, {
      onAnnounced: (workerId) => this.#onAnnounced(workerId),
      onReconnected: (workerId) => this.#resendLost(workerId),
      onLoads: (workerId, loads) => this.balancer.heard(workerId, loads),
      onNobody: () => this.#onNobody(),
    });
    const warn = (text: string): void => process.emitWarning(text);
    this.balancer = new Balancer(this.members.directory, random, warn);
    const fail = (call: Call, why: MillraceError): void => this.#fail(call, why);
    const stops = [
      bus.onStatus((up) => up && this.#onConnectionBack()),
      bus.onRefused((subject) => failRefused(subject, this.#sent.all(), this.#subjects, fail)),
    ];
    this.#stopListening = () => stops.forEach((stop) => stop());
  }

  get inFlight(): number {
    return this.#unsettled;
  }

  /**
   * Resolves with what `read` makes of the answer, read at once: a further promise for each call would cost as much as
   * its share of the frame. Rejects with a MillraceError, at the latest a sweep interval after the deadline (C1).
   */
  call<Result>(request: CallRequest, read: (answer: CallAnswer) => Result): Promise<Result> {
    return new Promise((resolve, reject) => {
      const refusal = this.#refusal(request);
      if (refusal !== undefined) {
        reject(refusal);
        return;
      }
      const call = newCall(request, read, resolve as (result: unknown) => void, reject);
      watchSignal(call, request.signal, (why) => this.#fail(call, why));
      this.#unsettled += 1;
      this.#route(call);
      this.#sweep ??= setInterval(() => this.#onSweep(), this.#settings.sweepIntervalMs);
    });
  }

  /** Calls that are unsettled are refused as UNAVAILABLE. */
  close(): void {
    this.#closed = true;
    for (const call of this.#unsettledCalls()) this.#fail(call, clientClosed(call.functionName));
    this.streams.close();
    clearInterval(this.#sweep);
    this.#stopListening();
    this.members.close();
    this.#subscription.unsubscribe();
  }

  #refusal({ functionName, signal }: CallRequest): CallError | undefined {
    if (this.#closed) return clientClosed(functionName);
    if (signal?.aborted === true) return cancelled(functionName, signal.reason);
    if (this.#unsettled < this.#settings.maxCallsInFlight) return undefined;
    return tooManyInFlight(functionName, this.#unsettled);
  }

  #route(call: Call, except?: string): void {
    const workerId = this.#bus.up ? this.#pick(call, except) : undefined;
    if (workerId === undefined) {
      this.#hold(call);
      return;
    }
    this.#enqueue(call, workerId);
  }

  #pick({ functionName, key, near: named }: Call, except?: string): string | undefined {
    const { directory } = this.members;
    const near = key === undefined ? named : this.ownerOf(key);
    if (near !== undefined && near !== except && directory.runs(near, functionName)) return near;
    return this.balancer.pick(functionName, performance.now(), except);
  }

  #enqueue(call: Call, workerId: string): void {
    this.#left(call, 'unknown');
    call.workerId = workerId;
    call.begunAtMs = performance.now();
    call.track = this.balancer.begun(call.functionName, workerId, call.begunAtMs);
    call.heldUntilMs = 0;
    const queued = this.#queued.get(workerId);
    if (queued === undefined) this.#queued.set(workerId, [call]);
    else queued.push(call);
    if (!this.#flushScheduled) {
      this.#flushScheduled = true;
      // With nothing in flight there is little to wait for: calls made in one go still travel together.
      if (this.#sent.size === 0) queueMicrotask(() => this.#flush());
      else setImmediate(() => this.#flush());
    }
  }

  #hold(call: Call): void {
    const { rerouteWaitMs, discoveryWaitMs } = this.#settings;
    const known = this.members.wasOffered(call.functionName) || !this.#bus.up;
    if (call.heldUntilMs === 0) {
      call.heldUntilMs = performance.now() + (known ? rerouteWaitMs : discoveryWaitMs);
    }
    this.#left(call, 'unknown');
    call.workerId = '';
    this.#held.add(call);
    this.members.hello();
  }

  #flush(): void {
    this.#flushScheduled = false;
    for (const [workerId, calls] of this.#queued) {
      this.#queued.delete(workerId);
      this.#sendAll(workerId, calls);
    }
  }

  #sendAll(workerId: string, calls: readonly Call[]): void {
    const waiting = calls.filter((call) => !call.settled);
    for (const frame of framesOf(waiting, this.#settings, this.#bus.outside)) {
      this.#sendFrame(workerId, frame.items, frame.sizeBytes);
    }
  }

  #sendFrame(workerId: string, calls: readonly Call[], sizeBytes: number): void {
    const firstId = this.#sent.freeIds(calls.length);
    const now = performance.now();
    for (const call of calls) {
      // At least a millisecond: a zero would mean "already late" to the receiver.
      call.timeoutMs = Math.max(1, Math.ceil(call.deadlineMs - now));
    }
    try {
      this.#publishFrame(workerId, firstId, calls, sizeBytes);
    } catch {
      // Down since they were queued: nothing was sent, so they wait for the connection.
      for (const call of calls) this.#hold(call);
      return;
    }
    if (!this.#heardAtMs.has(workerId)) this.#heardAtMs.set(workerId, now);
    this.#sent.add(firstId, calls);
  }

  /** Throws UNAVAILABLE while the connection is down. */
  #publishFrame(to: string, firstId: number, calls: readonly OutgoingCall[], size: number): void {
    const reply = `${this.#bus.inbox}.c.f.${firstId}.${calls.length}`;
    const subject = callSubject(this.#subjects, to, calls, this.#bus.outside);
    this.#bus.publish(subject, encodeCalls(firstId, calls, size), { reply });
  }

  /** Subjects below our inbox: `c.r` replies, `c.f.<firstId>.<count>` a frame's fate, `c.p.<worker>` a probe's. */
  #onMessage(message: Msg): void {
    const kind = message.subject.charAt(this.#bus.inbox.length + 3);
    if (kind === 'r') this.#onReplies(message.data);
    else if (kind === 'f') this.#onFrameRefused(message);
    else if (kind === 'p') this.#onProbed(message);
  }

  #onReplies(data: Uint8Array): void {
    const replies = decodeReplies(data);
    if (replies === undefined) return;
    let heardFrom = '';
    for (const reply of replies) {
      const call = this.#sent.get(reply.callId);
      if (call === undefined) {
        if (reply.status === ReplyStatus.parts) this.streams.refuse(reply);
        continue;
      }
      if (call.workerId !== heardFrom) {
        heardFrom = call.workerId;
        this.#heardAtMs.set(heardFrom, performance.now());
      }
      if (reply.status !== ReplyStatus.error) {
        this.#settle(call, call.saysFailed?.(reply) === true ? 'failed' : 'succeeded');
        deliver(call, reply);
      } else {
        this.#onFailed(call, answeredError(call.functionName, reply.body, this.#settings));
      }
    }
  }

  #onFailed(call: Call, error: CallError): void {
    if (call.asked && saysNotRunning(error)) {
      this.#fail(call, answerLost(call.functionName, call.attempt));
    } else if (!saysNotHere(error) || !this.#goElsewhere(call)) this.#fail(call, error);
  }

  /** C2: its worker has just dropped the function and ran nothing; others may still have it. */
  #goElsewhere(call: Call): boolean {
    call.misses += 1;
    const other = this.#pick(call, call.workerId);
    if (other === undefined || other === call.workerId) return false;
    if (call.misses >= this.#settings.maxCallAttempts) return false;
    this.#sent.delete(call);
    this.#enqueue(call, other);
    return true;
  }

  /** C2: no responders on a worker's call subject, so none of the frame's calls reached anybody. */
  #onFrameRefused(message: Msg): void {
    const [first = 0, count = 0] = message.subject.split('.').slice(-2).map(Number);
    // Anybody who knows our inbox could name any numbers.
    if (!Number.isSafeInteger(first) || !(count <= this.#settings.frameMaxCalls)) return;
    const calls = this.#sent.frame(first, count);
    const refused = isNoResponders(message);
    const workerId = calls[0]?.workerId ?? '';
    if (refused && workerId !== '') {
      this.members.directory.remove(workerId);
      this.#probe(workerId);
    }
    for (const call of calls) {
      // It was the question that reached nobody: a worker that drains still answers what it runs.
      if (refused && call.asked) continue;
      this.#sent.delete(call);
      if (refused) this.#route(call);
      else this.#fail(call, notUnderstood(call.functionName, workerId));
    }
  }

  #probe(workerId: string): void {
    const now = performance.now();
    if (!this.#bus.up || now < this.#graceUntilMs) return;
    this.#heardAtMs.set(workerId, now);
    this.#bus.publish(this.#subjects.workerPing(workerId), new Uint8Array(), {
      reply: `${this.#bus.inbox}.c.p.${workerId}`,
    });
  }

  /** C4: the broker's word that nobody listens on the worker's own subject. */
  #onProbed(message: Msg): void {
    const workerId = message.subject.slice(message.subject.lastIndexOf('.') + 1);
    if (!isNoResponders(message)) {
      this.#heardAtMs.set(workerId, performance.now());
      this.#resendSuspects(workerId);
      return;
    }
    this.members.directory.remove(workerId);
    this.#heardAtMs.delete(workerId);
    for (const call of this.#sent.to(workerId)) {
      if (!this.#tryAgain(call)) this.#fail(call, workerGone(call.functionName, call.attempt));
    }
  }

  /** The worker is back on a new connection: frames to it or its answers may be lost. */
  #resendLost(workerId: string): void {
    for (const call of this.#sent.to(workerId)) this.#sendAgain(call);
  }

  /** What is in flight may be lost; its workers live, as far as we know, and will say so in a moment. */
  #onConnectionBack(): void {
    this.#graceUntilMs = performance.now() + RECONNECT_GRACE_MS;
    for (const call of this.#sent.all()) call.suspect = true;
    this.#routeHeld();
  }

  #resendSuspects(workerId: string): void {
    for (const call of this.#sent.to(workerId)) if (call.suspect) this.#sendAgain(call);
  }

  /** To the same worker, which knows whether it has the call already: elsewhere it would run a second time. */
  #sendAgain(call: Call): void {
    call.suspect = false;
    if (call.retry) {
      this.#repeat(call);
      this.#enqueue(call, call.workerId);
    } else if (this.#bus.up) this.#ask(call);
  }

  /**
   * C3: does its worker still run it? The call again, as a later attempt and with no time left, is started nowhere: a
   * worker that runs it answers when it ends, any other refuses it at once. It keeps its number, so that the first
   * answer counts, whether the worker gave it before or after it was asked.
   */
  #ask(call: Call): void {
    call.asked = true;
    const question = { ...call, attempt: call.attempt + 1, timeoutMs: 0 };
    this.#publishFrame(call.workerId, call.wireId, [question], callSizeBytes(question));
  }

  /** C3: its worker is proven dead. */
  #tryAgain(call: Call): boolean {
    if (!call.retry || call.deaths + 1 >= this.#settings.maxCallAttempts) return false;
    call.deaths += 1;
    this.#repeat(call);
    this.#route(call, call.workerId);
    return true;
  }

  #repeat(call: Call): void {
    this.#sent.delete(call);
    // From here on the id is explicit: derived from the number of the first sending, the same in every attempt.
    if (call.eventId === '') call.eventId = `${inboxToken(this.#bus.inbox)}-${call.wireId}`;
    call.attempt = Math.min(call.attempt + 1, MAX_ATTEMPT);
  }

  #onAnnounced(workerId: string): void {
    this.#resendSuspects(workerId);
    this.#routeHeld();
  }

  #onNobody(): void {
    for (const call of this.#held.take(
      ({ functionName }) => !this.members.wasOffered(functionName),
    )) {
      this.#fail(call, noWorker(call.functionName));
    }
  }

  #routeHeld(): void {
    for (const call of this.#held.take()) this.#route(call);
  }

  /** C1, and the probes that C4 needs: one pass over the unsettled calls instead of a timer for each. */
  #onSweep(): void {
    const now = performance.now();
    if (this.#unsettled === 0) {
      clearInterval(this.#sweep);
      this.#sweep = undefined;
      this.#heardAtMs.clear();
      return;
    }
    const silent = new Set<string>();
    const silentSince = now - this.#settings.probeAfterMs;
    for (const call of this.#unsettledCalls()) {
      if (now >= call.deadlineMs) this.#fail(call, timedOut(call.functionName, call.wireId !== 0));
      else if (call.wireId !== 0 && (this.#heardAtMs.get(call.workerId) ?? now) < silentSince) {
        silent.add(call.workerId);
      }
    }
    for (const workerId of silent) if (workerId !== '') this.#probe(workerId);
    for (const call of this.#held.take(({ heldUntilMs }) => now >= heldUntilMs)) {
      this.#fail(call, whyHeld(call.functionName, this.#bus.up, this.members));
    }
    if (this.#held.size > 0) this.members.hello();
  }

  #settle(call: Call, end: CallEnd): void {
    this.#left(call, end);
    call.settled = true;
    call.unwatch?.();
    this.#unsettled -= 1;
    this.#sent.delete(call);
  }

  #fail(call: Call, error: MillraceError): void {
    if (call.settled) return;
    this.#settle(call, endOf(error));
    call.reject(error);
  }

  /** What it says of the worker that has it, if one has. */
  #left(call: Call, end: CallEnd): void {
    const { track, functionName, workerId, begunAtMs } = call;
    if (workerId === '' || (track === undefined && end !== 'failed')) return;
    call.track = undefined;
    const now = performance.now();
    this.balancer.ended(functionName, workerId, track, end, now - begunAtMs, now);
  }

  #unsettledCalls(): Call[] {
    const queued = [...this.#queued.values()].flat();
    return [...this.#sent.all(), ...this.#held.all(), ...queued].filter((call) => !call.settled);
  }
}
