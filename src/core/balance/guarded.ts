/** A user's own strategy, whose mistakes must not cost calls: where it throws, or names none of the candidates, one is chosen at random. */
import { random as atRandom } from './random.ts';
import type { Strategy, StrategyFactory } from './strategy.ts';

/** `warn` is told once of each strategy that is made. */
export function guarded(
  name: string,
  factory: StrategyFactory,
  warn: (text: string) => void,
): StrategyFactory {
  return (random) => {
    const instead = atRandom(random);
    let own: Strategy | undefined;
    let warned = false;
    const failed = (why: string): void => {
      if (!warned) warn(`The balance strategy ${name} ${why}; a worker is chosen at random.`);
      warned = true;
    };
    try {
      own = factory(random);
    } catch (error) {
      failed(`could not be made: ${String(error)}`);
    }
    return {
      pick: (candidates) => {
        if (own === undefined) return instead.pick(candidates);
        try {
          const chosen = own.pick(candidates);
          if (candidates.includes(chosen)) return chosen;
          failed('gave none of the candidates');
        } catch (error) {
          failed(`threw ${String(error)}`);
        }
        return instead.pick(candidates);
      },
    };
  };
}
