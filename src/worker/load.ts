/** What a worker announces of its functions for their callers: how calls are balanced, what may be kept, how loaded it is. */
import { DEFAULT_STRATEGY } from '../core/balance/strategy.ts';
import type { Load } from '../core/balance/track.ts';
import type { ByName, CacheRecord } from '../core/directory.ts';
import type { LoadedFunction } from '../function/load.ts';
import type { LoadMeter } from './load-meter.ts';
import type { FunctionRunner } from './runner.ts';

/** By function, where not at random. */
export function balancesOf(functions: readonly LoadedFunction[]): ByName<string> {
  const balanced = functions.filter(({ definition }) => definition.balance !== DEFAULT_STRATEGY);
  return balanced.map(({ name, definition }) => [name, definition.balance] as const);
}

/** By function, of those whose answers may be kept. */
export function cachesOf(functions: readonly LoadedFunction[]): ByName<CacheRecord> {
  // Its key, which is code, is left out where this is written.
  return functions.flatMap(({ name, version, definition: { cache } }) =>
    cache === undefined ? [] : [[name, { ...cache, version }] as const],
  );
}

/** Of which so many run that others wait. */
export function fullOf(runners: readonly FunctionRunner[]): string[] {
  return runners.filter(({ queued }) => queued > 0).map(({ loaded }) => loaded.name);
}

/** Of functions that are not balanced at random. */
export function loadsOf(runners: readonly FunctionRunner[], meter: LoadMeter): ByName<Load> {
  return runners
    .filter(({ loaded }) => loaded.definition.balance !== DEFAULT_STRATEGY)
    .map(({ loaded: { name }, running, queued }) => {
      const serviceMs = meter.serviceMs(name);
      return [name, { running, waiting: queued, serviceMs }] as const;
    });
}
