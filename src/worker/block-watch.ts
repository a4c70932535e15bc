/**
 * Notices that the worker's thread was busy with one thing for so long that nothing else could go on, and says which functions
 * were under way. A short block costs nobody anything: partitions are lost only after `ownerMissedMs`.
 */
import type { Logger } from 'pino';
import type { RunnerHost } from './runner-host.ts';
import type { FunctionStats } from './stats.ts';

const LOOK_MS = 250;
/** Longer is said. */
const BLOCKED_MS = 500;
/** At most so often. */
const NOTICE_MS = 10_000;
const MAX_NAMES = 10;

export class BlockWatch {
  readonly #timer: NodeJS.Timeout;
  #lastMs = performance.now();
  /** By function: calls that had ended. */
  #calls = new Map<string, number>();
  #toldAtMs = Number.NEGATIVE_INFINITY;

  constructor(log: Logger, stats: ReadonlyMap<string, FunctionStats>, live: RunnerHost['live']) {
    this.#timer = setInterval(() => {
      const now = performance.now();
      const blockedMs = Math.round(now - this.#lastMs - LOOK_MS);
      this.#lastMs = now;
      const before = this.#calls;
      this.#calls = new Map([...stats].map(([name, { calls }]) => [name, calls]));
      if (blockedMs < BLOCKED_MS || now - this.#toldAtMs < NOTICE_MS) return;
      this.#toldAtMs = now;
      const ended = [...stats].filter(([name, { calls }]) => calls > (before.get(name) ?? 0));
      const names = new Set([
        ...[...live].map(([, { loaded }]) => loaded.name),
        ...ended.map(([name]) => name),
      ]);
      const functions = [...names].slice(0, MAX_NAMES);
      log.warn(
        { blockedMs, functions },
        `nothing else could run for ${blockedMs} ms: a handler that computes for long had best have isolation: 'thread'`,
      );
    }, LOOK_MS);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
