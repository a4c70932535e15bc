/**
 * In proportion to what each worker can do: its declared capacity, by how long a run takes there, less where runs wait. Smooth, as
 * nginx does it: of weights 2 and 1 the calls go a, b, a; a, b, a.
 */
import type { Candidate, StrategyFactory } from './strategy.ts';

/** Of the largest weight: less would leave a worker unmeasured for ever. */
const MIN_SHARE = 0.01;
/** A run that takes less is as good as none. */
const MIN_SERVICE_MS = 0.01;
/** Weights change with beats: they are looked at again after so many choices. */
const LOOK_EVERY = 32;

export const weighted: StrategyFactory = () => {
  let known: readonly Candidate[] = [];
  /** Of each, in order; together 1. */
  let shares: number[] = [];
  /** What each is behind its share. */
  let credits: number[] = [];
  let choices = 0;
  return {
    pick(candidates) {
      if (candidates !== known) {
        const before = new Map(known.map(({ id }, index) => [id, credits[index] ?? 0]));
        credits = candidates.map(({ id }) => before.get(id) ?? 0);
        known = candidates;
        choices = 0;
      }
      if (choices % LOOK_EVERY === 0) shares = sharesOf(candidates);
      choices += 1;
      let chosen = 0;
      for (let index = 0; index < credits.length; index += 1) {
        const credit = (credits[index] as number) + (shares[index] as number);
        credits[index] = credit;
        if (credit > (credits[chosen] as number)) chosen = index;
      }
      credits[chosen] = (credits[chosen] as number) - 1;
      return candidates[chosen] as Candidate;
    },
  };
};

/** One that has said nothing yet counts as the mean of those that have. */
function sharesOf(candidates: readonly Candidate[]): number[] {
  const known = candidates.flatMap(({ serviceMs }) => (serviceMs === undefined ? [] : [serviceMs]));
  const meanMs = known.length === 0 ? 1 : known.reduce((sum, ms) => sum + ms, 0) / known.length;
  const weights = candidates.map(
    ({ capacity, serviceMs = meanMs, waiting }) =>
      (capacity * Math.max(MIN_SHARE, 1 - waiting)) / Math.max(MIN_SERVICE_MS, serviceMs),
  );
  const least = Math.max(...weights) * MIN_SHARE;
  const bounded = weights.map((weight) => Math.max(least, weight));
  const total = bounded.reduce((sum, weight) => sum + weight, 0);
  return bounded.map((weight) => weight / total);
}
