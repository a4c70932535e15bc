/** Puts inspect's replies together from the reports of all workers. Pure. */
import { Histogram } from './histogram.ts';
import type {
  CacheReport,
  CanaryReport,
  FunctionReport,
  InspectedFunction,
  InspectedWaiting,
  InspectedWorker,
  WorkerReport,
} from './report.ts';

export function inspectedWorker(report: WorkerReport): InspectedWorker {
  return { ...report, functions: report.functions.map(({ name }) => name) };
}

/** `deadLetters`: by function. */
export function mergeFunctions(
  reports: readonly WorkerReport[],
  deadLetters: ReadonlyMap<string, number> = new Map(),
): InspectedFunction[] {
  const byName = new Map<string, FunctionReport[]>();
  for (const report of reports.flatMap(({ functions }) => functions)) {
    const same = byName.get(report.name);
    if (same === undefined) byName.set(report.name, [report]);
    else same.push(report);
  }
  return [...byName.values()]
    .map((same) => ({ ...mergeOne(same), deadLetters: deadLetters.get(same[0]?.name ?? '') ?? 0 }))
    .sort((left, right) => (left.name < right.name ? -1 : 1));
}

/** The largest groups first. */
export function mergeWaiting(
  reports: readonly WorkerReport[],
  functionName?: string,
): InspectedWaiting[] {
  const groups = new Map<string, InspectedWaiting>();
  for (const { name, held = [] } of reports.flatMap(({ functions }) => functions)) {
    if (functionName !== undefined && name !== functionName) continue;
    for (const { why, key, count, untilMs } of held) {
      const id = JSON.stringify([name, why, key]);
      const group = groups.get(id) ?? { function: name, why, key, count: 0, untilMs };
      groups.set(id, { ...group, count: group.count + count });
    }
  }
  return [...groups.values()].sort((left, right) => right.count - left.count);
}

function mergeOne(reports: FunctionReport[]): Omit<InspectedFunction, 'deadLetters'> {
  const versions = countBy(reports.map(({ version }) => version));
  const [version = ''] = Object.keys(versions).sort(
    (left, right) => (versions[right] ?? 0) - (versions[left] ?? 0),
  );
  const current = reports.find((report) => report.version === version) as FunctionReport;
  const latency = new Histogram();
  const subjects = Object.create(null) as Record<string, number>;
  for (const report of reports) {
    latency.merge(report.latency);
    for (const [subject, calls] of report.subjects) {
      subjects[subject] = (subjects[subject] ?? 0) + calls;
    }
  }
  const sum = (count: (report: FunctionReport) => number): number =>
    reports.reduce((total, report) => total + count(report), 0);
  return {
    name: current.name,
    version,
    versions,
    on: current.on,
    delivery: current.delivery,
    balance: current.balance,
    cron: current.cron ?? null,
    canary: mergeCanaries(reports.flatMap(({ canary = [] }) => canary)),
    cache: mergeCaches(reports.flatMap(({ cache = [] }) => cache)),
    workers: reports.length,
    calls: sum(({ calls }) => calls),
    errors: sum(({ errors }) => errors),
    refused: sum(({ refused }) => refused),
    pending: sum(({ running, queued }) => running + queued) + sum(({ waiting }) => waiting),
    dispatched:
      new Set(reports.flatMap(({ dispatches = [] }) => dispatches)).size >=
      Math.max(...reports.map(({ sources = 0 }) => sources)),
    dropped: sum(({ dropped = 0 }) => dropped),
    subjects,
    latencyMs: {
      p50: roundMs(latency.percentileMs(0.5)),
      p99: roundMs(latency.percentileMs(0.99)),
    },
  };
}

/** Workers that have not heard of a change yet may have another one. */
function mergeCanaries(reports: readonly CanaryReport[]): CanaryReport | null {
  const [first] = reports;
  if (first === undefined) return null;
  const same = reports.filter(({ version }) => version === first.version);
  const sum = (count: (report: CanaryReport) => number): number =>
    same.reduce((total, report) => total + count(report), 0);
  return {
    version: first.version,
    share: first.share,
    calls: sum(({ calls }) => calls),
    errors: sum(({ errors }) => errors),
    stable: {
      calls: sum(({ stable }) => stable.calls),
      errors: sum(({ stable }) => stable.errors),
    },
  };
}

export function mergeCaches(reports: readonly CacheReport[]): CacheReport | null {
  const [first, ...rest] = reports;
  if (first === undefined) return null;
  const sum = { ...first };
  for (const report of rest) {
    for (const [name, count] of Object.entries(report)) sum[name as keyof CacheReport] += count;
  }
  return sum;
}

function countBy(values: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}

function roundMs(milliseconds: number): number {
  return Math.round(milliseconds * 1_000) / 1_000;
}
