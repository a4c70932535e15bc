/** Events that could run: which of them may, now, and which together. Pure: times come in. */
import type { Held } from './dispatch.ts';

/** Why an event waits: SPEC.md, "Flow control". */
export type Why = 'order' | 'retry' | 'debounce' | 'batch' | 'concurrency' | 'rate' | 'worker';

export interface Taken<Event> {
  /** Each to be run as one: a single event where there are no batches. */
  runs: Held<Event>[][];
  /** Beyond a rate that refuses. */
  refused: Held<Event>[];
}

export interface Ready<Event> {
  push(held: Held<Event>, nowMs: number): void;
  /** At most about `room` events: a batch is not divided. `single`: batches are of one event. */
  take(room: number, nowMs: number, single?: boolean): Taken<Event>;
  /** Its run is over; it was settled, or comes again by `push`. */
  ended(held: Held<Event>, settled: boolean): void;
  close(): void;
  /** When `take` may give more without anything else happening; undefined: not before. */
  readonly dueMs: number | undefined;
  /** Of one that was pushed and not taken. */
  why(held: Held<Event>): Why;
}

/** One after the other, as they come. */
export class Fifo<Event> implements Ready<Event> {
  readonly dueMs = undefined;
  /** From `#begun` on: a long list is not moved for each that leaves it. */
  #list: Held<Event>[] = [];
  #begun = 0;

  push(held: Held<Event>): void {
    this.#list.push(held);
  }

  take(room: number): Taken<Event> {
    const taken = this.#list.slice(this.#begun, this.#begun + room);
    this.#begun += taken.length;
    if (this.#begun >= this.#list.length / 2) {
      this.#list = this.#list.slice(this.#begun);
      this.#begun = 0;
    }
    return { runs: taken.map((held) => [held]), refused: [] };
  }

  ended(): void {}

  close(): void {}

  why(): Why {
    return 'worker';
  }
}
