/** What a worker says of itself and its functions: to inspect, and to service discovery. */
import { hostname } from 'node:os';
import type { Answers } from '../cache/answers.ts';
import type { CachedCalls } from '../cache/calls.ts';
import { mergeCaches } from '../core/merge-reports.ts';
import type { FunctionReport, WorkerReport } from '../core/report.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf } from '../core/subjects.ts';
import type { Deliveries } from '../delivery/deliveries.ts';
import { scheduleText } from '../delivery/identity.ts';
import type { StateQuestions } from '../state/questions.ts';
import type { StateService } from '../state/service.ts';
import type { CatalogEntry } from '../core/catalog.ts';
import { catalogEntry } from './catalog.ts';
import type { Canaries } from './canary.ts';
import type { DiscoveredFunction } from './discovery.ts';
import type { LoadMeter } from './load-meter.ts';
import type { RunnerHost } from './runner-host.ts';
import type { FunctionRunner } from './runner.ts';
import type { FunctionStats } from './stats.ts';

export interface SelfReportOptions {
  workerId: string;
  startedAt: string;
  settings: Settings;
  live: RunnerHost['live'];
  /** By function. */
  stats: ReadonlyMap<string, FunctionStats>;
  meter: LoadMeter;
  answers: Answers;
  cached: CachedCalls;
  canaries: Canaries;
  runners(): readonly FunctionRunner[];
  /** Undefined where there is none. */
  state(): { service: StateService; questions: StateQuestions; deliveries: Deliveries } | undefined;
  isDraining(): boolean;
}

export class SelfReport {
  readonly #of: SelfReportOptions;

  constructor(options: SelfReportOptions) {
    this.#of = options;
  }

  /** `held`: with why events wait, which takes a look at each. */
  worker(held: boolean): WorkerReport {
    const { workerId, startedAt, settings, live, meter } = this.#of;
    const functions = this.#of.runners().map((runner) => this.#function(runner, held));
    const service = this.#of.state()?.service;
    // Those that had keys before their number was made smaller have none.
    const { from = 0, to = 0 } = service?.places.layout ?? {};
    const owned = [...(service?.hosting.owners.keys() ?? [])].filter(
      (partition) => partition < Math.max(from, to),
    );
    return {
      id: workerId,
      pid: process.pid,
      host: hostname(),
      startedAt,
      state: this.#of.isDraining() ? 'draining' : 'running',
      functions,
      partitions: owned.sort((a, b) => a - b),
      inFlight: live.size,
      utilization: meter.utilization,
      capacity: settings.capacity,
      slots: functions.reduce((sum, { slots }) => sum + slots, 0),
    };
  }

  /** What callers from outside need to know. */
  catalog(): CatalogEntry[] {
    return this.#of.runners().map(({ loaded }) => catalogEntry(loaded));
  }

  discovered(): DiscoveredFunction[] {
    const subjects = subjectsOf(this.#of.settings.namespace);
    return this.#of.runners().map((runner) => {
      const { name } = runner.loaded;
      const { processingMs, lastError } = this.#of.stats.get(name) as FunctionStats;
      const [subject, queueGroup] = [subjects.fn(name), subjects.queueGroup(name)];
      return { ...this.#function(runner, false), subject, queueGroup, processingMs, lastError };
    });
  }

  #function(runner: FunctionRunner, held: boolean): FunctionReport {
    const { loaded, slots } = runner;
    const { running, queued } = this.#of.canaries.loadOf(runner);
    const { name, version } = loaded;
    const { description, on, delivery, balance, cron } = loaded.definition;
    const stats = this.#of.stats.get(name) as FunctionStats;
    const canary = this.#of.canaries.reportOf(runner);
    const caches = [this.#of.answers.report(name), this.#of.cached.reportOf(name)];
    const cache = mergeCaches(caches.flatMap((each) => each ?? []));
    return {
      name,
      version,
      ...(description === undefined ? {} : { description }),
      on: [...on],
      delivery,
      balance,
      ...(cron === undefined ? {} : { cron: scheduleText(cron) }),
      ...(canary === undefined ? {} : { canary }),
      calls: stats.calls,
      errors: stats.errors,
      refused: stats.refused,
      running,
      queued,
      abandoned: stats.abandoned,
      ...this.#of.meter.of(name),
      slots,
      // Of its durable events, if this worker dispatches them.
      ...(this.#of.state()?.deliveries.waitingOf(name, held) ?? { waiting: 0 }),
      ...(cache == null ? {} : { cache }),
      subjects: stats.subjects(),
      latency: stats.latency.toSparse(),
    };
  }
}
