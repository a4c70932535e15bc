/** How busy this worker has been in the last seconds: its thread, and each function. Looked at once a second. */
import { performance } from 'node:perf_hooks';
import type { RunnerHost } from './runner-host.ts';
import type { FunctionStats } from './stats.ts';

/** Of the last so many seconds. */
const WINDOW = 5;
const SAMPLE_MS = 1_000;

interface Counts extends Pick<FunctionStats, 'calls' | 'processingMs' | 'timed'> {
  /** So far, of runs that have not ended. */
  underWayMs: number;
}

interface Sample {
  atMs: number;
  elu: ReturnType<typeof performance.eventLoopUtilization>;
  /** By function. */
  functions: Map<string, Counts>;
}

const NOTHING: Counts = { calls: 0, processingMs: 0, timed: 0, underWayMs: 0 };

export interface FunctionLoad {
  /** Runs that ended, in a second. */
  perSecond: number;
  /** Under way at once, on average. */
  busy: number;
}

export class LoadMeter {
  readonly #stats: ReadonlyMap<string, FunctionStats>;
  readonly #live: RunnerHost['live'];
  readonly #samples: Sample[] = [];
  /** By function. */
  readonly #serviceMs = new Map<string, number>();
  readonly #timer: NodeJS.Timeout;

  constructor(stats: ReadonlyMap<string, FunctionStats>, live: RunnerHost['live']) {
    this.#stats = stats;
    this.#live = live;
    this.#sample();
    this.#timer = setInterval(() => this.#sample(), SAMPLE_MS);
    this.#timer.unref();
  }

  /** Share of the time in which the worker's thread had something to do, 0 to 1. */
  get utilization(): number {
    const [first] = this.#samples;
    if (first === undefined) return 0;
    return performance.eventLoopUtilization(performance.eventLoopUtilization(), first.elu)
      .utilization;
  }

  of(functionName: string): FunctionLoad {
    const [first] = this.#samples;
    const stats = this.#stats.get(functionName);
    if (first === undefined || stats === undefined) return { perSecond: 0, busy: 0 };
    const { calls, processingMs, underWayMs } = first.functions.get(functionName) ?? NOTHING;
    const workedMs = this.#underWay().get(functionName) ?? 0;
    const elapsedMs = Math.max(1, performance.now() - first.atMs);
    return {
      perSecond: ((stats.calls - calls) * 1_000) / elapsedMs,
      busy: (stats.processingMs + workedMs - processingMs - underWayMs) / elapsedMs,
    };
  }

  /** How long a run takes lately, in milliseconds; undefined before the first one has ended. */
  serviceMs(functionName: string): number | undefined {
    return this.#serviceMs.get(functionName);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** By function, how long those have run that run now. */
  #underWay(): Map<string, number> {
    const now = performance.now();
    const sums = new Map<string, number>();
    for (const [{ running, startedAtMs }, { loaded }] of this.#live) {
      if (running) sums.set(loaded.name, (sums.get(loaded.name) ?? 0) + now - startedAtMs);
    }
    return sums;
  }

  #sample(): void {
    const before = this.#samples.at(-1)?.functions;
    const functions = new Map<string, Counts>();
    const underWay = this.#underWay();
    for (const [name, { calls, processingMs, timed }] of this.#stats) {
      const underWayMs = underWay.get(name) ?? 0;
      functions.set(name, { calls, processingMs, timed, underWayMs });
      const last = before?.get(name) ?? NOTHING;
      if (timed === last.timed) continue;
      // Half and half with what it was before.
      const meanMs = (processingMs - last.processingMs) / (timed - last.timed);
      this.#serviceMs.set(name, ((this.#serviceMs.get(name) ?? meanMs) + meanMs) / 2);
    }
    const elu = performance.eventLoopUtilization();
    this.#samples.push({ atMs: performance.now(), elu, functions });
    if (this.#samples.length > WINDOW) this.#samples.shift();
  }
}
