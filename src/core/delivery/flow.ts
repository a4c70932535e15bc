/**
 * Flow control: events wait in groups that have everything in common which decides whether they may run; groups take turns,
 * so that none starves another (SPEC.md, "Flow control").
 */
import TinyQueue from 'tinyqueue';
import type { Held } from './dispatch.ts';
import { Quota, type QuotaLimits } from './quota.ts';
import type { Ready, Taken, Why } from './ready.ts';

export interface FlowLimits extends QuotaLimits {
  batch?: BatchLimit | undefined;
}

export interface BatchLimit {
  maxSize: number;
  maxBytes: number;
  /** Counted from when the first one was stored. */
  waitMs: number;
  /** Of a key one batch at a time, in the order of the stream. */
  ordered: boolean;
}

/** What the function says of an event: the keys under which it counts, `''` where there is one for all. */
export interface Lot {
  concurrency: string;
  rate: string;
  fair: string;
  batch: string;
  debounce: string;
  singleton: string;
  /** Higher ones first. */
  priority: number;
}

/** Of an event for which the options have no keys. */
export const NO_LOT: Readonly<Lot> = {
  concurrency: '',
  rate: '',
  fair: '',
  batch: '',
  debounce: '',
  singleton: '',
  priority: 0,
};

interface Group<Event> {
  readonly id: string;
  readonly lot: Lot;
  /** In the order of sequences. */
  readonly queue: Held<Event>[];
  state: 'turning' | 'blocked' | 'resting' | 'busy';
  /** Of one that rests. */
  untilMs: number;
  resting: 'rate' | 'batch';
  /** Of ordered batches: what was taken and is neither settled nor back. */
  readonly out: Set<number>;
}

interface Turn<Event> {
  readonly priority: number;
  readonly groups: Group<Event>[];
}

interface Rest<Event> {
  readonly atMs: number;
  readonly group: Group<Event>;
}

export class Flow<Event> implements Ready<Event> {
  readonly #quota: Quota;
  readonly #limits: FlowLimits;
  readonly #groups = new Map<string, Group<Event>>();
  /** Those that may have something to run, highest priority first. */
  readonly #turns: Turn<Event>[] = [];
  /** By the key of which too many run. */
  readonly #blocked = new Map<string, Group<Event>[]>();
  readonly #resting = new TinyQueue<Rest<Event>>([], (left, right) => left.atMs - right.atMs);
  readonly #onFreed = (key: string): void => this.#unblock(key);
  /** The first event of each run. */
  readonly #leaders = new Set<number>();

  /** `quota`: shared with other sources of the function. */
  constructor(limits: FlowLimits, quota = new Quota(limits)) {
    this.#limits = limits;
    this.#quota = quota;
    quota.onFreed(this.#onFreed);
  }

  /** It takes nothing more. */
  close(): void {
    this.#quota.forget(this.#onFreed);
  }

  get dueMs(): number | undefined {
    return this.#resting.peek()?.atMs;
  }

  push(held: Held<Event>, nowMs: number): void {
    const group = this.#groupOf(held);
    insert(group.queue, held);
    group.out.delete(held.sequence);
    const filled =
      group.state === 'resting' && group.resting === 'batch' && this.#isFull(group, nowMs);
    if (filled || (group.state === 'busy' && group.out.size === 0)) this.#turn(group);
  }

  take(room: number, nowMs: number, single = false): Taken<Event> {
    this.#wake(nowMs);
    const taken: Taken<Event> = { runs: [], refused: [] };
    for (let left = room; left > 0;) {
      const [turn] = this.#turns;
      if (turn === undefined) break;
      const group = turn.groups.shift();
      if (group === undefined) this.#turns.shift();
      else left -= this.#takeOf(group, nowMs, taken, single);
    }
    return taken;
  }

  ended({ sequence, lot }: Held<Event>, settled: boolean): void {
    if (lot === undefined) return;
    const group = this.#groups.get(idOf(lot));
    if (settled && group?.out.delete(sequence) === true && group.out.size === 0) this.#turn(group);
    if (this.#leaders.delete(sequence)) this.#quota.ended(lot.concurrency);
  }

  why({ lot }: Held<Event>): Why {
    const group = lot && this.#groups.get(idOf(lot));
    if (group?.state === 'blocked') return 'concurrency';
    if (group?.state === 'busy') return 'order';
    return group?.state === 'resting' ? group.resting : 'worker';
  }

  /** How many events it has begun, or refused. */
  #takeOf(
    group: Group<Event>,
    nowMs: number,
    { runs, refused }: Taken<Event>,
    single: boolean,
  ): number {
    const { lot, queue } = group;
    const { rate, batch } = this.#limits;
    const { rates } = this.#quota;
    if (!this.#quota.hasRoom(lot.concurrency)) {
      group.state = 'blocked';
      push(this.#blocked, lot.concurrency, group);
      return 0;
    }
    if (batch !== undefined && !this.#isFull(group, nowMs)) {
      this.#rest(group, 'batch', (queue[0] as Held<Event>).arrivedMs + batch.waitMs);
      return 0;
    }
    const nextMs = rates?.next(lot.rate, nowMs) ?? nowMs;
    if (nextMs > nowMs && rate?.refuse === true) {
      refused.push(...queue);
      this.#groups.delete(group.id);
      this.#unblock(lot.concurrency);
      return queue.length;
    }
    if (nextMs > nowMs) {
      this.#rest(group, 'rate', nextMs);
      return 0;
    }
    const length = batch === undefined || single ? 1 : batchLength(queue, batch);
    const run = queue.splice(0, length);
    rates?.note(lot.rate, nowMs);
    this.#quota.begun(lot.concurrency);
    this.#leaders.add((run[0] as Held<Event>).sequence);
    runs.push(run);
    if (batch?.ordered === true) {
      for (const { sequence } of run) group.out.add(sequence);
      group.state = 'busy';
    } else if (queue.length > 0) this.#turn(group);
    else this.#groups.delete(group.id);
    return run.length;
  }

  /** It does not use the place that there may be under its key of concurrency: another one can. */
  #rest(group: Group<Event>, why: 'rate' | 'batch', untilMs: number): void {
    Object.assign(group, { state: 'resting', resting: why, untilMs });
    this.#resting.push({ atMs: untilMs, group });
    this.#unblock(group.lot.concurrency);
  }

  #wake(nowMs: number): void {
    for (let rest = this.#resting.peek(); rest !== undefined && rest.atMs <= nowMs;) {
      this.#resting.pop();
      const { group, atMs } = rest;
      // It may have been filled, or begun to rest anew, since.
      if (group.state === 'resting' && group.untilMs === atMs) this.#turn(group);
      rest = this.#resting.peek();
    }
  }

  #unblock(key: string): void {
    const blocked = this.#blocked.get(key);
    if (blocked === undefined || !this.#quota.hasRoom(key)) return;
    const group = blocked.shift();
    if (blocked.length === 0) this.#blocked.delete(key);
    if (group !== undefined) this.#turn(group);
  }

  #turn(group: Group<Event>): void {
    if (group.queue.length === 0) {
      this.#groups.delete(group.id);
      return;
    }
    group.state = 'turning';
    const { priority } = group.lot;
    let at = this.#turns.findIndex((turn) => turn.priority <= priority);
    if (at < 0) at = this.#turns.length;
    if (this.#turns[at]?.priority !== priority) this.#turns.splice(at, 0, { priority, groups: [] });
    this.#turns[at]?.groups.push(group);
  }

  #groupOf({ lot }: Held<Event>): Group<Event> {
    if (lot === undefined) throw new Error('an event without its lot');
    const id = idOf(lot);
    let group = this.#groups.get(id);
    if (group === undefined) {
      group = {
        id,
        lot,
        queue: [],
        state: 'busy',
        untilMs: 0,
        resting: 'rate',
        out: new Set(),
      };
      this.#groups.set(id, group);
    }
    return group;
  }

  #isFull({ queue }: Group<Event>, nowMs: number): boolean {
    const { batch } = this.#limits;
    const [first] = queue;
    if (batch === undefined || first === undefined) return true;
    const waited = first.arrivedMs + batch.waitMs <= nowMs;
    return waited || batchLength(queue, batch) < queue.length || queue.length >= batch.maxSize;
  }
}

/** How many of the first ones make one batch; one at least. */
function batchLength<Event>(
  queue: readonly Held<Event>[],
  { maxSize, maxBytes }: BatchLimit,
): number {
  let bytes = 0;
  for (const [index, held] of queue.entries()) {
    bytes += held.bytes;
    if (index >= maxSize || (index > 0 && bytes > maxBytes)) return index;
  }
  return queue.length;
}

function idOf({ priority, concurrency, rate, fair, batch }: Lot): string {
  return JSON.stringify([priority, concurrency, rate, fair, batch]);
}

/** One that comes again goes before those that came after it. */
function insert<Event>(queue: Held<Event>[], held: Held<Event>): void {
  let at = queue.length;
  while (at > 0 && (queue[at - 1] as Held<Event>).sequence > held.sequence) at -= 1;
  queue.splice(at, 0, held);
}

function push<Value>(lists: Map<string, Value[]>, key: string, value: Value): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [value]);
  else list.push(value);
}
