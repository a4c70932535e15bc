/**
 * What a partition wants written, and what it may say only after that is in the log (I2), or after it is certain that this
 * is still the owner (SPEC.md, "Reads are confirmed"). The journal of its worker does both; while the partition is being
 * loaded, or is given up, nobody does.
 */
import type { LogRecord } from './messages.ts';

/** What follows from an entry: called once, when it is in the log. */
export type WhenLogged = (nowMs: number) => void;

export interface QueueTarget {
  enqueue(queue: LogQueue, record: LogRecord, whenLogged: WhenLogged | undefined): void;
  confirm(queue: LogQueue, whenConfirmed: () => void): void;
}

export class LogQueue {
  readonly partition: number;
  epoch = 0;
  /** Of its records, since the last snapshot began. */
  loggedBytes = 0;
  private target: QueueTarget | undefined;
  private entries = 0;
  /** How many records of a transaction are not in the log yet. */
  private readonly pending = new Map<string, number>();
  private readonly afterwards: (nowMs: number) => void;

  /** `afterwards` is called when entries were logged or confirmed, and all that follows from them was called. */
  constructor(partition: number, afterwards: (nowMs: number) => void) {
    this.partition = partition;
    this.afterwards = afterwards;
  }

  open(target: QueueTarget, epoch: number): void {
    this.target = target;
    this.epoch = epoch;
  }

  /** Nothing more is written, and nothing follows any more from what is under way. */
  close(): void {
    this.target = undefined;
    this.entries = 0;
    this.pending.clear();
  }

  get isOpen(): boolean {
    return this.target !== undefined;
  }

  /** Everything is in the log. */
  get idle(): boolean {
    return this.entries === 0;
  }

  enqueue(record: LogRecord, whenLogged?: WhenLogged): void {
    if (this.target === undefined) return;
    this.entries += 1;
    this.pending.set(record.tx, (this.pending.get(record.tx) ?? 0) + 1);
    this.target.enqueue(this, record, whenLogged);
  }

  /** Calls `whenConfirmed` once it is certain that this is the owner, and was when this was called. */
  confirm(whenConfirmed: () => void): void {
    this.target?.confirm(this, whenConfirmed);
  }

  /** A record of the transaction is not in the log yet. */
  has(tx: string): boolean {
    return this.pending.has(tx);
  }

  /** The journal's word. */
  logged({ tx }: LogRecord): void {
    this.entries -= 1;
    const left = (this.pending.get(tx) ?? 0) - 1;
    if (left > 0) this.pending.set(tx, left);
    else this.pending.delete(tx);
  }

  settled(nowMs: number): void {
    this.afterwards(nowMs);
  }
}
