/** Of the functions that want threads of their own: the handlers that run them there. */
import { MillraceError } from '../../core/errors.ts';
import type { LoadedFunction } from '../../function/load.ts';
import type { ThreadData } from './messages.ts';
import { ThreadPool } from './pool.ts';

export class Isolated {
  readonly #logLevel: string;
  readonly #pools = new Map<LoadedFunction, ThreadPool>();

  constructor(logLevel: string) {
    this.#logLevel = logLevel;
  }

  /** `all`: the functions that are offered together. The function itself, or one like it whose handler goes to a thread. Throws NOT_SUPPORTED for one without a module. */
  of(loaded: LoadedFunction, all: readonly LoadedFunction[]): LoadedFunction {
    const { definition, name, module } = loaded;
    const { isolation, secrets } = definition;
    if (isolation === undefined) return loaded;
    if (module === undefined) {
      throw new MillraceError(
        'NOT_SUPPORTED',
        `${name} has isolation, but no module of its own that a thread could load.`,
      );
    }
    const pool = new ThreadPool(name, isolation, secrets, this.#dataOf(module, all));
    const isolated = { ...loaded, definition: { ...definition, handler: pool.run } };
    this.#pools.set(isolated, pool);
    return isolated;
  }

  /** It is the same as `isolated`, in another build: the one before may be removed. */
  renew(
    isolated: LoadedFunction,
    { module }: LoadedFunction,
    all: readonly LoadedFunction[],
  ): void {
    if (module !== undefined) this.#pools.get(isolated)?.renew(this.#dataOf(module, all));
  }

  #dataOf(module: string, all: readonly LoadedFunction[]): ThreadData {
    const named = all.flatMap((each) =>
      each.module === undefined ? [] : [[each.name, each.module] as const],
    );
    return { module, named, logLevel: this.#logLevel };
  }

  /** Threads of all others end with their last run. */
  keepOnly(functions: readonly LoadedFunction[]): void {
    for (const [loaded, pool] of this.#pools) {
      if (functions.includes(loaded)) continue;
      this.#pools.delete(loaded);
      pool.retire();
    }
  }
}
