/** What a caller knows of a function on one worker: a strategy's candidate, and whether calls fail there. */
import { newFailures } from './outliers.ts';
import type { Candidate } from './strategy.ts';

/** What a worker says of a function with each beat. */
export interface Load {
  running: number;
  /** For others to end. */
  waiting: number;
  /** Of a run, from start to end, in milliseconds; undefined before the first. */
  serviceMs?: number | undefined;
}

/** The weight of one more call in what is known of latency. */
const STEP = 0.2;
/** What is known of a worker that gets no calls is worth less with each beat: half after ten. */
const FADE = 0.933;

export class Track implements Candidate {
  readonly id: string;
  readonly capacity: number;
  inFlight = 0;
  others = 0;
  waiting = 0;
  serviceMs: number | undefined;
  latencyMs: number | undefined;
  readonly failures = newFailures();
  #called = false;

  constructor(id: string, capacity: number) {
    this.id = id;
    this.capacity = capacity;
  }

  begun(): void {
    this.inFlight += 1;
    this.#called = true;
  }

  /** `latencyMs`: undefined where it says nothing of the worker. */
  ended(latencyMs: number | undefined, failed: boolean): void {
    this.inFlight = Math.max(0, this.inFlight - 1);
    if (latencyMs === undefined) return;
    const before = this.latencyMs ?? latencyMs;
    // One that fails at once is not fast.
    if (failed && latencyMs < before) return;
    this.latencyMs = before + STEP * (latencyMs - before);
  }

  heard({ running, waiting, serviceMs }: Load): void {
    const busy = running + waiting;
    this.others = Math.max(0, busy - this.inFlight);
    this.waiting = busy > 0 ? waiting / busy : 0;
    this.serviceMs = serviceMs;
    if (!this.#called && this.latencyMs !== undefined) this.latencyMs *= FADE;
    this.#called = this.inFlight > 0;
  }
}
