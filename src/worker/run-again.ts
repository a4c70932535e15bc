/** Handlers that run again because their transaction was refused, and requests that come again. */
import type { Encoded } from '../core/payload.ts';
import type { Settings } from '../core/settings.ts';
import type { Failure } from '../core/state/transaction.ts';
import { encodeAnswer } from '../state/answers.ts';
import type { Incoming, Invocation } from './invocation.ts';

const FIRST_BACKOFF_MS = 5;
const MAX_BACKOFF_MS = 250;

/** In milliseconds from now; undefined when it must not be run again. */
export function waitBeforeRun(
  { runs, settled, deadlineMs }: Invocation,
  failure: Failure,
  maxRuns: number,
): number | undefined {
  if (settled || runs >= maxRuns || failure.kind === 'unknown') return undefined;
  const { why } = failure.refusal;
  if (why === 'full') return undefined;
  // One that lost to an older transaction waits in the key's queue the next time, by its age.
  const waitMs = why === 'conflict' ? 0 : backoffMs(runs, Math.random());
  return performance.now() + waitMs < deadlineMs ? waitMs : undefined;
}

/** Half of it by chance, so that those that failed together don't meet again; `random` is in [0, 1). */
function backoffMs(runs: number, random: number): number {
  const mostMs = Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** Math.min(runs, 10));
  return Math.ceil((mostMs * (1 + random)) / 2);
}

/** The caller's time began before this worker's. */
const CALL_KEEP_MARGIN_MS = 5_000;

/** With how long it is kept: a call comes again only while its caller waits. */
export function answerToKeep(
  { repeats, timeoutMs }: Incoming,
  encoded: Encoded,
  { answerKeepMs, maxValueBytes }: Settings,
): string {
  const keepMs =
    repeats === 'id' || timeoutMs === undefined ? answerKeepMs : timeoutMs + CALL_KEEP_MARGIN_MS;
  return encodeAnswer(encoded, Date.now() + keepMs, maxValueBytes);
}
