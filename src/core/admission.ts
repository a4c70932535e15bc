/**
 * Who may run now: at most `concurrency` at once, at most `maxQueued` waiting in order of arrival, the rest refused.
 * Pure; what is admitted is the caller's own object.
 */
export type Admitted = 'run' | 'wait' | 'refused';

export class Admission<Item> {
  private readonly isGone: (item: Item) => boolean;
  private readonly concurrency: number;
  private readonly maxQueued: number;
  private waiting: (Item | undefined)[] = [];
  /** Index of the oldest waiting item: taking from the front of an array would move all that follow. */
  private front = 0;
  private active = 0;

  /** How many of those that wait are gone, and only hold a place in the array. */
  private gone = 0;

  /** `isGone` tells of an item whether `forget` was called for it while it waited. */
  constructor(
    concurrency: number,
    maxQueued: number,
    isGone: (item: Item) => boolean = () => false,
  ) {
    this.concurrency = concurrency;
    this.isGone = isGone;
    this.maxQueued = maxQueued;
  }

  get running(): number {
    return this.active;
  }

  get queued(): number {
    return this.waiting.length - this.front - this.gone;
  }

  offer(item: Item): Admitted {
    if (this.active < this.concurrency) {
      this.active += 1;
      return 'run';
    }
    if (this.queued >= this.maxQueued) return 'refused';
    this.waiting.push(item);
    return 'wait';
  }

  /** One that ran has ended: gives the item that takes its place, or undefined. */
  release(): Item | undefined {
    const next = this.take();
    if (next === undefined) this.active -= 1;
    return next;
  }

  /** One that waits will not run: its place is free from now on. */
  forget(): void {
    this.gone += 1;
    if (this.gone <= this.maxQueued) return;
    const left = this.waiting.slice(this.front).filter((item) => !this.isGone(item as Item));
    this.waiting = left;
    this.front = 0;
    this.gone = 0;
  }

  private take(): Item | undefined {
    while (this.front < this.waiting.length) {
      const item = this.waiting[this.front] as Item;
      this.waiting[this.front] = undefined;
      this.front += 1;
      if (this.front * 2 > this.waiting.length) {
        this.waiting = this.waiting.slice(this.front);
        this.front = 0;
      }
      if (!this.isGone(item)) return item;
      this.gone -= 1;
    }
    return undefined;
  }
}
