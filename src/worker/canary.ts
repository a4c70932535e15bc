/** Two versions of one function side by side: which one a call gets, and what both count meanwhile. */
import { hash32 } from '../core/hash.ts';
import type { CanaryReport } from '../core/report.ts';
import type { LoadedFunction } from '../function/load.ts';
import type { Incoming } from './invocation.ts';
import type { FunctionRunner } from './runner.ts';
import { FunctionStats } from './stats.ts';

interface Canary {
  runner: FunctionRunner;
  share: number;
  /** Its own; all count in the function's, too. */
  stats: FunctionStats;
  /** The function's, and what they were when it began. */
  all: FunctionStats;
  callsBefore: number;
  errorsBefore: number;
}

const HASHES = 2 ** 32;

export class Canaries {
  readonly #byStable = new WeakMap<FunctionRunner, Canary>();

  /** What runs beside it from now on; one that does already goes on. */
  set(
    stable: FunctionRunner,
    { canary: wanted }: LoadedFunction,
    make: (loaded: LoadedFunction, stats: FunctionStats) => FunctionRunner,
  ): void {
    const now = this.#byStable.get(stable);
    if (wanted === undefined) this.#byStable.delete(stable);
    else if (now?.runner.loaded.version === wanted.loaded.version) now.share = wanted.share;
    else {
      const all = stable.stats;
      const stats = new CanaryStats(all);
      const [callsBefore, errorsBefore] = [all.calls, all.errors];
      const runner = make(wanted.loaded, stats);
      const { share } = wanted;
      this.#byStable.set(stable, { runner, share, stats, all, callsBefore, errorsBefore });
    }
  }

  /**
   * The one for this call. What comes again goes to the stable one: an event that the canary has failed is handled all the same. By
   * the call's id, so that all that comes of one call is one version's.
   */
  choose(stable: FunctionRunner, { eventId, attempt }: Incoming): FunctionRunner {
    const canary = this.#byStable.get(stable);
    if (canary === undefined || attempt > 1) return stable;
    return hash32(`${eventId} canary`) / HASHES < canary.share ? canary.runner : stable;
  }

  /** Their functions, with those beside them. */
  loadedOf(runners: Iterable<FunctionRunner>): LoadedFunction[] {
    return [...runners].flatMap((stable) => {
      const canary = this.#byStable.get(stable);
      return canary === undefined ? [stable.loaded] : [stable.loaded, canary.runner.loaded];
    });
  }

  /** What runs and waits, of both. */
  loadOf(stable: FunctionRunner): { running: number; queued: number } {
    const canary = this.#byStable.get(stable)?.runner;
    const { running, queued } = stable;
    return { running: running + (canary?.running ?? 0), queued: queued + (canary?.queued ?? 0) };
  }

  reportOf(stable: FunctionRunner): CanaryReport | undefined {
    const canary = this.#byStable.get(stable);
    if (canary === undefined) return undefined;
    const { calls, errors } = canary.stats;
    return {
      version: canary.runner.loaded.version,
      share: canary.share,
      calls,
      errors,
      stable: {
        calls: canary.all.calls - canary.callsBefore - calls,
        errors: canary.all.errors - canary.errorsBefore - errors,
      },
    };
  }
}

class CanaryStats extends FunctionStats {
  readonly #all: FunctionStats;

  constructor(all: FunctionStats) {
    super();
    this.#all = all;
  }

  override ended(subject: string, durationMs: number | undefined): void {
    super.ended(subject, durationMs);
    this.#all.ended(subject, durationMs);
  }

  override failed(message: string): void {
    super.failed(message);
    this.#all.failed(message);
  }
}
