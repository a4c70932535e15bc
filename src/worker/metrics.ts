/** What a worker counts, as metrics: docs/telemetry.md has the same names, a test holds the two together. */
import type { Bus } from '../bus/connection.ts';
import type { Caller } from '../bus/caller.ts';
import type { LogCounts } from '../bus/log-writer.ts';
import { Histogram } from '../core/histogram.ts';
import type { FunctionReport } from '../core/report.ts';
import type { StateReport } from '../core/state-report.ts';
import type { Deliveries } from '../delivery/deliveries.ts';
import {
  metricsText,
  type AddSample,
  type HistogramSample,
  type MetricCatalog,
  type MetricType,
} from '../telemetry/metrics.ts';
import { PROCESS_METRICS, ProcessMetrics } from '../telemetry/process-metrics.ts';
import type { RunLogs } from './logs/run-logs.ts';
import type { SelfReport, SelfReportOptions } from './reports.ts';
import type { FunctionStats } from './stats.ts';

const metric =
  <Type extends MetricType>(type: Type) =>
  (help: string, ...labels: string[]) => ({ type, help, labels });
const [counter, gauge, histogram] = [metric('counter'), metric('gauge'), metric('histogram')];

export const WORKER_METRICS = {
  millrace_worker_info: gauge('1; who this is.', 'worker', 'namespace', 'version'),
  millrace_worker_draining: gauge('1 while the worker drains, else 0.'),
  millrace_worker_utilization_ratio: gauge(
    'Share of the last seconds in which its thread had something to do, 0 to 1.',
  ),
  millrace_nats_connected: gauge('1 while the connection to NATS is up, else 0.'),
  millrace_nats_reconnects_total: counter('How often the connection came back.'),
  millrace_invocations_in_flight: gauge('Invocations that run or wait, of all functions.'),
  millrace_invocations_total: counter('Answered invocations.', 'function', 'outcome'),
  millrace_invocations_refused_total: counter('Refused because the function was full.', 'function'),
  millrace_invocation_duration_seconds: histogram(
    'From start to answer, of invocations that were started.',
    'function',
  ),
  millrace_invocations_running: gauge('Handlers that run.', 'function'),
  millrace_invocations_queued: gauge('Invocations that wait for a slot.', 'function'),
  millrace_invocations_abandoned: gauge(
    'Handlers that have outlived their deadline and not ended.',
    'function',
  ),
  millrace_calls_in_flight: gauge('Calls of this worker to others that are not answered.'),
  millrace_events_handled_total: counter(
    'Durable events that a run on this worker has settled.',
    'function',
  ),
  millrace_events_failed_total: counter('Attempts on this worker that have failed.', 'function'),
  millrace_events_pending: gauge(
    'Durable events that wait; on the worker that dispatches them.',
    'function',
  ),
  millrace_events_dropped_total: counter(
    'Durable events that were not run because of others: debounce, singleton; on the worker that dispatches them.',
    'function',
  ),
  millrace_dead_letters: gauge(
    'Durable events that were given up and are kept, of the installation: each worker says the same.',
    'function',
  ),
  millrace_transactions_total: counter('Transactions that this worker has coordinated.', 'outcome'),
  millrace_transaction_conflicts_total: counter(
    'Of the aborted ones, those that another transaction stood in the way of.',
  ),
  millrace_transactions_recovered_total: counter(
    'Found unfinished in a partition that was taken over, and ended.',
  ),
  millrace_transactions_active: gauge('Transactions that this worker coordinates now.'),
  millrace_partitions_owned: gauge('Partitions that this worker owns.'),
  millrace_partition_keys: gauge('Keys.', 'partition'),
  millrace_partition_bytes: gauge('Estimated memory of keys and values.', 'partition'),
  millrace_journal_appends_total: counter('Messages that were appended to journals and claims.'),
  millrace_journal_bytes_total: counter('Their bytes.'),
  millrace_cache_answers_total: counter(
    'Asked for an answer that may be kept: hit, stale, miss, collapsed.',
    'function',
    'result',
  ),
  millrace_cache_invalidated_total: counter(
    'Kept answers that were dropped because they were wrong.',
    'function',
  ),
  millrace_cache_entries: gauge('Answers that are kept now.', 'function'),
  millrace_log_lines_dropped_total: counter(
    'Log lines that followers have missed: more were written than are sent.',
  ),
  ...PROCESS_METRICS,
} satisfies MetricCatalog;

type Add = AddSample<keyof typeof WORKER_METRICS>;

export interface WorkerMetricsOptions {
  bus: Bus;
  caller: Caller;
  logs: RunLogs;
  reports: SelfReport;
  /** The package's. */
  version: string;
}

export class WorkerMetrics {
  readonly #own: SelfReportOptions;
  readonly #of: WorkerMetricsOptions;
  /** From the first scrape on: who never asks pays nothing. */
  #process: ProcessMetrics | undefined;

  constructor(own: SelfReportOptions, options: WorkerMetricsOptions) {
    this.#own = own;
    this.#of = options;
  }

  /** In Prometheus' text format. */
  text(): Promise<string> {
    return metricsText(WORKER_METRICS, async (add) => {
      this.#worker(add);
      const state = this.#own.state();
      if (state !== undefined) {
        addState(add, state.questions.report(), state.service.appended);
        await addDeadLetters(add, state.deliveries);
      }
      this.#process ??= new ProcessMetrics();
      this.#process.collect(add);
    });
  }

  close(): void {
    this.#process?.close();
  }

  #worker(add: Add): void {
    const { bus, caller, logs, reports, version } = this.#of;
    const { workerId: worker, settings } = this.#own;
    const { namespace } = settings;
    const { state, inFlight, utilization, functions } = reports.worker(false);
    add('millrace_worker_info', 1, { worker, namespace, version });
    add('millrace_worker_draining', state === 'draining' ? 1 : 0);
    add('millrace_worker_utilization_ratio', utilization);
    add('millrace_nats_connected', bus.up ? 1 : 0);
    add('millrace_nats_reconnects_total', bus.epoch - 1);
    add('millrace_invocations_in_flight', inFlight);
    add('millrace_calls_in_flight', caller.inFlight);
    add('millrace_log_lines_dropped_total', logs.dropped);
    for (const report of functions) this.#function(add, report);
  }

  #function(add: Add, report: FunctionReport): void {
    const { calls, errors, refused, running, queued, abandoned, waiting, dropped, cache } = report;
    const { name, delivery, latency } = report;
    const labels = { function: name };
    const stats = this.#own.stats.get(name) as FunctionStats;
    add('millrace_invocations_total', calls - errors, { ...labels, outcome: 'ok' });
    add('millrace_invocations_total', errors, { ...labels, outcome: 'error' });
    add('millrace_invocations_refused_total', refused, labels);
    const seconds = histogramOf(latency, stats.processingMs / 1_000);
    add('millrace_invocation_duration_seconds', seconds, labels);
    add('millrace_invocations_running', running, labels);
    add('millrace_invocations_queued', queued, labels);
    add('millrace_invocations_abandoned', abandoned, labels);
    if (delivery === 'durable') {
      add('millrace_events_handled_total', stats.events.handled, labels);
      add('millrace_events_failed_total', stats.events.failed, labels);
      add('millrace_events_pending', waiting, labels);
      add('millrace_events_dropped_total', dropped ?? 0, labels);
    }
    if (cache === undefined) return;
    const { hits, stale, misses, collapsed } = cache;
    for (const [result, count] of Object.entries({
      hit: hits - stale,
      stale,
      miss: misses,
      collapsed,
    })) {
      add('millrace_cache_answers_total', count, { ...labels, result });
    }
    add('millrace_cache_invalidated_total', cache.dropped, labels);
    add('millrace_cache_entries', cache.entries, labels);
  }
}

function addState(
  add: Add,
  { counters, partitions, transactions }: StateReport,
  appended: Readonly<LogCounts>,
): void {
  const { committed, aborted, conflicts, recovered } = counters;
  add('millrace_transactions_total', committed, { outcome: 'committed' });
  add('millrace_transactions_total', aborted, { outcome: 'aborted' });
  add('millrace_transaction_conflicts_total', conflicts);
  add('millrace_transactions_recovered_total', recovered);
  add('millrace_transactions_active', transactions.length);
  add('millrace_partitions_owned', partitions.length);
  for (const { id, keys, bytes } of partitions) {
    add('millrace_partition_keys', keys, { partition: id });
    add('millrace_partition_bytes', bytes, { partition: id });
  }
  add('millrace_journal_appends_total', appended.appends);
  add('millrace_journal_bytes_total', appended.bytes);
}

/** Left out where JetStream does not answer: the rest is worth having all the same. */
async function addDeadLetters(add: Add, deliveries: Deliveries): Promise<void> {
  const letters = await deliveries.deadLetters().catch(() => new Map<string, number>());
  for (const [name, count] of letters) {
    add('millrace_dead_letters', count, { function: name });
  }
}

/** Doublings of a microsecond, from 64 µs to 34 s: bounds that the buckets of our own histogram share. */
const FIRST_DOUBLING = 6;
const LAST_DOUBLING = 25;
const BOUNDS = Array.from(
  { length: LAST_DOUBLING - FIRST_DOUBLING + 1 },
  (_, index) => FIRST_DOUBLING + index,
);

function histogramOf(latency: FunctionReport['latency'], sum: number): HistogramSample {
  const upTo = (doublings: number): number =>
    latency.reduce(
      (total, [bucket, count]) =>
        Histogram.doublingsOf(bucket) <= doublings ? total + count : total,
      0,
    );
  return {
    buckets: BOUNDS.map((doublings) => [2 ** doublings / 1e6, upTo(doublings)]),
    sum,
    count: upTo(Infinity),
  };
}
