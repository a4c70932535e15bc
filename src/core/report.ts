/** What a worker says of itself when it is asked: one schema, from which inspect's replies are put together. */
import { z } from 'zod';

const count = z.number().nonnegative();

const heldSchema = z.object({ why: z.string(), key: z.string(), count, untilMs: count.nullable() });

const cacheSchema = z.object({
  hits: count,
  stale: count,
  misses: count,
  collapsed: count,
  dropped: count,
  entries: count,
});
/** See CacheCounts, and how many answers are kept now. */
export type CacheReport = z.infer<typeof cacheSchema>;

const countsSchema = z.object({ calls: count, errors: count });
const canarySchema = countsSchema.extend({
  version: z.string(),
  /** Of the calls, above 0 and below 1. */
  share: count,
  /** The version beside it, in the same time. */
  stable: countsSchema,
});
export type CanaryReport = z.infer<typeof canarySchema>;

export const functionReportSchema = z.object({
  name: z.string(),
  version: z.string(),
  description: z.string().optional(),
  on: z.array(z.string()),
  delivery: z.enum(['durable', 'ephemeral']),
  balance: z.string(),
  calls: count,
  errors: count,
  refused: count,
  running: count,
  queued: count,
  abandoned: count,
  /** Runs that ended, in a second, and how many were under way on average: over the last seconds. */
  perSecond: count,
  busy: count,
  /** Runs at once at most. */
  slots: count,
  /** Durable events that wait, of a function whose events this worker dispatches. */
  waiting: count,
  /** Of these, why, as far as the dispatcher has read them: the largest groups, at most 100. */
  held: z.array(heldSchema).optional(),
  /** How many streams have its durable events, and those of them that this worker dispatches. */
  sources: count.optional(),
  dispatches: z.array(z.string()).optional(),
  /** Durable events that were not run because of others: debounce, singleton. */
  dropped: count.optional(),
  cron: z.string().optional(),
  /** While another version gets a share of its calls. */
  canary: canarySchema.optional(),
  /** Of a function whose answers may be kept, as far as this worker has asked or run it. */
  cache: cacheSchema.optional(),
  /**
   * Calls by the subject that they came in on; at most 256, the rest under `…`. Pairs: a subject may be called as no
   * key of an object from outside may be, such as `__proto__`.
   */
  subjects: z.array(z.tuple([z.string(), count])),
  latency: z.array(z.tuple([count, count])),
});
export type FunctionReport = z.infer<typeof functionReportSchema>;

export const workerReportSchema = z.object({
  id: z.string(),
  /** Null for one that has not answered: 0 would be a process group to those who want to send it a signal. */
  pid: count.min(1).nullable(),
  host: z.string(),
  /** ISO 8601, UTC. */
  startedAt: z.string(),
  state: z.enum(['running', 'draining']),
  functions: z.array(functionReportSchema),
  partitions: z.array(z.number()),
  /** Invocations that run or wait. */
  inFlight: count,
  /** Share of the last seconds in which its thread had something to do, 0 to 1. */
  utilization: count,
  /** Declared (`--capacity`): what it is meant for, in comparison with others. */
  capacity: count,
  /** Invocations that run at once at most. */
  slots: count,
});
export type WorkerReport = z.infer<typeof workerReportSchema>;

export interface InspectedWorker extends Omit<WorkerReport, 'functions' | 'state'> {
  state: WorkerReport['state'] | 'unresponsive';
  functions: string[];
}

/** Durable events that wait for the same reason. */
export interface InspectedWaiting {
  function: string;
  /**
   * `stream`: not read yet; `order`: behind another one of their key; `retry`: a run has failed; `concurrency`, `rate`, `batch`,
   * `debounce`: as the function's option says; `worker`: so many run already.
   */
  why: string;
  /** Of the option, or of the function; empty where all events count together. */
  key: string;
  count: number;
  /** In milliseconds from now, when the first of them may run; null where nobody knows. */
  untilMs: number | null;
}

export interface InspectedFunction {
  name: string;
  /** The version that most workers run; `versions` has all while they differ. */
  version: string;
  versions: Record<string, number>;
  on: string[];
  delivery: FunctionReport['delivery'];
  balance: string;
  /** The schedule and its time zone; null for none. */
  cron: string | null;
  /** Another version that gets a share of its calls, and what both have counted since; null for none. */
  canary: CanaryReport | null;
  /** Kept answers, on all workers together; null where none may be kept. A client counts its own: `mill.caches`. */
  cache: CacheReport | null;
  /** How many workers run it. */
  workers: number;
  /** Answered invocations, failed ones included, since the start of the workers that live now. */
  calls: number;
  errors: number;
  /** Refused because the function was full. */
  refused: number;
  /** Running or waiting now, durable events in their streams included. */
  pending: number;
  /** False while a stream of its durable events is read by nobody, as just after a worker's death: what waits there is not in `pending`. */
  dispatched: boolean;
  /** Durable events that were not run because of others: debounce, singleton. */
  dropped: number;
  deadLetters: number;
  /** Calls by the subject that they came in on. Without a prototype: any subject can be a key. */
  subjects: Record<string, number>;
  /** From start to answer; calls that were never started are left out. */
  latencyMs: { p50: number; p99: number };
}
