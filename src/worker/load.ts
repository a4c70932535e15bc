/** What a worker says for the balance of calls: how they are to be balanced, and how loaded it is. */
import type { Beat } from '../bus/messages.ts';
import { DEFAULT_STRATEGY } from '../core/balance/strategy.ts';
import type { LoadedFunction } from '../function/load.ts';
import type { FunctionRunner } from './runner.ts';
import type { FunctionStats } from './stats.ts';

/** By function, where not at random. */
export function balancesOf(functions: readonly LoadedFunction[]): Record<string, string> {
  const balanced = functions.filter(({ definition }) => definition.balance !== DEFAULT_STRATEGY);
  return Object.fromEntries(balanced.map(({ name, definition }) => [name, definition.balance]));
}

export function loadOf(
  runners: readonly FunctionRunner[],
  stats: ReadonlyMap<string, FunctionStats>,
): Pick<Beat, 'full' | 'loads'> {
  const full = runners.filter(({ queued }) => queued > 0).map(({ loaded }) => loaded.name);
  const loads: NonNullable<Beat['loads']> = {};
  for (const { loaded, running, queued } of runners) {
    if (loaded.definition.balance === DEFAULT_STRATEGY) continue;
    const serviceMs = stats.get(loaded.name)?.serviceMs();
    loads[loaded.name] = { running, waiting: queued, serviceMs };
  }
  return { full, loads };
}
