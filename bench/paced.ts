/** Transactions at a steady pace, whether those before have been answered or not: what users feel while something changes. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Mill } from '../src/index.ts';

const TICK_MS = 10;
const KEYS = 10_000;

export interface Felt {
  calls: number;
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
}

export class Paced {
  failures = 0;
  #latencies: number[] = [];
  #over = false;
  readonly #mill: Mill;
  readonly #perSecond: number;
  readonly #running: Promise<void>;
  readonly #calls = new Set<Promise<void>>();

  constructor(mill: Mill, perSecond: number) {
    this.#mill = mill;
    this.#perSecond = perSecond;
    this.#running = this.#run();
  }

  /** Of the calls that were answered since it was asked last. */
  take(): Felt {
    const sorted = this.#latencies.toSorted((left, right) => left - right);
    this.#latencies = [];
    const at = (share: number): number => {
      const index = Math.min(sorted.length - 1, Math.floor(sorted.length * share));
      return Math.round((sorted[index] ?? 0) * 100) / 100;
    };
    return { calls: sorted.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
  }

  async stop(): Promise<void> {
    this.#over = true;
    await this.#running;
    await Promise.all(this.#calls);
  }

  async #run(): Promise<void> {
    const startMs = performance.now();
    for (let sent = 0; !this.#over;) {
      const due = ((performance.now() - startMs) * this.#perSecond) / 1_000;
      for (; sent < due; sent += 1) {
        const call = this.#call(`k${(sent * 7_919) % KEYS}`).finally(() =>
          this.#calls.delete(call),
        );
        this.#calls.add(call);
      }
      await delay(TICK_MS);
    }
  }

  async #call(key: string): Promise<void> {
    const startMs = performance.now();
    try {
      await this.#mill.invoke('deposit', { key });
    } catch {
      this.failures += 1;
    }
    this.#latencies.push(performance.now() - startMs);
  }
}
