/** Virtual time: everything that happens is an event in one queue. */
import { setImmediate as turn } from 'node:timers/promises';

/** Whose event it is: one that has crashed does nothing any more, one that is paused does it later. */
export interface Actor {
  alive: boolean;
  pausedUntilMs: number;
}

interface Event {
  atMs: number;
  order: number;
  actor: Actor | undefined;
  run: () => void;
}

export class Clock {
  nowMs = 0;
  events = 0;
  readonly #heap: Event[] = [];
  #order = 0;

  /** Runs after `delayMs`, unless its actor has crashed by then. */
  after(delayMs: number, actor: Actor | undefined, run: () => void): void {
    this.#push({ atMs: this.nowMs + Math.max(0, delayMs), order: this.#order++, actor, run });
  }

  /** A promise of virtual time. It never resolves for an actor that has crashed. */
  sleep(delayMs: number, actor: Actor | undefined): Promise<void> {
    return new Promise((resolve) => this.after(delayMs, actor, resolve));
  }

  /** Runs events until the queue is empty or `untilMs` has come. */
  async run(untilMs: number): Promise<void> {
    for (let event = this.#heap[0]; event !== undefined && event.atMs <= untilMs;) {
      this.#pop();
      this.nowMs = Math.max(this.nowMs, event.atMs);
      const { actor } = event;
      if (actor === undefined || actor.alive) {
        if (actor !== undefined && actor.pausedUntilMs > this.nowMs) {
          this.#push({ ...event, atMs: actor.pausedUntilMs });
        } else {
          this.events += 1;
          event.run();
          // All that it has set going with promises.
          await turn();
        }
      }
      event = this.#heap[0];
    }
    this.nowMs = Math.max(this.nowMs, untilMs);
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (!isBefore(heap[at] as Event, heap[above] as Event)) break;
      [heap[at], heap[above]] = [heap[above] as Event, heap[at] as Event];
      at = above;
    }
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (heap.length === 0 || last === undefined) return;
    heap[0] = last;
    for (let at = 0; ;) {
      let least = at;
      for (const below of [2 * at + 1, 2 * at + 2]) {
        const child = heap[below];
        if (child !== undefined && isBefore(child, heap[least] as Event)) least = below;
      }
      if (least === at) return;
      [heap[at], heap[least]] = [heap[least] as Event, heap[at] as Event];
      at = least;
    }
  }
}

function isBefore(left: Event, right: Event): boolean {
  return left.atMs < right.atMs || (left.atMs === right.atMs && left.order < right.order);
}
