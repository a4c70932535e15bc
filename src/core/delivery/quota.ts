/** What all dispatchers of one function have in common: how many runs there are, and how often one has begun. */
import { Rates, type RateLimit } from './rates.ts';

export interface QuotaLimits {
  /** Runs at once, by key. */
  concurrency?: number | undefined;
  /** `refuse`: what comes too soon does not wait. */
  rate?: (RateLimit & { refuse: boolean }) | undefined;
}

export class Quota {
  readonly rates: Rates | undefined;
  readonly #concurrency: number;
  readonly #running = new Map<string, number>();
  /** Told the key of which there is room again. */
  readonly #listeners = new Set<(key: string) => void>();

  constructor({ concurrency = Infinity, rate }: QuotaLimits) {
    this.#concurrency = concurrency;
    this.rates = rate && new Rates(rate);
  }

  onFreed(listener: (key: string) => void): void {
    this.#listeners.add(listener);
  }

  forget(listener: (key: string) => void): void {
    this.#listeners.delete(listener);
  }

  hasRoom(key: string): boolean {
    return (this.#running.get(key) ?? 0) < this.#concurrency;
  }

  begun(key: string): void {
    this.#running.set(key, (this.#running.get(key) ?? 0) + 1);
  }

  ended(key: string): void {
    const left = (this.#running.get(key) ?? 0) - 1;
    if (left > 0) this.#running.set(key, left);
    else this.#running.delete(key);
    for (const listener of this.#listeners) listener(key);
  }
}
