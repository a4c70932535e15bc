/** What of a source is waiting, running or failed, and what may run next: SPEC.md, "An event's way". Pure: times come in. */

import TinyQueue from 'tinyqueue';
import { Flow, type FlowLimits, type Lot } from './flow.ts';
import { laneOf } from './marker.ts';
import type { Quota } from './quota.ts';
import { Fifo, type Ready, type Taken, type Why } from './ready.ts';

/** What the dispatcher must know of an event; `Event` is its owner's. */
export interface Held<Event> {
  readonly sequence: number;
  readonly key: string | undefined;
  readonly bytes: number;
  /** Only where the function has flow control. */
  readonly lot?: Lot | undefined;
  /** When the stream stored it, on the clock that says what is now. */
  readonly arrivedMs: number;
  /** Runs that have failed. */
  failures: number;
  /** It may have run before: the marker is asked first. */
  again: boolean;
  /** It is not to run earlier. */
  dueMs: number;
  /** The same by the calendar, in milliseconds since 1970, where it waits after a failure: for the cursor. */
  retryAtMs: number | undefined;
  readonly event: Event;
}

export interface FlowControl extends FlowLimits {
  /** Of events with the same key the last one runs when none has come for `waitMs`, or the first has waited for `maxWaitMs`. */
  debounce?: { waitMs: number; maxWaitMs: number } | undefined;
  /** While an event of a key waits or runs, others are dropped. */
  singleton?: boolean | undefined;
}

interface Debounced<Event> {
  held: Held<Event>;
  firstMs: number;
}

interface Chain<Event> {
  turn: number;
  readonly behind: Held<Event>[];
}

interface Waiting<Event> {
  readonly held: Held<Event>;
  readonly dueMs: number;
}

/** What waits for the same reason. */
export interface WaitingGroup {
  why: Why;
  key: string;
  count: number;
  /** When the first of them may run, if that is known. */
  untilMs: number | undefined;
}

export interface DispatchLimits {
  maxEventsHeld: number;
  maxEventBytesHeld: number;
  maxEventsRunning: number;
}

export interface Cursor {
  /** Everything before it is settled, */
  next: number;
  /** except these. What has failed may say when it is to run again, in milliseconds since 1970. */
  open: [sequence: number, failures: number, retryAtMs?: number | undefined][];
}

/** What is known of an event before it is read. */
export interface Known {
  failures: number;
  retryAtMs: number | undefined;
  /** It may have run. */
  again: boolean;
}

const UNKNOWN: Known = { failures: 0, retryAtMs: undefined, again: false };

export class Dispatch<Event> {
  /** The lowest sequence that was not read. */
  next: number;
  readonly #limits: DispatchLimits;
  /** Of the cursor that it began at: open, and not read again yet. */
  readonly #missing = new Map<number, Known>();
  /** Of these, read again and not held yet. */
  readonly #unheld = new Set<number>();
  /** All that is not settled, in the order of sequences. */
  readonly #held = new Map<number, Held<Event>>();
  #heldBytes = 0;
  #largestBytes = 1;
  /** By lane: what is held or missing. */
  readonly #lanes = new Map<number, Set<number>>();
  readonly #running = new Set<number>();
  /** By key: which event's turn it is, and what waits behind it. */
  readonly #chains = new Map<string, Chain<Event>>();
  readonly #ready: Ready<Event>;
  readonly #delayed = new TinyQueue<Waiting<Event>>([], (left, right) => left.dueMs - right.dueMs);
  readonly #flow: FlowControl | undefined;
  readonly #debounced = new Map<string, Debounced<Event>>();
  /** Of keys that allow one only: which. */
  readonly #single = new Map<string, number>();
  /** One event at a time, also where there are batches. */
  alone = false;
  /** Events that were not run because of others. */
  dropped = 0;

  /** `quota`: shared with other sources of the function. */
  constructor({ next, open }: Cursor, limits: DispatchLimits, flow?: FlowControl, quota?: Quota) {
    this.next = next;
    for (const [sequence, failures, retryAtMs] of open) {
      this.#missing.set(sequence, { failures, retryAtMs, again: true });
      this.#opened(sequence);
    }
    this.#limits = limits;
    this.#flow = flow;
    this.#ready = flow === undefined ? new Fifo() : new Flow(flow, quota);
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

  /** When something may run that must not yet; undefined for none. */
  get dueMs(): number | undefined {
    const delayedMs = this.#delayed.peek()?.dueMs ?? Infinity;
    const dueMs = Math.min(delayedMs, this.#ready.dueMs ?? Infinity);
    return dueMs === Infinity ? undefined : dueMs;
  }

  /** How many more events may be read now, each taken to be as large as the largest so far (D4). */
  get room(): number {
    const { maxEventsHeld, maxEventBytesHeld } = this.#limits;
    const byBytes = Math.ceil((maxEventBytesHeld - this.#heldBytes) / this.#largestBytes);
    return Math.max(0, Math.min(maxEventsHeld - this.#held.size, byBytes));
  }

  /**
   * What is known of an event that was read, undefined where it is settled. Events are read in the
   * order of their sequences, so that those which are passed over are gone.
   */
  read(sequence: number): Known | undefined {
    const known = this.#missing.get(sequence) ?? (sequence < this.next ? undefined : UNKNOWN);
    if (this.#missing.has(sequence)) this.#unheld.add(sequence);
    for (const missing of this.#missing.keys()) {
      if (missing >= sequence || this.#unheld.has(missing)) continue;
      // Gone from its stream: nobody settles it any more.
      this.#missing.delete(missing);
      this.#closed(missing);
    }
    return known;
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
  add(held: Held<Event>, nowMs: number): void {
    this.hold(held);
    const { lot } = held;
    if (lot !== undefined && this.#flow?.singleton === true) {
      if (this.#single.has(lot.singleton)) {
        this.#drop(held);
        return;
      }
      this.#single.set(lot.singleton, held.sequence);
    }
    if (lot !== undefined && this.#flow?.debounce !== undefined) this.#debounce(held, lot);
    else this.#order(held, nowMs);
  }

  /** What is to be run now; it counts as running, what is refused does not. */
  take(nowMs: number): Taken<Event> {
    for (let first = this.#delayed.peek(); first !== undefined && first.dueMs <= nowMs;) {
      this.#delayed.pop();
      this.#due(first, nowMs);
      first = this.#delayed.peek();
    }
    const most = this.alone ? 1 : this.#limits.maxEventsRunning;
    const room = Math.max(0, most - this.#running.size);
    const taken = this.#ready.take(room, nowMs, this.alone);
    for (const run of taken.runs) for (const { sequence } of run) this.#running.add(sequence);
    return taken;
  }

  settled(held: Held<Event>): void {
    const { sequence, key, bytes, lot } = held;
    if (!this.#held.delete(sequence)) return;
    this.#closed(sequence);
    this.#running.delete(sequence);
    this.#heldBytes -= bytes;
    this.#ready.ended(held, true);
    if (lot !== undefined && this.#single.get(lot.singleton) === sequence) {
      this.#single.delete(lot.singleton);
    }
    const chain = key === undefined ? undefined : this.#chains.get(key);
    if (key === undefined || chain?.turn !== sequence) return;
    const next = chain.behind.shift();
    if (next === undefined) this.#chains.delete(key);
    else {
      chain.turn = next.sequence;
      this.#ready.push(next, next.arrivedMs);
    }
  }

  /** It runs again at `dueMs`; those of its key wait (D3), no others do (D5). */
  retry(held: Held<Event>, dueMs: number, retryAtMs?: number): void {
    this.#running.delete(held.sequence);
    this.#ready.ended(held, false);
    held.again = true;
    held.retryAtMs = retryAtMs;
    this.#delay(held, dueMs);
  }

  /** Neither settled nor run again here: it is left to another dispatcher. */
  released(held: Held<Event>): void {
    this.#running.delete(held.sequence);
    this.#ready.ended(held, false);
  }

  /** Takes nothing more. */
  close(): void {
    this.#ready.close();
  }

  /** What is held and does not run, by reason and key. */
  waiting(nowMs: number): WaitingGroup[] {
    const behind = new Set([...this.#chains.values()].flatMap((chain) => chain.behind));
    const groups = new Map<string, WaitingGroup>();
    for (const held of this.#held.values()) {
      if (this.#running.has(held.sequence)) continue;
      const why = this.#why(held, behind, nowMs);
      const key = keyFor(why, held);
      const untilMs = held.dueMs > nowMs ? held.dueMs : undefined;
      const group = groups.get(`${why} ${key}`) ?? { why, key, count: 0, untilMs };
      group.count += 1;
      groups.set(`${why} ${key}`, group);
    }
    return [...groups.values()];
  }

  #why(held: Held<Event>, behind: ReadonlySet<Held<Event>>, nowMs: number): Why {
    if (behind.has(held)) return 'order';
    if (held.dueMs > nowMs) return held.failures > 0 || held.again ? 'retry' : 'debounce';
    return this.#ready.why(held);
  }

  #debounce(held: Held<Event>, lot: Lot): void {
    const { waitMs, maxWaitMs } = this.#flow?.debounce ?? { waitMs: 0, maxWaitMs: 0 };
    const before = this.#debounced.get(lot.debounce);
    const firstMs = before?.firstMs ?? held.arrivedMs;
    if (before !== undefined) this.#drop(before.held);
    this.#debounced.set(lot.debounce, { held, firstMs });
    this.#delay(held, Math.min(held.arrivedMs + waitMs, firstMs + maxWaitMs));
  }

  /** It is settled by being dropped: another event of its key stands for it. */
  #drop(held: Held<Event>): void {
    this.dropped += 1;
    this.settled(held);
  }

  #delay(held: Held<Event>, dueMs: number): void {
    held.dueMs = dueMs;
    this.#delayed.push({ held, dueMs });
  }

  #due({ held, dueMs }: Waiting<Event>, nowMs: number): void {
    // One that was dropped meanwhile.
    if (!this.#held.has(held.sequence) || held.dueMs !== dueMs) return;
    const debounced = held.lot && this.#debounced.get(held.lot.debounce);
    if (debounced?.held === held) {
      this.#debounced.delete(held.lot?.debounce ?? '');
      this.#order(held, nowMs);
    } else this.#ready.push(held, nowMs);
  }

  #order(held: Held<Event>, nowMs: number): void {
    // D3. Ordered batches see to it themselves.
    if (held.key !== undefined && this.#flow?.batch === undefined) {
      const chain = this.#chains.get(held.key);
      if (chain !== undefined) {
        chain.behind.push(held);
        return;
      }
      this.#chains.set(held.key, { turn: held.sequence, behind: [] });
    }
    // Ordered batches would have others of the key go first.
    const early = held.dueMs > nowMs && this.#flow?.batch === undefined;
    if (early) this.#delay(held, held.dueMs);
    else this.#ready.push(held, nowMs);
  }

  /** What is not settled of the event's lane. */
  openBeside(sequence: number): number[] {
    return [...(this.#lanes.get(laneOf(sequence)) ?? [])];
  }

  cursor(): Cursor {
    const open: Cursor['open'] = [];
    const add = (sequence: number, { failures, retryAtMs }: Omit<Known, 'again'>): void => {
      open.push(retryAtMs === undefined ? [sequence, failures] : [sequence, failures, retryAtMs]);
    };
    for (const [sequence, known] of this.#missing) add(sequence, known);
    for (const held of this.#held.values()) add(held.sequence, held);
    return { next: this.next, open };
  }

  #opened(sequence: number): void {
    const lane = this.#lanes.get(laneOf(sequence));
    if (lane === undefined) this.#lanes.set(laneOf(sequence), new Set([sequence]));
    else lane.add(sequence);
  }

  #closed(sequence: number): void {
    this.#lanes.get(laneOf(sequence))?.delete(sequence);
  }
}

/** Of what they wait for: the key of the option, or of the function. */
function keyFor<Event>(why: Why, { key = '', lot }: Held<Event>): string {
  return why === 'order' || why === 'retry' || why === 'worker' ? key : (lot?.[why] ?? '');
}
