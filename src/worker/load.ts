/** What a worker announces of its functions for their callers: how calls are balanced, what may be kept, how loaded it is. */
import type { Beat } from '../bus/messages.ts';
import { DEFAULT_STRATEGY } from '../core/balance/strategy.ts';
import type { CacheRecord } from '../core/directory.ts';
import type { LoadedFunction } from '../function/load.ts';
import type { FunctionRunner } from './runner.ts';
import type { FunctionStats } from './stats.ts';

/** By function, where not at random. */
export function balancesOf(functions: readonly LoadedFunction[]): Record<string, string> {
  const balanced = functions.filter(({ definition }) => definition.balance !== DEFAULT_STRATEGY);
  return Object.fromEntries(balanced.map(({ name, definition }) => [name, definition.balance]));
}

/** By function, of those whose answers may be kept. */
export function cachesOf(functions: readonly LoadedFunction[]): Record<string, CacheRecord> {
  const caches: Record<string, CacheRecord> = {};
  for (const loaded of functions) {
    const record = cacheRecordOf(loaded);
    if (record !== undefined) caches[loaded.name] = record;
  }
  return caches;
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
  const loads: NonNullable<Beat['loads']> = {};
  for (const { loaded, running, queued } of runners) {
    if (loaded.definition.balance === DEFAULT_STRATEGY) continue;
    const serviceMs = stats.get(loaded.name)?.serviceMs();
    loads[loaded.name] = { running, waiting: queued, serviceMs };
  }
  return { full, loads };
}
