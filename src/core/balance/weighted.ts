/**
 * In proportion to what each worker can do: its declared capacity, by how long a run takes there, less where runs wait. Smooth, as
 * nginx does it: of weights 2 and 1 the calls go a, b, a; a, b, a.
 */
import type { Candidate, StrategyFactory } from './strategy.ts';

/** Of the largest weight: less would leave a worker unmeasured for ever. */
const MIN_SHARE = 0.01;
/** A run that takes less is as good as none. */
const MIN_SERVICE_MS = 0.01;

export const weighted: StrategyFactory = () => {
  /** By id: what each is ahead of its share. */
  let credits = new Map<string, number>();
  return {
    pick(candidates) {
      const weights = weightsOf(candidates);
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      const before = credits;
      credits = new Map();
      let chosen = 0;
      let highest = Number.NEGATIVE_INFINITY;
      for (const [index, { id }] of candidates.entries()) {
        const credit = (before.get(id) ?? 0) + (weights[index] as number) / total;
        credits.set(id, credit);
        if (credit <= highest) continue;
        highest = credit;
        chosen = index;
      }
      const { id } = candidates[chosen] as Candidate;
      credits.set(id, highest - 1);
      return candidates[chosen] as Candidate;
    },
  };
};

/** One that has said nothing yet counts as the mean of those that have. */
export function weightsOf(candidates: readonly Candidate[]): number[] {
  const known = candidates.flatMap(({ serviceMs }) => (serviceMs === undefined ? [] : [serviceMs]));
  const meanMs = known.length === 0 ? 1 : known.reduce((sum, ms) => sum + ms, 0) / known.length;
  const weights = candidates.map(
    ({ capacity, serviceMs = meanMs, waiting }) =>
      (capacity * (1 - waiting)) / Math.max(MIN_SERVICE_MS, serviceMs),
  );
  const least = Math.max(...weights) * MIN_SHARE;
  return weights.map((weight) => Math.max(least, weight));
}
