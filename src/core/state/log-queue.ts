/**
 * What is to go into a partition's log, and what may be said only after it is there (I2), or after it is certain that
 * this is still the owner (SPEC.md, "Reads are confirmed"). One append is under way at a time; what comes meanwhile is
 * the next one.
 */
import type { LogRecord } from './messages.ts';

interface Entry {
  record: LogRecord;
  whenLogged: ((nowMs: number) => void) | undefined;
}

const RECORD_OVERHEAD_BYTES = 64;
const WRITE_OVERHEAD_BYTES = 16;

export class LogQueue {
  private queue: Entry[] = [];
  private appending: { entries: Entry[]; confirms: (() => void)[] } | undefined;
  private unconfirmed: (() => void)[] = [];
  private confirming: (() => void)[] | undefined;

  get idle(): boolean {
    return this.queue.length === 0 && this.appending === undefined;
  }

  enqueue(record: LogRecord, whenLogged?: (nowMs: number) => void): void {
    this.queue.push({ record, whenLogged });
  }

  /** Calls `then` once it is certain that this is the owner, and was when this was called. */
  confirm(then: () => void): void {
    this.unconfirmed.push(then);
  }

  /** A record of the transaction is in here, not yet in the log. */
  has(tx: string): boolean {
    const entries = [...(this.appending?.entries ?? []), ...this.queue];
    return entries.some(({ record }) => record.tx === tx);
  }

  /**
   * The records of the next append, none while one is under way. What waits to be confirmed is, by this append. Records
   * for whose sake nobody waits make no append of their own unless `all`; with `empty` there is one even without records.
   * Undefined when nothing is to be appended now.
   */
  take(maxBytes: number, all: boolean, empty: boolean): LogRecord[] | undefined {
    if (this.appending !== undefined) return undefined;
    const worthIt = all
      ? this.queue.length > 0
      : this.queue.some(({ record }) => isAwaited(record));
    if (!worthIt && !empty) return undefined;
    let count = 0;
    let bytes = 0;
    for (const { record } of this.queue) {
      bytes += sizeOf(record);
      if (count > 0 && bytes > maxBytes) break;
      count += 1;
    }
    const entries = this.queue.splice(0, count);
    this.appending = { entries, confirms: this.unconfirmed };
    this.unconfirmed = [];
    return entries.map(({ record }) => record);
  }

  appended(nowMs: number): void {
    const { entries, confirms } = this.appending ?? { entries: [], confirms: [] };
    this.appending = undefined;
    for (const { whenLogged } of entries) whenLogged?.(nowMs);
    for (const then of confirms) then();
  }

  get awaitsConfirmation(): boolean {
    return this.unconfirmed.length > 0;
  }

  /** True when something waits to be confirmed and no question is under way. */
  takeConfirmation(): boolean {
    if (this.confirming !== undefined || this.unconfirmed.length === 0) return false;
    this.confirming = this.unconfirmed;
    this.unconfirmed = [];
    return true;
  }

  confirmed(): void {
    const confirmed = this.confirming ?? [];
    this.confirming = undefined;
    for (const then of confirmed) then();
  }

  /** The question could not be answered: the next append, or another question, confirms. */
  confirmLater(): void {
    this.unconfirmed.push(...(this.confirming ?? []));
    this.confirming = undefined;
  }

  clear(): void {
    this.queue = [];
  }
}

/** The others only say sooner what could also be learnt from the home. */
function isAwaited({ kind }: LogRecord): boolean {
  return kind === 'prepare' || kind === 'decide';
}

function sizeOf(record: LogRecord): number {
  let bytes = RECORD_OVERHEAD_BYTES;
  if (record.kind === 'prepare' || record.kind === 'decide') {
    for (const [key, value] of record.writes) {
      bytes += key.length + (value?.length ?? 0) + WRITE_OVERHEAD_BYTES;
    }
  }
  if (record.kind === 'decide') for (const emit of record.emits) bytes += emit.length;
  return bytes;
}
