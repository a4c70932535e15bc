/** The caches of all functions in a process, each by the function's rules; told of what is wrong. */
import type { Bus } from '../bus/connection.ts';
import { AnswerCache } from '../core/answer-cache.ts';
import type { CacheRecord } from '../core/directory.ts';
import type { CacheReport } from '../core/report.ts';
import type { Settings } from '../core/settings.ts';
import { listenToInvalidations, type Invalidation } from './invalidations.ts';
import { ownKeys } from './keys.ts';

interface Kept {
  record: CacheRecord;
  cache: AnswerCache;
}

export class Answers {
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #functions = new Map<string, Kept>();
  /** From the first answer on. */
  #listening: { close(): void } | undefined;

  constructor(bus: Bus, settings: Settings) {
    this.#bus = bus;
    this.#settings = settings;
  }

  /** By other rules than before it begins anew. */
  of(functionName: string, record: CacheRecord): AnswerCache {
    const known = this.#functions.get(functionName);
    if (known !== undefined && isSame(known.record, record)) {
      // The next look at it is a short one.
      known.record = record;
      return known.cache;
    }
    const { maxCacheBytes, namespace } = this.#settings;
    this.#listening ??= listenToInvalidations(
      this.#bus,
      namespace,
      (invalidation) => this.#onInvalidation(invalidation),
      () => this.#dropAll(),
    );
    const cache = new AnswerCache(record, maxCacheBytes, () => performance.now());
    this.#functions.set(functionName, { record, cache });
    return cache;
  }

  report(functionName: string): CacheReport | undefined {
    const cache = this.#functions.get(functionName)?.cache;
    return cache && { ...cache.counts, entries: cache.size };
  }

  names(): string[] {
    return [...this.#functions.keys()];
  }

  close(): void {
    this.#listening?.close();
  }

  #onInvalidation({ functions = [], collections = [] }: Invalidation): void {
    for (const [name, keys] of functions) drop(this.#functions.get(name), keys);
    for (const [collection, keys] of collections) {
      for (const kept of this.#functions.values()) {
        if (kept.record.state.includes(collection)) drop(kept, keys);
      }
    }
  }

  #dropAll(): void {
    for (const { cache } of this.#functions.values()) cache.drop();
  }
}

/** Those keys, or all: also where the function has no keys of its own. */
function drop(kept: Kept | undefined, keys: string[] | null): void {
  kept?.cache.drop(kept.record.keyed && keys !== null ? ownKeys(keys) : undefined);
}

function isSame(one: CacheRecord, other: CacheRecord): boolean {
  return one === other || JSON.stringify(one) === JSON.stringify(other);
}
