/**
 * What a partition does while the number of partitions changes: as a source it lets go of keys, as a target it fetches
 * them. SPEC.md, "Changing the number of partitions": I8 and I9 are cited from there.
 */
import type { Items } from './items.ts';
import { counterparts, isSource, isTarget, type Layout, type Ring, type Rings } from './layout.ts';
import type { LogQueue } from './log-queue.ts';
import type {
  FetchMessage,
  ItemsMessage,
  LockMessage,
  LogRecord,
  MoveMessage,
  VersionedWrite,
} from './messages.ts';
import type { PartitionLimits, PartitionPorts } from './ports.ts';
import type { Session } from './session.ts';
import type { Sessions } from './sessions.ts';
import { writeBytes } from './records.ts';

/** Lock requests that wait for the end of a move; more are dropped, and asked again by their coordinators. */
const MAX_HELD = 10_000;
/** Sources that a target fetches from at the same time: a key is away while its source's items are fetched. */
const MAX_QUESTIONS = 4;

/** A source's move to one target, until it is done. */
interface Departure {
  /** `leaving` is enqueued. */
  leaving: boolean;
  /** `moved` is enqueued. */
  moving: boolean;
  /** When the target was last told that all is there to be fetched. */
  saidMs: number;
  /** Lock requests for these keys, by transaction and key. */
  waiting: Map<string, LockMessage>;
  /** The keys, sorted; found when `leaving` is in the log. */
  keys: string[] | undefined;
}

interface Question {
  from: number;
  after: string;
  askedMs: number;
  /** The answer is being logged. */
  answered: boolean;
}

export class Moves {
  /** Of the log; before that says anything, of the table. */
  layout: Layout | undefined;
  closed = false;
  readonly #id: number;
  readonly #items: Items;
  readonly #sessions: Sessions;
  readonly #queue: LogQueue;
  readonly #ports: PartitionPorts;
  readonly #rings: Rings;
  readonly #limits: PartitionLimits;
  #from: Ring = () => -1;
  #to: Ring = () => -1;
  /** The layout is in the log. */
  #logged = false;
  /** Until then, for a snapshot: what the log has. */
  #before: LogRecord[] = [];
  /** As in the log: targets whose keys are not served here any more, and those of which they are forgotten. */
  readonly #left = new Set<number>();
  readonly #moved = new Set<number>();
  /** Sources of which everything is here. */
  readonly #arrived = new Set<number>();
  readonly #departures = new Map<number, Departure>();
  #held = 0;
  /** By source. */
  readonly #questions = new Map<number, Question>();

  constructor(
    id: number,
    items: Items,
    sessions: Sessions,
    queue: LogQueue,
    ports: PartitionPorts & { rings: Rings },
    limits: PartitionLimits,
  ) {
    this.#id = id;
    this.#items = items;
    this.#sessions = sessions;
    this.#queue = queue;
    this.#ports = ports;
    this.#rings = ports.rings;
    this.#limits = limits;
  }

  /** Its part of the change is done, and its log says so. */
  get settled(): boolean {
    if (this.layout === undefined) return false;
    if (this.layout.from === this.layout.to) return true;
    const done = isSource(this.layout, this.#id) ? this.#moved : this.#arrived;
    return this.#logged && done.size === counterparts(this.layout, this.#id).length;
  }

  /** Of the last change that is done here. */
  get settledGeneration(): number {
    const { generation = 0 } = this.layout ?? {};
    return this.settled ? generation : generation - 1;
  }

  /** How many moves of this partition are still to be done. */
  get open(): number {
    if (this.layout === undefined || this.settled) return 0;
    return (
      counterparts(this.layout, this.#id).length -
      (isSource(this.layout, this.#id) ? this.#moved : this.#arrived).size
    );
  }

  /** What the table says. Nothing that is older than the log's word, and nothing before what came before is done here. */
  adopt(layout: Layout): void {
    if (this.layout === undefined) this.#begin(layout);
    else if (layout.generation === this.layout.generation) {
      const over = layout.from === layout.to && this.layout.from !== this.layout.to;
      if (over && this.settled) this.#set(layout);
    } else if (layout.generation === this.layout.generation + 1 && this.settled) this.#log(layout);
  }

  serves(item: string): boolean {
    if (this.layout === undefined) return false;
    const from = this.#from(item);
    if (this.layout.from === this.layout.to) return from === this.#id;
    const to = this.#to(item);
    if (from === this.#id) return to === from || !(this.#departures.has(to) || this.#left.has(to));
    return to === this.#id && this.#arrived.has(from);
  }

  /** A lock that is not granted here: its coordinator is told where to ask, or waits until that is known. */
  refuse(message: LockMessage): void {
    const { layout } = this;
    if (layout === undefined) return;
    const from = this.#from(message.key);
    const to = this.#to(message.key);
    if (from === this.#id) {
      if (this.#moved.has(to)) this.#sayElsewhere(message, to);
      else this.#hold(message, to);
    } else if (to !== this.#id) this.#sayElsewhere(message, from);
  }

  receive(message: MoveMessage, nowMs: number): void {
    const { layout } = this;
    if (layout === undefined || this.closed || message.generation !== layout.generation) return;
    if (message.kind === 'fetch') this.#onFetch(message, layout, nowMs);
    else if (message.kind === 'items') this.#onItems(message, nowMs);
    else if (message.kind === 'arrived') this.#onArrived(message.to);
    else if (this.#arrived.has(message.from)) this.#sayArrived(message.from, message.generation);
  }

  /** Whatever has become possible. */
  proceed(nowMs: number): void {
    if (this.closed || this.layout === undefined) return;
    for (const [to, departure] of this.#departures) {
      if (!departure.leaving && !this.#isUnderWay(to)) this.#leave(to, departure);
    }
    this.#askNext(nowMs);
  }

  tick(nowMs: number): void {
    if (this.closed || this.layout === undefined || this.settled) return;
    const { queryAfterMs } = this.#limits;
    const { generation } = this.layout;
    for (const to of this.#left) {
      if (this.#moved.has(to)) continue;
      const departure = this.#departureOf(to);
      if (nowMs - departure.saidMs < queryAfterMs) continue;
      departure.saidMs = nowMs;
      this.#ports.toPartition(to, { kind: 'left', tx: '', generation, from: this.#id });
    }
    for (const question of this.#questions.values()) {
      if (question.answered || nowMs - question.askedMs < queryAfterMs) continue;
      this.#ask(question, nowMs);
    }
  }

  replay(record: LogRecord): void {
    if (record.kind === 'layout') {
      this.#set(record);
      this.#logged = true;
      for (const to of record.left) this.#left.add(to);
      for (const to of record.moved) this.#moved.add(to);
      for (const from of record.arrived) this.#arrived.add(from);
    } else if (record.kind === 'leaving') this.#left.add(record.to);
    else if (record.kind === 'moved') this.#forget(record.to);
    else if (record.kind === 'arriving') this.#take(record);
  }

  /** For a snapshot. */
  record(): LogRecord[] {
    if (this.layout === undefined || !this.#logged) return this.#before;
    const { generation, from, to } = this.layout;
    const lists = { left: [...this.#left], moved: [...this.#moved], arrived: [...this.#arrived] };
    return [{ kind: 'layout', tx: '', generation, from, to, ...lists }];
  }

  clear(): void {
    this.layout = undefined;
    this.#logged = false;
    this.#before = [];
    this.#left.clear();
    this.#moved.clear();
    this.#arrived.clear();
  }

  /** The log has no layout: it is the first one's that the table had, or this partition is new. */
  #begin(layout: Layout): void {
    const { generation, from } = layout;
    if (generation === 0) this.#set(layout);
    // Who has been part of a change has it in its log.
    else if (this.#id >= from || (generation === 1 && from !== layout.to)) this.#log(layout);
    else {
      throw new Error(
        `the log of partition ${this.#id} knows nothing of ${generation - 1} changes`,
      );
    }
  }

  #log(layout: Layout): void {
    this.#before = this.record();
    this.#set(layout);
    this.#logged = false;
    const { generation, from, to } = layout;
    const none = { left: [], moved: [], arrived: [] };
    this.#queue.enqueue({ kind: 'layout', tx: '', generation, from, to, ...none }, () => {
      this.#logged = true;
      this.#before = [];
    });
  }

  #set({ generation, from, to }: Layout): void {
    this.layout = { generation, from, to };
    this.#from = this.#rings(from);
    this.#to = this.#rings(to);
    this.#left.clear();
    this.#moved.clear();
    this.#arrived.clear();
    this.#departures.clear();
    this.#held = 0;
    this.#questions.clear();
  }

  #onFetch({ to, after }: FetchMessage, layout: Layout, nowMs: number): void {
    const concerned = isSource(layout, this.#id) && isTarget(layout, to);
    if (!concerned || this.#moved.has(to)) return;
    if (this.#left.has(to)) this.#sayItems(to, after, nowMs);
    else if (!this.#departures.has(to)) {
      this.#departureOf(to);
      const lost = [...this.#sessions.values()].filter((session) => this.#wants(session, to));
      const refusal = { why: 'lost', partition: this.#id } as const;
      for (const session of lost) {
        if (this.#sessions.has(session)) this.#sessions.lose(session, refusal);
      }
    }
  }

  /** It has not prepared, and has locks of keys that move, or waits for some. */
  #wants({ state, keys }: Session, to: number): boolean {
    return state === 'active' && [...keys.keys()].some((key) => this.#movesTo(key, to));
  }

  #isUnderWay(to: number): boolean {
    for (const { writes } of this.#sessions.values()) {
      if (writes.some(([key]) => this.#movesTo(key, to))) return true;
    }
    return false;
  }

  #movesTo(item: string, to: number): boolean {
    return this.#to(item) === to && this.#from(item) === this.#id;
  }

  /** Behind all that has committed here: no owner serves these keys any more (I8). */
  #leave(to: number, departure: Departure): void {
    departure.leaving = true;
    this.#queue.enqueue({ kind: 'leaving', tx: '', to }, (nowMs) => {
      this.#left.add(to);
      this.#sayItems(to, '', nowMs);
    });
  }

  #sayItems(to: number, after: string, nowMs: number): void {
    const { generation = 0 } = this.layout ?? {};
    const departure = this.#departureOf(to);
    departure.saidMs = nowMs;
    departure.keys ??= this.#keysOf(to);
    const { keys } = departure;
    const items: VersionedWrite[] = [];
    let bytes = 0;
    let at = firstBehind(keys, after);
    for (; at < keys.length && bytes < this.#limits.moveChunkBytes; at += 1) {
      const key = keys[at] as string;
      const item = this.#items.get(key);
      if (item === undefined) continue;
      items.push([key, item.value, item.version]);
      bytes += writeBytes(key, item.value);
    }
    const last = at === keys.length;
    const { version } = this.#items;
    const message = { kind: 'items', tx: '', generation, from: this.#id, after } as const;
    this.#ports.toPartition(to, { ...message, items, last, version });
  }

  /** The target has everything in its log: only now may it be forgotten here (I9). */
  #onArrived(to: number): void {
    if (!this.#left.has(to) || this.#moved.has(to)) return;
    const departure = this.#departureOf(to);
    if (departure.moving) return;
    departure.moving = true;
    this.#queue.enqueue({ kind: 'moved', tx: '', to }, () => this.#forget(to));
  }

  #forget(to: number): void {
    for (const key of this.#departures.get(to)?.keys ?? this.#keysOf(to))
      this.#items.apply([key, null, 0]);
    this.#moved.add(to);
    const departure = this.#departures.get(to);
    this.#departures.delete(to);
    for (const message of departure?.waiting.values() ?? []) this.#sayElsewhere(message, to);
    this.#held -= departure?.waiting.size ?? 0;
  }

  #hold(message: LockMessage, to: number): void {
    const { waiting } = this.#departureOf(to);
    const name = `${message.tx} ${message.key}`;
    if (waiting.has(name)) return;
    if (this.#held >= MAX_HELD) return;
    waiting.set(name, message);
    this.#held += 1;
  }

  #departureOf(to: number): Departure {
    let departure = this.#departures.get(to);
    if (departure === undefined) {
      const leaving = this.#left.has(to);
      const saidMs = Number.NEGATIVE_INFINITY;
      departure = { leaving, moving: false, saidMs, waiting: new Map(), keys: undefined };
      this.#departures.set(to, departure);
    }
    return departure;
  }

  #keysOf(to: number): string[] {
    const keys: string[] = [];
    for (const key of this.#items.keys()) if (this.#movesTo(key, to)) keys.push(key);
    return keys.sort();
  }

  #askNext(nowMs: number): void {
    const { layout } = this;
    if (layout === undefined || !isTarget(layout, this.#id)) return;
    if (this.#questions.size >= MAX_QUESTIONS) return;
    const sources = counterparts(layout, this.#id);
    if (this.#arrived.size + this.#questions.size === sources.length) return;
    // Not all of them from the same one first.
    const first = this.#id % sources.length;
    const inTurn = [...sources.slice(first), ...sources.slice(0, first)];
    for (const from of inTurn) {
      if (this.#questions.size >= MAX_QUESTIONS) return;
      if (this.#arrived.has(from) || this.#questions.has(from)) continue;
      const question = { from, after: '', askedMs: nowMs, answered: false };
      this.#questions.set(from, question);
      this.#ask(question, nowMs);
    }
  }

  #ask(question: Question, nowMs: number): void {
    const { generation = 0 } = this.layout ?? {};
    question.askedMs = nowMs;
    const { from, after } = question;
    this.#ports.toPartition(from, { kind: 'fetch', tx: '', generation, to: this.#id, after });
  }

  #onItems({ from, after, items, last, version }: ItemsMessage, nowMs: number): void {
    const question = this.#questions.get(from);
    if (question?.after !== after || question.answered) return;
    if (items.length === 0 && !last) return;
    question.answered = true;
    question.askedMs = nowMs;
    const record = { kind: 'arriving', tx: '', from, items, last, version } as const;
    this.#queue.enqueue(record, (loggedAtMs) => {
      this.#take(record);
      if (last) {
        this.#questions.delete(from);
        this.#sayArrived(from, this.layout?.generation ?? 0);
        this.#askNext(loggedAtMs);
      } else {
        question.answered = false;
        question.after = items.at(-1)?.[0] ?? '';
        this.#ask(question, loggedAtMs);
      }
    });
  }

  #take({ from, items, last, version }: LogRecord & { kind: 'arriving' }): void {
    for (const item of items) this.#items.apply(item);
    this.#items.raiseVersion(version);
    if (last) this.#arrived.add(from);
  }

  #sayArrived(from: number, generation: number): void {
    this.#ports.toPartition(from, { kind: 'arrived', tx: '', generation, to: this.#id });
  }

  #sayElsewhere({ tx, key, coordinator }: LockMessage, to: number): void {
    const { generation = 0 } = this.layout ?? {};
    const message = { kind: 'elsewhere', tx, partition: this.#id, key, to, generation } as const;
    this.#ports.toCoordinator(coordinator, message);
  }
}

/** The index of the first key in order behind `after`. */
function firstBehind(keys: readonly string[], after: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((keys[middle] as string) <= after) low = middle + 1;
    else high = middle;
  }
  return low;
}
