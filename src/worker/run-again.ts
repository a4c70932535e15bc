/** When a handler whose transaction was refused is run again. */
import type { Failure } from '../core/state/transaction.ts';
import type { Invocation } from './invocation.ts';

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
