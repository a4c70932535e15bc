/**
 * Who may run now: at most `concurrency` at once, at most `maxQueued` waiting in order of arrival, the rest refused.
 * Pure; what is admitted is the caller's own object.
 */
export type Admitted = 'run' | 'wait' | 'refused';

export class Admission<Item> {
  private readonly concurrency: number;
  private readonly maxQueued: number;
  private waiting: (Item | undefined)[] = [];
  /** Index of the oldest waiting item: taking from the front of an array would move all that follow. */
  private front = 0;
  private active = 0;

  constructor(concurrency: number, maxQueued: number) {
    this.concurrency = concurrency;
    this.maxQueued = maxQueued;
  }

  get running(): number {
    return this.active;
  }

  get queued(): number {
    return this.waiting.length - this.front;
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

  private take(): Item | undefined {
    if (this.queued === 0) return undefined;
    const item = this.waiting[this.front];
    this.waiting[this.front] = undefined;
    this.front += 1;
    if (this.front * 2 > this.waiting.length) {
      this.waiting = this.waiting.slice(this.front);
      this.front = 0;
    }
    return item;
  }
}
