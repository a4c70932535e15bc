/** What of a source is waiting, running or failed, and what may run next: SPEC.md, "An event's way". Pure: times come in. */

import { laneOf } from './marker.ts';

/** What the dispatcher must know of an event; `Event` is its owner's. */
export interface Held<Event> {
  readonly sequence: number;
  readonly key: string | undefined;
  readonly bytes: number;
  /** Runs that have failed. */
  failures: number;
  /** It may have run before: the marker is asked first. */
  again: boolean;
  /** It is not to run earlier. */
  dueMs: number;
  readonly event: Event;
}

export interface DispatchLimits {
  maxEventsHeld: number;
  maxEventBytesHeld: number;
  maxEventsRunning: number;
}

export interface Cursor {
  /** Everything before it is settled, */
  next: number;
  /** except these: sequence and failures. */
  open: [sequence: number, failures: number][];
}

export class Dispatch<Event> {
  /** The lowest sequence that was not read. */
  next: number;
  readonly #limits: DispatchLimits;
  /** Of the cursor that it began at: open, and not read again yet. */
  readonly #missing: Map<number, number>;
  /** Of these, read again and not held yet. */
  readonly #unheld = new Set<number>();
  /** All that is not settled, in the order of sequences. */
  readonly #held = new Map<number, Held<Event>>();
  #heldBytes = 0;
  #largestBytes = 1;
  /** By lane: what is held or missing. */
  readonly #lanes = new Map<number, Set<number>>();
  readonly #running = new Set<number>();
  /** By key: what waits behind the one that is running or has failed. */
  readonly #behind = new Map<string, Held<Event>[]>();
  /** What may run, from `#begun` on: a long list is not moved for each that leaves it. */
  #ready: Held<Event>[] = [];
  #begun = 0;
  readonly #delayed = new Set<Held<Event>>();

  constructor({ next, open }: Cursor, limits: DispatchLimits) {
    this.next = next;
    this.#missing = new Map(open);
    for (const [sequence] of open) this.#opened(sequence);
    this.#limits = limits;
  }

  /** Where reading is to begin. */
  get from(): number {
    let from = this.next;
    for (const sequence of this.#missing.keys()) from = Math.min(from, sequence);
    return from;
  }

  get held(): number {
    return this.#held.size;
  }

  get running(): number {
    return this.#running.size;
  }

  /** Of those that wait for another attempt, when the first one is due; undefined for none. */
  get dueMs(): number | undefined {
    let first: number | undefined;
    for (const { dueMs } of this.#delayed) first = Math.min(first ?? dueMs, dueMs);
    return first;
  }

  /** How many more events may be read now, each taken to be as large as the largest so far (D4). */
  get room(): number {
    const { maxEventsHeld, maxEventBytesHeld } = this.#limits;
    const byBytes = Math.ceil((maxEventBytesHeld - this.#heldBytes) / this.#largestBytes);
    return Math.max(0, Math.min(maxEventsHeld - this.#held.size, byBytes));
  }

  /**
   * What to do with an event that was read: how often it has failed, undefined where it is settled. Events are read in the
   * order of their sequences, so that those which are passed over are gone.
   */
  read(sequence: number): number | undefined {
    const failures = this.#missing.get(sequence) ?? (sequence < this.next ? undefined : 0);
    if (this.#missing.has(sequence)) this.#unheld.add(sequence);
    for (const missing of this.#missing.keys()) {
      if (missing >= sequence || this.#unheld.has(missing)) continue;
      // Gone from its stream: nobody settles it any more.
      this.#missing.delete(missing);
      this.#closed(missing);
    }
    return failures;
  }

  /** Read, and not wanted. */
  skip(sequence: number): void {
    this.next = Math.max(this.next, sequence + 1);
    this.#missing.delete(sequence);
    this.#unheld.delete(sequence);
    this.#closed(sequence);
  }

  /** Only until it is settled: it is not run. */
  hold(held: Held<Event>): void {
    this.next = Math.max(this.next, held.sequence + 1);
    this.#held.set(held.sequence, held);
    this.#heldBytes += held.bytes;
    this.#largestBytes = Math.max(this.#largestBytes, held.bytes);
    this.#missing.delete(held.sequence);
    this.#unheld.delete(held.sequence);
    // Those with a key, too: what is said of a lane must hold for whoever asks.
    this.#opened(held.sequence);
  }

  /** In the order of sequences. */
  add(held: Held<Event>): void {
    this.hold(held);
    const behind = held.key === undefined ? undefined : this.#behind.get(held.key);
    if (behind !== undefined) {
      // D3
      behind.push(held);
      return;
    }
    if (held.key !== undefined) this.#behind.set(held.key, []);
    this.#queue(held);
  }

  /** What is to be run now; it counts as running. */
  take(nowMs: number): Held<Event>[] {
    for (const held of this.#delayed) {
      if (held.dueMs > nowMs) continue;
      this.#delayed.delete(held);
      this.#ready.push(held);
    }
    const free = Math.max(0, this.#limits.maxEventsRunning - this.#running.size);
    const taken = this.#ready.slice(this.#begun, this.#begun + free);
    this.#begun += taken.length;
    if (this.#begun >= this.#ready.length / 2) {
      this.#ready = this.#ready.slice(this.#begun);
      this.#begun = 0;
    }
    for (const { sequence } of taken) this.#running.add(sequence);
    return taken;
  }

  settled({ sequence, key, bytes }: Held<Event>): void {
    if (!this.#held.delete(sequence)) return;
    this.#closed(sequence);
    this.#running.delete(sequence);
    this.#heldBytes -= bytes;
    if (key === undefined) return;
    const next = this.#behind.get(key)?.shift();
    if (next === undefined) this.#behind.delete(key);
    else this.#queue(next);
  }

  /** It runs again at `dueMs`; those of its key wait (D3), no others do (D5). */
  retry(held: Held<Event>, dueMs: number): void {
    this.#running.delete(held.sequence);
    held.again = true;
    held.dueMs = dueMs;
    this.#delayed.add(held);
  }

  /** What is not settled of the event's lane. */
  openBeside(sequence: number): number[] {
    return [...(this.#lanes.get(laneOf(sequence)) ?? [])];
  }

  cursor(): Cursor {
    return {
      next: this.next,
      open: [
        ...this.#missing,
        ...[...this.#held.values()].map(({ sequence, failures }): [number, number] => [
          sequence,
          failures,
        ]),
      ],
    };
  }

  #opened(sequence: number): void {
    const lane = this.#lanes.get(laneOf(sequence));
    if (lane === undefined) this.#lanes.set(laneOf(sequence), new Set([sequence]));
    else lane.add(sequence);
  }

  #closed(sequence: number): void {
    this.#lanes.get(laneOf(sequence))?.delete(sequence);
  }

  #queue(held: Held<Event>): void {
    if (held.dueMs > 0) this.#delayed.add(held);
    else this.#ready.push(held);
  }
}
