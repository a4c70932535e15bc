/**
 * Runs as they end, for whoever follows them over NATS: what the dashboard draws, without a collector.
 *
 * - G1  Nobody follows: one comparison for each run, nothing is noted, sent or carried. Followers say again and again that they are there.
 * - G2  What is noted is bounded: so many traces that begin here and so many runs in a second, so many bytes; the rest is run as ever.
 */
import { randomBytes } from 'node:crypto';
import type { Subscription } from 'nats';
import type { Bus } from '../../bus/connection.ts';
import { readControl } from '../../bus/messages.ts';
import { causeOf, RUN_HEADER, runAskSchema, type Run } from '../../bus/run-traces.ts';
import { isOwnFunction } from '../../core/names.ts';
import type { Settings } from '../../core/settings.ts';
import { subjectsOf } from '../../core/subjects.ts';
import type { LoadedFunction } from '../../function/load.ts';
import { traceOf } from '../../telemetry/propagation.ts';
import type { Invocation } from '../invocation.ts';
import { FollowedRun } from './followed-run.ts';

/** On one worker. What continues a trace goes first: half a trace is of little use. */
const MAX_TRACES_PER_SECOND = 20;
const MAX_RUNS_PER_SECOND = 500;
const MAX_BYTES_PER_SECOND = 512 * 1024;
/** Runs that end together travel together. */
const SEND_AFTER_MS = 100;
const WINDOW_MS = 1_000;

interface RunTracesOptions {
  bus: Bus;
  settings: Settings;
  workerId: string;
}

export class RunTraces {
  readonly #bus: Bus;
  readonly #workerId: string;
  readonly #subject: string;
  readonly #asks: Subscription;
  /** Somebody has asked, not long ago. */
  followed = false;
  #followedUntilMs = 0;
  #windowFromMs = Number.NEGATIVE_INFINITY;
  /** The system's clock less the process's: looked at once in a window, for it may be set. */
  #wallMs = 0;
  #traces = 0;
  #runs = 0;
  #bytes = 0;
  #unsent: string[] = [];
  #dropped = 0;
  #sending: NodeJS.Timeout | undefined;

  constructor({ bus, settings, workerId }: RunTracesOptions) {
    this.#bus = bus;
    this.#workerId = workerId;
    const subjects = subjectsOf(settings.namespace);
    this.#subject = subjects.runs(workerId);
    this.#asks = bus.subscribe(subjects.runsAsk, ({ data }) => {
      const ask = readControl(runAskSchema, data);
      if (ask === undefined) return;
      // Of several followers the one that stays longest counts; they renew in time.
      this.#followedUntilMs = Math.max(this.#followedUntilMs, performance.now() + ask.forMs);
      this.followed = true;
    });
  }

  /** The run has just started: from here on it is noted, or not (G2). */
  begin({ name, version }: LoadedFunction, invocation: Invocation): void {
    const { incoming, startedAtMs } = invocation;
    if (isOwnFunction(name) || !this.#isFollowed(startedAtMs)) return;
    this.#window(startedAtMs);
    const cause = causeOf(incoming.cause ?? incoming.headers[RUN_HEADER]);
    if (cause === undefined) {
      if (this.#traces >= MAX_TRACES_PER_SECOND) return;
      this.#traces += 1;
    }
    if (this.#runs >= MAX_RUNS_PER_SECOND) {
      this.#dropped += 1;
      return;
    }
    this.#runs += 1;
    // A trace that came in is found in the dashboard under its own id.
    const trace = cause?.trace ?? traceOf(incoming.headers)?.traceId ?? newId(16);
    const begun = {
      trace,
      run: newId(8),
      ...(cause === undefined ? {} : { parent: cause.run }),
      function: name,
      version,
      worker: this.#workerId,
      startedAtMs: this.#wallMs + startedAtMs,
    };
    invocation.followed = new FollowedRun(begun, invocation, (run) => this.#ended(run));
  }

  close(): void {
    this.#asks.unsubscribe();
    this.followed = false;
    clearTimeout(this.#sending);
    this.#send();
  }

  #isFollowed(nowMs: number): boolean {
    this.followed = nowMs < this.#followedUntilMs;
    return this.followed;
  }

  #window(nowMs: number): void {
    if (nowMs - this.#windowFromMs < WINDOW_MS) return;
    this.#windowFromMs = nowMs;
    this.#wallMs = Date.now() - performance.now();
    this.#traces = 0;
    this.#runs = 0;
    this.#bytes = 0;
  }

  #ended(run: Run): void {
    const text = JSON.stringify(run);
    this.#bytes += text.length;
    if (this.#bytes > MAX_BYTES_PER_SECOND) this.#dropped += 1;
    else this.#unsent.push(text);
    this.#sending ??= setTimeout(() => this.#send(), SEND_AFTER_MS);
  }

  #send(): void {
    this.#sending = undefined;
    const runs = this.#unsent;
    const dropped = this.#dropped;
    if (runs.length + dropped === 0) return;
    this.#unsent = [];
    this.#dropped = 0;
    const worker = JSON.stringify(this.#workerId);
    const message = `{"worker":${worker},"runs":[${runs.join(',')}],"dropped":${dropped}}`;
    try {
      this.#bus.publish(this.#subject, Buffer.from(message));
    } catch {
      // The connection is down, and nobody follows over it.
      this.#dropped = dropped + runs.length;
    }
  }
}

function newId(bytes: number): string {
  return randomBytes(bytes).toString('hex');
}
