/**
 * Of two workers chosen at random the one where a call is likely to be answered sooner: what is under way there, by how long calls
 * take, for its capacity. Two, because all callers that chose the best of all would choose the same one.
 */
import type { Candidate, StrategyFactory } from './strategy.ts';

export const leastLoaded: StrategyFactory = (next) => ({
  pick(candidates) {
    const first = Math.floor(next() * candidates.length);
    const one = candidates[first] as Candidate;
    if (candidates.length === 1) return one;
    const second = Math.floor(next() * (candidates.length - 1));
    const other = candidates[second < first ? second : second + 1] as Candidate;
    // One that was never tried is taken to be as fast as the other.
    const oneMs = latencyOf(one) ?? latencyOf(other) ?? 1;
    const otherMs = latencyOf(other) ?? oneMs;
    return costOf(one, oneMs) <= costOf(other, otherMs) ? one : other;
  },
});

function latencyOf({ latencyMs, serviceMs }: Candidate): number | undefined {
  return latencyMs ?? serviceMs;
}

function costOf({ inFlight, others, capacity }: Candidate, latencyMs: number): number {
  return ((inFlight + others + 1) * latencyMs) / capacity;
}
