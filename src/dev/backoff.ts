/** How long to wait before something that ended is started again. Pure: the time comes in as an argument. */

export const FIRST_RESTART_MS = 500;
/** However often it has ended. */
export const LONGEST_RESTART_MS = 30_000;
/** What has run for this long starts with the shortest pause again. */
export const HEALTHY_MS = 60_000;

export class Backoff {
  #ended = 0;

  /** The pause in ms before the next start: it doubles up to LONGEST_RESTART_MS while nothing runs for HEALTHY_MS. */
  nextMs(ranForMs: number): number {
    if (ranForMs >= HEALTHY_MS) this.reset();
    const waitMs = Math.min(FIRST_RESTART_MS * 2 ** this.#ended, LONGEST_RESTART_MS);
    this.#ended += 1;
    return waitMs;
  }

  reset(): void {
    this.#ended = 0;
  }
}
