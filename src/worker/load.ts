/** The functions of a worker together. What it announces of them for their callers: how calls are balanced, what may be kept, how loaded it is. */
import type { Balancer } from '../core/balance/balancer.ts';
import { DEFAULT_STRATEGY } from '../core/balance/strategy.ts';
import type { Load } from '../core/balance/track.ts';
import type { ByName, CacheRecord } from '../core/directory.ts';
import type { MillraceError } from '../core/errors.ts';
import type { LoadedFunction } from '../function/load.ts';
import type { Registration } from '../delivery/deliveries.ts';
import type { Offered } from './announcer.ts';
import type { LoadMeter } from './load-meter.ts';
import type { RunnerHost } from './runner-host.ts';
import type { FunctionRunner } from './runner.ts';

/** What is announced of them; the platform's own functions are among `runners` only. */
export function offeredOf(
  functions: readonly LoadedFunction[],
  runners: ReadonlyMap<string, FunctionRunner>,
  registration: Registration | undefined,
): Offered {
  return {
    functions: [...runners.keys()],
    identities: registration?.identities ?? [],
    balances: balancesOf(functions),
    caches: cachesOf(functions),
  };
}

/** Those that functions bring along: calls to them are made here, too. */
export function registerStrategies(functions: readonly LoadedFunction[], balancer: Balancer): void {
  for (const { definition } of functions) {
    const { balance, strategy } = definition;
    if (strategy !== undefined) balancer.register(balance, strategy);
  }
}

/** None of them may begin while others are given up. */
export function giveUpAll(live: RunnerHost['live'], error: MillraceError): void {
  for (const [, runner] of live) runner.stop();
  for (const [invocation, runner] of live) runner.giveUp(invocation, error);
}

/** By function, where not at random. */
function balancesOf(functions: readonly LoadedFunction[]): ByName<string> {
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
