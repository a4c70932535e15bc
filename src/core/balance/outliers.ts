/**
 * A worker on which a function fails again and again, while it does not on others, is left out for a while, longer each time; then
 * one call tries it. As Envoy's outlier detection does it, with the difference that a function which fails everywhere leaves nobody out.
 */

/** Failures in a row. */
const MIN_FAILURES = 5;
/** Of a worker's last calls, at least. */
const MIN_FAILURE_RATE = 0.4;
/** Of what fails on a worker, at most so much may fail on the others. */
const MAX_SHARE_OF_OTHERS = 0.5;
/** The weight of one more call. */
const STEP = 0.1;
const FIRST_MS = 1_000;
const MAX_MS = 30_000;
/** A trial that has not ended after so long is no reason to wait for it. */
const TRIAL_MS = 1_000;

export interface Failures {
  /** Of the last calls, from 0 to 1. */
  rate: number;
  inRow: number;
  /** How often it was left out since a call has succeeded. */
  times: number;
  outUntilMs: number;
  /** One call finds out whether it may come back. */
  trying: boolean;
}

export function newFailures(): Failures {
  return { rate: 0, inRow: 0, times: 0, outUntilMs: Number.NEGATIVE_INFINITY, trying: false };
}

export function isOut({ outUntilMs }: Failures, nowMs: number): boolean {
  return nowMs < outUntilMs;
}

/**
 * It was left out and is tried by one call: others wait for how that ends. One that goes there while it is out, for reasons of its
 * own, is no trial.
 */
export function began(failures: Failures, nowMs: number): void {
  if (failures.times === 0 || isOut(failures, nowMs)) return;
  failures.trying = true;
  failures.outUntilMs = nowMs + TRIAL_MS;
}

/** `others`: those of the workers beside it. */
export function ended(
  failures: Failures,
  failed: boolean,
  others: readonly Failures[],
  nowMs: number,
): void {
  failures.rate += STEP * ((failed ? 1 : 0) - failures.rate);
  failures.inRow = failed ? failures.inRow + 1 : 0;
  // One that was under way when the worker was left out says nothing new.
  if (failed && isOut(failures, nowMs) && !failures.trying) return;
  failures.trying = false;
  if (failed && isOutlier(failures, others, nowMs)) {
    failures.times += 1;
    failures.outUntilMs = nowMs + Math.min(MAX_MS, FIRST_MS * 2 ** (failures.times - 1));
  } else {
    failures.times = 0;
    failures.outUntilMs = Number.NEGATIVE_INFINITY;
  }
}

/** At most half of the workers are left out. */
function isOutlier({ inRow, rate }: Failures, others: readonly Failures[], nowMs: number): boolean {
  if (inRow < MIN_FAILURES || rate < MIN_FAILURE_RATE) return false;
  const inside = others.filter((other) => !isOut(other, nowMs));
  if (inside.length <= others.length - inside.length) return false;
  const mean = inside.reduce((sum, other) => sum + other.rate, 0) / inside.length;
  return mean <= rate * MAX_SHARE_OF_OTHERS;
}
