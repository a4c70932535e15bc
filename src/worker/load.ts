/** What a worker announces of its functions for their callers: how calls are balanced, what may be kept, how loaded it is. */
import type { Beat } from '../bus/messages.ts';
import { DEFAULT_STRATEGY } from '../core/balance/strategy.ts';
import type { Load } from '../core/balance/track.ts';
import type { ByName, CacheRecord } from '../core/directory.ts';
import type { LoadedFunction } from '../function/load.ts';
import type { FunctionRunner } from './runner.ts';
import type { FunctionStats } from './stats.ts';

/** By function, where not at random. */
export function balancesOf(functions: readonly LoadedFunction[]): ByName<string> {
  const balanced = functions.filter(({ definition }) => definition.balance !== DEFAULT_STRATEGY);
  return balanced.map(({ name, definition }) => [name, definition.balance] as const);
}

/** By function, of those whose answers may be kept. */
export function cachesOf(functions: readonly LoadedFunction[]): ByName<CacheRecord> {
  return functions.flatMap((loaded) => {
    const record = cacheRecordOf(loaded);
    return record === undefined ? [] : [[loaded.name, record] as const];
  });
}

export function cacheRecordOf({ definition }: LoadedFunction): CacheRecord | undefined {
  if (definition.cache === undefined) return undefined;
  const { key, ...rules } = definition.cache;
  return { ...rules, keyed: key !== undefined };
}

export function loadOf(
  runners: readonly FunctionRunner[],
  stats: ReadonlyMap<string, FunctionStats>,
): Pick<Beat, 'full' | 'loads'> {
  const full = runners.filter(({ queued }) => queued > 0).map(({ loaded }) => loaded.name);
  const loads: [name: string, load: Load][] = [];
  for (const { loaded, running, queued } of runners) {
    if (loaded.definition.balance === DEFAULT_STRATEGY) continue;
    const serviceMs = stats.get(loaded.name)?.serviceMs();
    loads.push([loaded.name, { running, waiting: queued, serviceMs }]);
  }
  return { full, loads };
}
