/** How often something has begun, by key: never more than a number of times in any period. */

export interface RateLimit {
  limit: number;
  periodMs: number;
}

/** What is kept of a key over a change of dispatcher: those between the first and the last are taken to be evenly spread. */
export type RateRecord = [key: string, count: number, firstMs: number, lastMs: number];

/** Keys that have not begun anything for a period are looked for when there are so many more than before. */
const SWEEP_KEYS = 1_024;
/** The latest ones: of more keys the rate may be exceeded once after a change of dispatcher. */
export const MAX_RATE_RECORDS = 1_000;

export class Rates {
  readonly #limit: RateLimit;
  /** When each began, in order. */
  readonly #begun = new Map<string, number[]>();
  #sweepAt = SWEEP_KEYS;

  constructor(limit: RateLimit) {
    this.#limit = limit;
  }

  /** When one more may begin: `nowMs` for now. */
  next(key: string, nowMs: number): number {
    const { limit, periodMs } = this.#limit;
    const begun = this.#begun.get(key);
    if (begun === undefined || begun.length < limit) return nowMs;
    return Math.max(nowMs, (begun[begun.length - limit] as number) + periodMs);
  }

  note(key: string, nowMs: number): void {
    const begun = this.#begun.get(key);
    if (begun === undefined) {
      this.#begun.set(key, [nowMs]);
      if (this.#begun.size >= this.#sweepAt) this.#sweep(nowMs);
      return;
    }
    begun.push(nowMs);
    // Twice as many as are needed, so that the list is not moved each time.
    if (begun.length > 2 * this.#limit.limit) begun.splice(0, begun.length - this.#limit.limit);
  }

  records(nowMs: number): RateRecord[] {
    this.#sweep(nowMs);
    return [...this.#begun].slice(-MAX_RATE_RECORDS).map(([key, begun]) => {
      const kept = begun.slice(-this.#limit.limit);
      return [key, kept.length, kept[0] as number, kept.at(-1) as number];
    });
  }

  restore(records: readonly RateRecord[]): void {
    for (const [key, count, firstMs, lastMs] of records) {
      const stepMs = count > 1 ? (lastMs - firstMs) / (count - 1) : 0;
      const begun = Array.from({ length: count }, (_, index) => lastMs - stepMs * index);
      this.#begun.set(key, begun.toReversed());
    }
  }

  #sweep(nowMs: number): void {
    for (const [key, begun] of this.#begun) {
      if ((begun.at(-1) as number) + this.#limit.periodMs <= nowMs) this.#begun.delete(key);
    }
    this.#sweepAt = this.#begun.size + SWEEP_KEYS;
  }
}
