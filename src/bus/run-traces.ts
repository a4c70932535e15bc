/** What followers of runs and the workers say to each other, and how runs name what caused them. All are JSON. */
import { z } from 'zod';

/**
 * Of a call or an event that a followed run has made: the trace and the run, `<32 hex>-<16 hex>`. Not `traceparent`: whoever looks at a
 * dashboard must not change what others record.
 */
export const RUN_HEADER = 'Millrace-Run';

/** A follower says so again and again; one that died is forgotten after this time. */
export const MAX_TRACE_LEASE_MS = 30_000;
/** Calls and events of one run that are named; of the others only their number is. */
export const MAX_STEPS = 32;

export const runAskSchema = z.object({
  /** Runs are published for `forMs` from now. */
  forMs: z.number().int().min(0).max(MAX_TRACE_LEASE_MS),
});

const ms = z.number().nonnegative();
const traceId = z.string().regex(/^[0-9a-f]{32}$/);
const runId = z.string().regex(/^[0-9a-f]{16}$/);

export const runSchema = z.object({
  trace: traceId,
  run: runId,
  /** The run that made the call or emitted the event; absent for the first one of a trace. */
  parent: runId.optional(),
  function: z.string(),
  version: z.string(),
  worker: z.string(),
  /** The event's or the call's id, as logs and `ctx.invocation` have it. */
  invocation: z.string(),
  subject: z.string(),
  attempt: z.number(),
  /** How often the handler has begun: more than once where its transaction was refused. */
  runs: z.number(),
  /** In its batch. */
  events: z.number().optional(),
  /** Since 1970, by the broker's clock: when the stream stored the event. */
  storedAtMs: ms.optional(),
  /** Since 1970, by the worker's clock. */
  startedAtMs: ms,
  /** From the start until the handler was done; what follows until the end is the commit. */
  handlerMs: ms,
  durationMs: ms,
  /** The error's code, see docs/errors.md. */
  error: z.string().optional(),
  /** `atMs`: from the start. */
  emitted: z.array(z.object({ subject: z.string(), id: z.string(), atMs: ms })),
  calls: z.array(
    z.object({
      function: z.string(),
      atMs: ms,
      /** Absent where the run ended before. */
      durationMs: ms.optional(),
      error: z.string().optional(),
    }),
  ),
  /** Events and calls beyond those. */
  more: z.number(),
});
/** A run that has ended. It has no payload, no key and no text of an error. */
export type Run = z.infer<typeof runSchema>;

export const runsSchema = z.object({
  worker: z.string(),
  runs: z.array(runSchema),
  /** Runs that were left out since the message before: there were more than are sent. */
  dropped: z.number().int().nonnegative(),
});

const CAUSE = /^([0-9a-f]{32})-([0-9a-f]{16})$/;

/** What the header says; undefined for anything else: it may come from outside. */
export function causeOf(header: string | undefined): { trace: string; run: string } | undefined {
  const [, trace, run] = CAUSE.exec(header ?? '') ?? [];
  return trace === undefined || run === undefined ? undefined : { trace, run };
}
