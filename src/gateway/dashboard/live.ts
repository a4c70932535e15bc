/** Asks once a second for what the present view shows, and keeps what follows from it. While the page is hidden it asks nothing. */
import type { Answered } from '../shared.ts';
import type { LiveParts } from '../live-parts.ts';
import { ApiError, ask, messageOf } from './api.ts';
import {
  functionRates,
  growth,
  History,
  movesBetween,
  totals,
  type Move,
  type Rates,
} from './rates.ts';

export type PartName = keyof LiveParts;

/** What is known of one part: the last value, and why there is none, or no newer one. */
export interface Part<Value> {
  atMs: number;
  value: Value | undefined;
  error: string | undefined;
}

export type Connection =
  { state: 'connecting' | 'live' | 'paused' } | { state: 'offline' | 'refused'; why: string };

const EVERY_MS = 1_000;
const MAX_MOVES = 50;
/** Waits longer and longer for a gateway that is away. */
const MAX_WAIT_MS = 10_000;

export class Live {
  readonly parts: { [Name in PartName]?: Part<LiveParts[Name]> } = {};
  rates: ReadonlyMap<string, Rates> = new Map();
  moves: Move[] = [];
  connection: Connection = { state: 'connecting' };
  readonly history = {
    calls: new History(),
    errors: new History(),
    committed: new History(),
    conflicts: new History(),
    inFlight: new History(),
  };
  readonly #onChange: () => void;
  readonly #hues = new Map<string, number>();
  #wanted: readonly PartName[] = [];
  #asking: AbortController | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  #paused = false;

  constructor(onChange: () => void) {
    this.#onChange = onChange;
    document.addEventListener('visibilitychange', () => this.#again());
  }

  get paused(): boolean {
    return this.#paused;
  }

  /** What the present view shows; it is asked for at once. */
  want(parts: readonly PartName[]): void {
    this.#wanted = parts;
    this.#again();
  }

  pause(paused: boolean): void {
    this.#paused = paused;
    this.#again();
  }

  refresh(): void {
    this.#again(true);
  }

  stop(): void {
    this.want([]);
  }

  /** The same colour for a worker as long as the page is open. */
  hueOf(worker: string): number {
    const known = this.#hues.get(worker) ?? this.#hues.size;
    this.#hues.set(worker, known);
    // The golden angle: neighbours differ as much as they can.
    return Math.round((200 + known * 137.508) % 360);
  }

  #again(once = false): void {
    clearTimeout(this.#timer);
    this.#asking?.abort();
    if (this.#wanted.length === 0) return;
    if ((document.hidden || this.#paused) && !once) {
      this.connection = { state: 'paused' };
      this.#onChange();
      return;
    }
    void this.#ask();
  }

  async #ask(): Promise<void> {
    const asking = new AbortController();
    this.#asking = asking;
    const beganMs = performance.now();
    try {
      const path = `live?parts=${this.#wanted.join(',')}`;
      const answer = await ask<{ [Name in PartName]?: Answered<LiveParts[Name]> }>(path, {
        signal: asking.signal,
      });
      for (const name of this.#wanted) this.#take(name, answer[name]);
      this.#failures = 0;
      this.connection = { state: this.#paused ? 'paused' : 'live' };
    } catch (error) {
      if (asking.signal.aborted) return;
      this.#failures += 1;
      const refused = error instanceof ApiError && [401, 403].includes(error.status);
      this.connection = { state: refused ? 'refused' : 'offline', why: messageOf(error) };
    }
    this.#onChange();
    if (this.#paused || this.connection.state === 'refused') return;
    const waitMs = Math.min(MAX_WAIT_MS, EVERY_MS * 2 ** this.#failures);
    const leftMs = Math.max(
      100,
      (this.#failures === 0 ? EVERY_MS : waitMs) - (performance.now() - beganMs),
    );
    this.#timer = setTimeout(() => this.#again(), leftMs);
  }

  #take<Name extends PartName>(name: Name, answered: Answered<LiveParts[Name]> | undefined): void {
    const before = this.parts[name];
    if (answered === undefined || answered.atMs === before?.atMs) return;
    const { atMs } = answered;
    const parts = this.parts as Record<string, Part<unknown>>;
    if ('error' in answered) {
      const { code, message } = answered.error;
      parts[name] = { atMs, value: before?.value, error: `${message} (${code})` };
      return;
    }
    parts[name] = { atMs, value: answered.value, error: undefined };
    this.#follow(name, before);
  }

  #follow(name: PartName, before: Part<unknown> | undefined): void {
    const { functions, workers, transactions, partitions } = this.parts;
    if (name === 'functions' && functions?.value !== undefined) {
      const was = before as typeof functions | undefined;
      const elapsedMs = functions.atMs - (was?.atMs ?? functions.atMs);
      this.rates = functionRates(functions.value, was?.value ?? [], elapsedMs);
      if (was === undefined) return;
      const sum = totals(functions.value, this.rates);
      this.history.calls.add(sum.calls);
      this.history.errors.add(sum.errors);
    } else if (name === 'workers' && workers?.value !== undefined) {
      this.history.inFlight.add(workers.value.reduce((sum, { inFlight }) => sum + inFlight, 0));
    } else if (name === 'transactions' && transactions?.value !== undefined) {
      const was = before as typeof transactions | undefined;
      if (was?.value === undefined) return;
      const [now, then] = [transactions.value.counters, was.value.counters];
      const elapsedMs = transactions.atMs - was.atMs;
      this.history.committed.add(growth(now.committed, then.committed, elapsedMs));
      this.history.conflicts.add(growth(now.conflicts, then.conflicts, elapsedMs));
    } else if (name === 'partitions' && partitions?.value !== undefined) {
      const was = (before as typeof partitions | undefined)?.value ?? [];
      const moves = movesBetween(partitions.value, was, partitions.atMs);
      this.moves = [...moves, ...this.moves].slice(0, MAX_MOVES);
    }
  }
}
