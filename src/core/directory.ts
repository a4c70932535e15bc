/**
 * What a caller knows of the workers: who lives, who drains, which functions each runs. Pure: announcements, beats
 * and losses come in with their time, choices come out.
 *
 * The directory is a hint. A worker that it wrongly believes alive answers "no responders" at once, and the call
 * goes elsewhere; one that it does not know yet is found by its next announcement.
 *
 * A worker that misses its beats is silent, not gone: a handler that computes for seconds holds up the beats of its
 * process. It is chosen only where no other can be, and comes back with its next beat. It leaves when it says so, or
 * when the broker says that nobody listens on its subjects: nothing else bounds its stay but its connection's life,
 * which the broker ends when its own pings stay without an answer.
 */
import type { CacheRules } from './answer-cache.ts';
import { DEFAULT_STRATEGY } from './balance/strategy.ts';

/** Of functions, by their names. */
export type ByName<Value> = readonly (readonly [name: string, value: Value])[];

export function valueOf<Value>(pairs: ByName<Value> = [], name: string): Value | undefined {
  return pairs.find(([each]) => each === name)?.[1];
}

export type WorkerState = 'running' | 'draining';

export interface WorkerRecord {
  id: string;
  /** Counts the worker's connections to the broker: calls sent under an earlier one may be lost. */
  connectionEpoch: number;
  state: WorkerState;
  functions: readonly string[];
  /** By function: versions with the same one dispatch its durable events alike. */
  identities?: ByName<string> | undefined;
  /** By function: how its calls are balanced, where not at random. */
  balances?: ByName<string> | undefined;
  /** By function: how its answers may be kept. */
  caches?: ByName<CacheRecord> | undefined;
  /** Declared: what it is meant for, in comparison with others. */
  capacity?: number | undefined;
  /** Counts the changes of `functions`; a beat with another revision makes the listener ask for an announcement. */
  revision: number;
}

interface Entry {
  record: WorkerRecord;
  heardAtMs: number;
  silent: boolean;
  full: readonly string[];
}

/** Of workers that say nothing of it. */
const DEFAULT_CAPACITY = 100;
const NONE: readonly string[] = [];
/** More collections than a platform has. */
const MAX_WATCHED = 100_000;
/** More than this are no workers. */
const MAX_WORKERS = 10_000;

export interface CacheRecord extends CacheRules {
  /** Has it a key of its own? Else the whole input is. */
  keyed: boolean;
  /** Collections whose changes make answers wrong. */
  state: readonly string[];
  /** Of the function; as `cacheOf` gives it, of all versions that run. */
  version?: string | undefined;
}

/** A beat: what changes from one to the next. */
export interface WorkerBeat extends Pick<
  WorkerRecord,
  'id' | 'connectionEpoch' | 'state' | 'revision'
> {
  /** Functions of which so many run that others wait. */
  full?: readonly string[] | undefined;
}

/** The ids of running workers that have a function, by how good a choice they are. */
export interface Candidates {
  free: readonly string[];
  full: readonly string[];
  /** They miss their beats. */
  silent: readonly string[];
}

export type BeatOutcome = 'known' | 'unknown' | 'new-connection';

export class Directory {
  private readonly entries = new Map<string, Entry>();
  /** Built on demand and dropped at every change. */
  private readonly known = new Map<string, Candidates>();
  private readonly caches = new Map<string, CacheRecord>();
  /** Also of workers that are gone: their callers may still be there. */
  private readonly watched = new Set<string>();
  /** Counts what changes the candidates of any function. */
  version = 0;

  get size(): number {
    return this.entries.size;
  }

  workers(): WorkerRecord[] {
    return [...this.entries.values()].map((entry) => entry.record);
  }

  /** The ids of those that run, not drain, and were heard of at `sinceMs` or later. */
  heardSince(sinceMs: number): string[] {
    return [...this.entries.values()]
      .filter(({ record, heardAtMs }) => record.state === 'running' && heardAtMs >= sinceMs)
      .map(({ record }) => record.id);
  }

  has(id: string): boolean {
    return this.entries.has(id);
  }

  /** True when the worker is back on a new connection, so that what was sent on the old one may be lost. */
  announced({ full = NONE, ...record }: WorkerRecord & WorkerBeat, nowMs: number): boolean {
    const known = this.entries.get(record.id);
    if (known === undefined && this.entries.size >= MAX_WORKERS) return false;
    this.entries.set(record.id, { record, heardAtMs: nowMs, silent: false, full });
    for (const [, { state }] of record.caches ?? []) {
      for (const name of state) if (this.watched.size < MAX_WATCHED) this.watched.add(name);
    }
    this.changed();
    return known !== undefined && known.record.connectionEpoch !== record.connectionEpoch;
  }

  beat({ full = NONE, ...beat }: WorkerBeat, nowMs: number): BeatOutcome {
    const entry = this.entries.get(beat.id);
    if (entry === undefined || entry.record.revision !== beat.revision) return 'unknown';
    entry.heardAtMs = nowMs;
    if (entry.silent || String(entry.full) !== String(full)) {
      entry.silent = false;
      entry.full = full;
      this.changed();
    }
    const { record } = entry;
    const { connectionEpoch, state } = beat;
    const reconnected = record.connectionEpoch !== connectionEpoch;
    if (reconnected || record.state !== state) {
      this.announced({ ...record, connectionEpoch, state, full }, nowMs);
    }
    return reconnected ? 'new-connection' : 'known';
  }

  /** The worker said goodbye, or its subject has no subscriber any more. */
  remove(id: string): boolean {
    this.changed();
    return this.entries.delete(id);
  }

  /** Gives all workers that have said nothing for longer than `missedAfterMs`: they are silent from now on. */
  silence(nowMs: number, missedAfterMs: number): string[] {
    const missed: string[] = [];
    for (const [id, entry] of this.entries) {
      if (nowMs - entry.heardAtMs <= missedAfterMs) continue;
      missed.push(id);
      if (!entry.silent) this.changed();
      entry.silent = true;
    }
    return missed;
  }

  /** Is it there, not silent nor leaving, and has it the function? */
  runs(id: string, functionName: string): boolean {
    const { free, full } = this.candidates(functionName);
    return free.includes(id) || full.includes(id);
  }

  /** All that have the function, running or draining. */
  workersOf(functionName: string): WorkerRecord[] {
    return this.workers().filter((worker) => worker.functions.includes(functionName));
  }

  /**
   * A running worker that has the function, each equally likely; one that is full only if there is no other, a silent one only
   * if there is not even that, and `except` last of all. `random` gives [0, 1).
   */
  pick(functionName: string, random: () => number, except?: string): string | undefined {
    const { free, full, silent } = this.candidates(functionName);
    const other =
      pickOther(free, random, except) ??
      pickOther(full, random, except) ??
      pickOther(silent, random, except);
    if (other !== undefined || except === undefined) return other;
    return [free, full, silent].some((ids) => ids.includes(except)) ? except : undefined;
  }

  /** How calls of the function are balanced, as the first of its workers says; undefined where none has it. */
  balanceOf(functionName: string): string | undefined {
    const first = this.firstOf(functionName);
    return first && (valueOf(first.balances, functionName) ?? DEFAULT_STRATEGY);
  }

  /** Likewise, how its answers may be kept; undefined where they may not. The same object until something has changed. */
  cacheOf(functionName: string): CacheRecord | undefined {
    const known = this.caches.get(functionName);
    if (known !== undefined) return known;
    const record = valueOf(this.firstOf(functionName)?.caches, functionName);
    if (record === undefined) return undefined;
    const versions = this.workersOf(functionName)
      .filter(({ state }) => state === 'running')
      .map(({ caches }) => valueOf(caches, functionName)?.version ?? '')
      .sort((left, right) => (left < right ? -1 : 1));
    const found = { ...record, version: [...new Set(versions)].join(' ') };
    this.caches.set(functionName, found);
    return found;
  }

  /** Collections whose changes make kept answers wrong. */
  watchedCollections(): ReadonlySet<string> {
    return this.watched;
  }

  private firstOf(functionName: string): WorkerRecord | undefined {
    const { free, full, silent } = this.candidates(functionName);
    const id = free[0] ?? full[0] ?? silent[0];
    return id === undefined ? undefined : this.entries.get(id)?.record;
  }

  capacityOf(id: string): number {
    return this.entries.get(id)?.record.capacity ?? DEFAULT_CAPACITY;
  }

  candidates(functionName: string): Candidates {
    const known = this.known.get(functionName);
    if (known !== undefined) return known;
    const able = [...this.entries.values()]
      .filter(({ record }) => record.state === 'running' && record.functions.includes(functionName))
      .sort((left, right) => (left.record.id < right.record.id ? -1 : 1));
    const found = { free: [] as string[], full: [] as string[], silent: [] as string[] };
    for (const { record, silent, full } of able) {
      const kind = silent ? 'silent' : full.includes(functionName) ? 'full' : 'free';
      found[kind].push(record.id);
    }
    // Names come from callers: only those that exist are remembered, so that the map stays bounded.
    if (able.length > 0) this.known.set(functionName, found);
    return found;
  }

  private changed(): void {
    this.known.clear();
    this.caches.clear();
    this.version += 1;
  }
}

function pickOther(
  ids: readonly string[],
  random: () => number,
  except: string | undefined,
): string | undefined {
  const left = except === undefined ? -1 : ids.indexOf(except);
  // Of no ids, the one at index 0 is undefined.
  if (left < 0) return ids[Math.floor(random() * ids.length)];
  const chosen = Math.floor(random() * (ids.length - 1));
  return ids.length === 1 ? undefined : ids[chosen < left ? chosen : chosen + 1];
}
