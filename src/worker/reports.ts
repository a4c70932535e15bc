/** What a worker says of its functions: to inspect, and to service discovery. */
import type { FunctionReport } from '../core/report.ts';
import type { Subjects } from '../core/subjects.ts';
import { scheduleText } from '../delivery/identity.ts';
import type { DiscoveredFunction } from './discovery.ts';
import type { FunctionLoad } from './load-meter.ts';
import type { FunctionRunner } from './runner.ts';
import type { FunctionStats } from './stats.ts';

/** `waiting`: of its durable events, if this worker dispatches them. */
export function functionReport(
  { loaded, running, queued }: FunctionRunner,
  stats: FunctionStats,
  load: FunctionLoad & Pick<FunctionReport, 'slots'>,
  waiting: Pick<FunctionReport, 'waiting' | 'held' | 'dropped'> = { waiting: 0 },
  cache?: FunctionReport['cache'],
): FunctionReport {
  const { description, on, delivery, balance, cron } = loaded.definition;
  return {
    name: loaded.name,
    version: loaded.version,
    ...(description === undefined ? {} : { description }),
    on: [...on],
    delivery,
    balance,
    ...(cron === undefined ? {} : { cron: scheduleText(cron) }),
    calls: stats.calls,
    errors: stats.errors,
    refused: stats.refused,
    running,
    queued,
    abandoned: stats.abandoned,
    ...load,
    ...waiting,
    ...(cache === undefined ? {} : { cache }),
    subjects: stats.subjects(),
    latency: stats.latency.toSparse(),
  };
}

export function discovered(
  report: FunctionReport,
  { processingMs, lastError }: FunctionStats,
  subjects: Subjects,
): DiscoveredFunction {
  const { name } = report;
  const [subject, queueGroup] = [subjects.fn(name), subjects.queueGroup(name)];
  return { ...report, subject, queueGroup, processingMs, lastError };
}
