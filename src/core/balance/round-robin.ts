/** One after the other, by their ids; begins anywhere, so that callers do not all begin with the same worker. */
import type { Candidate, StrategyFactory } from './strategy.ts';

export const roundRobin: StrategyFactory = (next) => {
  /** Not an index: workers come and go. */
  let last: string | undefined;
  return {
    pick(candidates) {
      const from = last;
      const chosen =
        from === undefined
          ? candidates[Math.floor(next() * candidates.length)]
          : (candidates.find(({ id }) => id > from) ?? candidates[0]);
      last = chosen?.id;
      return chosen as Candidate;
    },
  };
};
