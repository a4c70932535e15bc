/** The strategies by the names that functions give as `balance`. */
import { leastLoaded } from './least-loaded.ts';
import { random } from './random.ts';
import { roundRobin } from './round-robin.ts';
import type { StrategyFactory } from './strategy.ts';
import { weighted } from './weighted.ts';

export const STRATEGIES: ReadonlyMap<string, StrategyFactory> = new Map([
  ['random', random],
  ['round-robin', roundRobin],
  ['weighted', weighted],
  ['least-loaded', leastLoaded],
]);
