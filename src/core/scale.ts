/** How many processes the present load wants, by function: what an autoscaler goes by. Pure. */
import type { InspectedWorker, WorkerReport } from './report.ts';

/** Above it work begins to wait. */
export const TARGET_UTILIZATION = 0.7;
/** Around the target nothing is changed, so that it does not go to and fro. */
const TOLERANCE = 0.1;
/** Events that wait are to be handled within so long. */
const BACKLOG_S = 60;
/** Why events wait that more processes would not help. */
const OWN_LIMITS = new Set(['concurrency', 'rate', 'batch', 'debounce', 'order']);
/** What is asked for at most, of what there is: the next look shows whether it was enough. */
const MAX_GROWTH = 2;

export interface InspectedScale {
  function: string;
  /** Processes that have it. */
  workers: number;
  /** Runs that ended, in a second, over the last five. */
  perSecond: number;
  /** Under way at once, on average. */
  busy: number;
  /** At most at once. */
  slots: number;
  /** Calls that wait for a slot. */
  queued: number;
  /** Durable events that wait. */
  waiting: number;
  /** The larger one of: slots in use, and how busy the threads of its workers are; 0 to 1. */
  utilization: number;
  /**
   * So many processes the load wants: as many as would be used to 70 %; twice as many where events wait for more than a minute's
   * work and not for limits of the function's own. At most twice the present number.
   */
  wanted: number;
}

/** `silent`: workers that did not answer in time, because they compute: each counts as busy. */
export function scaleOf(
  reports: readonly WorkerReport[],
  silent: readonly Pick<InspectedWorker, 'functions'>[] = [],
  functionName?: string,
): InspectedScale[] {
  const all = [
    ...reports.flatMap(({ functions }) => functions.map(({ name }) => name)),
    ...silent.flatMap(({ functions }) => functions),
  ];
  const names = new Set(all.filter((name) => functionName === undefined || name === functionName));
  return [...names].sort().map((name) => {
    const having = reports.flatMap(({ functions, utilization }) =>
      functions.filter((each) => each.name === name).map((each) => ({ ...each, utilization })),
    );
    const sum = (of: (one: (typeof having)[number]) => number): number =>
      having.reduce((total, one) => total + of(one), 0);
    const [perSecond, busy, slots] = [
      sum((one) => one.perSecond),
      sum((one) => one.busy),
      sum((one) => one.slots),
    ];
    const blocked = silent.filter(({ functions }) => functions.includes(name)).length;
    const workers = having.length + blocked;
    const threads = (sum((one) => one.utilization) + blocked) / workers;
    const utilization = Math.max(threads, slots > 0 ? Math.min(1, busy / slots) : 0);
    const waiting = sum((one) => one.waiting);
    const heldUp = having.some(({ held = [] }) => held.some(({ why }) => OWN_LIMITS.has(why)));
    const backlog = heldUp ? 0 : waiting;
    const queued = sum((one) => one.queued);
    const load = { workers, utilization, waiting: backlog, perSecond, queued };
    return {
      function: name,
      workers,
      perSecond: round(perSecond),
      busy: round(busy),
      slots,
      queued,
      waiting,
      utilization: round(utilization),
      wanted: wantedOf(load),
    };
  });
}

/** As Kubernetes' autoscaler counts, and more where events pile up. */
export function wantedOf({
  workers,
  utilization,
  waiting,
  perSecond,
  queued,
}: Pick<InspectedScale, 'workers' | 'utilization' | 'waiting' | 'perSecond' | 'queued'>): number {
  const ratio = utilization / TARGET_UTILIZATION;
  const byLoad = Math.abs(ratio - 1) <= TOLERANCE ? workers : Math.ceil(workers * ratio);
  const behind = waiting > Math.max(1, perSecond) * BACKLOG_S;
  const byBacklog = behind ? workers * MAX_GROWTH : queued > 0 ? workers : 0;
  return Math.max(1, Math.min(workers * MAX_GROWTH, Math.max(byLoad, byBacklog)));
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
