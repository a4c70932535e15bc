/** How busy this worker has been in the last seconds: its thread, and each function. Looked at once a second. */
import { performance } from 'node:perf_hooks';
import type { FunctionStats } from './stats.ts';

/** Of the last so many seconds. */
const WINDOW = 5;
const SAMPLE_MS = 1_000;

interface Sample {
  atMs: number;
  elu: ReturnType<typeof performance.eventLoopUtilization>;
  /** By function: calls that have ended, and the milliseconds that they took. */
  functions: Map<string, [calls: number, processingMs: number]>;
}

export interface FunctionLoad {
  /** Runs that ended, in a second. */
  perSecond: number;
  /** Under way at once, on average. */
  busy: number;
}

export class LoadMeter {
  readonly #stats: ReadonlyMap<string, FunctionStats>;
  readonly #samples: Sample[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor(stats: ReadonlyMap<string, FunctionStats>) {
    this.#stats = stats;
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
    const [calls, processingMs] = first.functions.get(functionName) ?? [0, 0];
    const elapsedMs = Math.max(1, performance.now() - first.atMs);
    return {
      perSecond: ((stats.calls - calls) * 1_000) / elapsedMs,
      busy: (stats.processingMs - processingMs) / elapsedMs,
    };
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #sample(): void {
    const functions = new Map<string, [number, number]>();
    for (const [name, { calls, processingMs }] of this.#stats) {
      functions.set(name, [calls, processingMs]);
    }
    const elu = performance.eventLoopUtilization();
    this.#samples.push({ atMs: performance.now(), elu, functions });
    if (this.#samples.length > WINDOW) this.#samples.shift();
  }
}
