/** Does a canary fail more often than the version beside it? Pure. */

export interface Counts {
  calls: number;
  /** Of these. */
  errors: number;
}

/**
 * How likely so many of the canary's calls fail by chance alone, where both versions are alike, for it to count as worse. It is looked at
 * again and again: test/property/canary.test.ts says how seldom that takes back one that is not.
 */
export const MAX_CHANCE = 0.0001;

/** Fisher's exact test, one-sided. */
export function isWorse(stable: Counts, canary: Counts): boolean {
  return chanceOfErrors(stable, canary) < MAX_CHANCE;
}

/** Of at least as many errors at the canary, of all that there were, if it fails as often as the other one: 0 to 1. */
export function chanceOfErrors(stable: Counts, canary: Counts): number {
  const errors = stable.errors + canary.errors;
  const calls = stable.calls + canary.calls;
  const most = Math.min(errors, canary.calls);
  const all = logChoose(calls, canary.calls);
  let chance = 0;
  for (let count = canary.errors; count <= most; count += 1) {
    const term = Math.exp(
      logChoose(errors, count) + logChoose(calls - errors, canary.calls - count) - all,
    );
    chance += term;
    // Behind the peak they only get smaller.
    if (term < chance * Number.EPSILON && count * calls > errors * canary.calls) break;
  }
  return Math.min(1, chance);
}

function logChoose(all: number, some: number): number {
  if (some < 0 || some > all) return Number.NEGATIVE_INFINITY;
  return logFactorial(all) - logFactorial(some) - logFactorial(all - some);
}

const SMALL = 256;
const LOG_FACTORIALS = [0];
for (let n = 1; n < SMALL; n += 1) LOG_FACTORIALS.push((LOG_FACTORIALS[n - 1] ?? 0) + Math.log(n));

/** Stirling's series: from 256 on it is exact to the last digits. */
function logFactorial(n: number): number {
  const small = LOG_FACTORIALS[n];
  if (small !== undefined) return small;
  return n * Math.log(n) - n + Math.log(2 * Math.PI * n) / 2 + 1 / (12 * n) - 1 / (360 * n ** 3);
}
