/** A function's answers may be kept: what its options may be, and what they say. */
import type { CacheRecord } from '../core/directory.ts';
import { assertCollection } from '../core/state/keys.ts';
import { functionNameReason, quote } from '../core/names.ts';
import { fields, isFunction, whole } from './checks.ts';
import type { FunctionEvent } from './context.ts';

/** All times in milliseconds. */
export interface CacheOptions<Data = unknown> {
  /** So long an answer is given again without asking: 1 to 86,400,000 (a day). */
  ttlMs: number;
  /** Calls with the same text have the same answer. Default: those with the same input. */
  key?: (event: FunctionEvent<Data>) => string;
  /** So much longer it is given while a new one is fetched, or none can be had. Default 0. */
  staleMs?: number;
  /** Of each process; the one that was not used for the longest time goes first. 1 to 1,000,000, default 1,000. */
  maxEntries?: number;
  /** So long a failure of the function is an answer, too. Default 0: not at all. */
  errorMs?: number;
  /**
   * Collections that the function reads. What is written there drops its answers, or with `key` only those under the key that was
   * written.
   */
  state?: readonly string[];
}

/** Functions whose kept answers a run of this one makes wrong: all of them, or those under a key. */
export type Invalidates<Data = unknown> = readonly (
  string | { function: string; key: (event: FunctionEvent<Data>) => string }
)[];

export interface CacheDefinition extends CacheRecord {
  readonly key: ((event: FunctionEvent) => string) | undefined;
}

const MAX_MS = 86_400_000;
const MAX_ENTRIES = 1_000_000;
const DEFAULT_ENTRIES = 1_000;
const MAX_COLLECTIONS = 32;
const MAX_INVALIDATES = 32;

/** What is wrong with the option `cache`, to be put behind its name. */
export const cacheReason = fields(
  { ttlMs: whole(1, MAX_MS) },
  {
    key: isFunction,
    staleMs: whole(0, MAX_MS),
    maxEntries: whole(1, MAX_ENTRIES),
    errorMs: whole(0, MAX_MS),
    state: collectionsReason,
  },
);

function collectionsReason(value: unknown): string | undefined {
  if (!Array.isArray(value) || value.length > MAX_COLLECTIONS) {
    return `must be a list of at most ${MAX_COLLECTIONS} collections`;
  }
  try {
    for (const name of value) assertCollection(name);
    return undefined;
  } catch (error) {
    return `is not legal: ${(error as Error).message}`;
  }
}

export function invalidatesReason(given: unknown): string | undefined {
  const shape = 'must be a list of functions, each by its name or as { function, key }';
  if (!Array.isArray(given)) return shape;
  if (given.length > MAX_INVALIDATES) return `must have at most ${MAX_INVALIDATES} functions`;
  for (const each of given as unknown[]) {
    const { function: name, key } = (typeof each === 'string' ? { function: each } : each) as {
      function?: unknown;
      key?: unknown;
    };
    const reason = functionNameReason(name);
    if (reason !== undefined) return `has the function ${quote(name)}, which ${reason}`;
    if (typeof each !== 'string' && typeof key !== 'function') return shape;
  }
  return undefined;
}

export function toCache(options: CacheOptions<never>): CacheDefinition {
  const {
    ttlMs,
    key,
    staleMs = 0,
    maxEntries = DEFAULT_ENTRIES,
    errorMs = 0,
    state = [],
  } = options as CacheOptions;
  const keyed = key !== undefined;
  return Object.freeze({ ttlMs, key, keyed, staleMs, maxEntries, errorMs, state: [...state] });
}
