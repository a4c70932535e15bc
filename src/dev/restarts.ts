/** What has ended and waits for its next start. */
import type { Backoff } from './backoff.ts';

interface Waiting {
  timer: NodeJS.Timeout;
  start: () => void;
  backoff: Backoff;
}

export class Restarts {
  readonly #waiting = new Set<Waiting>();

  /** Starts after the pause that `backoff` asks for, and gives that pause in ms. */
  plan(backoff: Backoff, ranForMs: number, start: () => void): number {
    const waitMs = backoff.nextMs(ranForMs);
    const timer = setTimeout(() => {
      this.#waiting.delete(waiting);
      start();
    }, waitMs);
    const waiting = { timer, start, backoff };
    this.#waiting.add(waiting);
    return waitMs;
  }

  /** Whatever waits is started at once, with short pauses from now on: the reason to wait may be gone. */
  hurry(): void {
    const all = [...this.#waiting];
    this.clear();
    for (const { backoff, start } of all) {
      backoff.reset();
      start();
    }
  }

  clear(): void {
    for (const { timer } of this.#waiting) clearTimeout(timer);
    this.#waiting.clear();
  }
}
