/** What every Node process can say of itself, under the names that Prometheus' own clients use. */
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import type { AddSample, MetricCatalog } from './metrics.ts';

const gauge = (help: string) => ({ type: 'gauge', help, labels: [] }) as const;
const counter = (help: string) => ({ type: 'counter', help, labels: [] }) as const;

export const PROCESS_METRICS = {
  process_cpu_seconds_total: counter('CPU time of the process, user and system.'),
  process_resident_memory_bytes: gauge('Memory of the process.'),
  process_start_time_seconds: gauge('When the process began, in seconds since 1970.'),
  nodejs_heap_size_used_bytes: gauge('Used heap of V8.'),
  nodejs_eventloop_lag_p50_seconds: gauge('Median delay of timers since the scrape before.'),
  nodejs_eventloop_lag_p99_seconds: gauge('99th percentile of it.'),
  nodejs_eventloop_lag_max_seconds: gauge('The longest of it.'),
} as const satisfies MetricCatalog;

/** How exactly the delay of timers is looked at. */
const RESOLUTION_MS = 10;
const NANOSECONDS = 1e9;

export class ProcessMetrics {
  readonly #lag = monitorEventLoopDelay({ resolution: RESOLUTION_MS });

  constructor() {
    this.#lag.enable();
  }

  collect(add: AddSample<keyof typeof PROCESS_METRICS>): void {
    const { user, system } = process.cpuUsage();
    const { rss, heapUsed } = process.memoryUsage();
    add('process_cpu_seconds_total', (user + system) / 1e6);
    add('process_resident_memory_bytes', rss);
    add('process_start_time_seconds', performance.timeOrigin / 1_000);
    add('nodejs_heap_size_used_bytes', heapUsed);
    // What it measures includes its own interval.
    const lag = (nanoseconds: number): number =>
      Math.max(0, nanoseconds / NANOSECONDS - RESOLUTION_MS / 1_000);
    if (this.#lag.count > 0) {
      add('nodejs_eventloop_lag_p50_seconds', lag(this.#lag.percentile(50)));
      add('nodejs_eventloop_lag_p99_seconds', lag(this.#lag.percentile(99)));
      add('nodejs_eventloop_lag_max_seconds', lag(this.#lag.max));
    }
    this.#lag.reset();
  }

  close(): void {
    this.#lag.disable();
  }
}
