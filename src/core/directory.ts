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
export type WorkerState = 'running' | 'draining';

export interface WorkerRecord {
  id: string;
  /** Counts the worker's connections to the broker: calls sent under an earlier one may be lost. */
  connectionEpoch: number;
  state: WorkerState;
  functions: readonly string[];
  /** By function: versions with the same one dispatch its durable events alike. */
  identities?: Readonly<Record<string, string>> | undefined;
  /** Counts the changes of `functions`; a beat with another revision makes the listener ask for an announcement. */
  revision: number;
}

interface Entry {
  record: WorkerRecord;
  heardAtMs: number;
  silent: boolean;
}

interface Candidates {
  heard: readonly string[];
  silent: readonly string[];
}

export type BeatOutcome = 'known' | 'unknown' | 'new-connection';

export class Directory {
  private readonly entries = new Map<string, Entry>();
  /** function → ids of running workers, built on demand and dropped at every change. */
  private readonly candidates = new Map<string, Candidates>();

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
  announced(record: WorkerRecord, nowMs: number): boolean {
    const known = this.entries.get(record.id);
    this.entries.set(record.id, { record, heardAtMs: nowMs, silent: false });
    this.candidates.clear();
    return known !== undefined && known.record.connectionEpoch !== record.connectionEpoch;
  }

  beat(
    beat: Pick<WorkerRecord, 'id' | 'connectionEpoch' | 'state' | 'revision'>,
    nowMs: number,
  ): BeatOutcome {
    const entry = this.entries.get(beat.id);
    if (entry === undefined || entry.record.revision !== beat.revision) return 'unknown';
    entry.heardAtMs = nowMs;
    if (entry.silent) {
      entry.silent = false;
      this.candidates.clear();
    }
    const { record } = entry;
    const reconnected = record.connectionEpoch !== beat.connectionEpoch;
    if (reconnected || record.state !== beat.state) this.announced({ ...record, ...beat }, nowMs);
    return reconnected ? 'new-connection' : 'known';
  }

  /** The worker said goodbye, or its subject has no subscriber any more. */
  remove(id: string): boolean {
    this.candidates.clear();
    return this.entries.delete(id);
  }

  /** Gives all workers that have said nothing for longer than `missedAfterMs`: they are silent from now on. */
  silence(nowMs: number, missedAfterMs: number): string[] {
    const missed: string[] = [];
    for (const [id, entry] of this.entries) {
      if (nowMs - entry.heardAtMs <= missedAfterMs) continue;
      missed.push(id);
      if (!entry.silent) this.candidates.clear();
      entry.silent = true;
    }
    return missed;
  }

  /** Is it there, not silent nor leaving, and has it the function? */
  runs(id: string, functionName: string): boolean {
    return this.candidatesFor(functionName).heard.includes(id);
  }

  /** All that have the function, running or draining. */
  workersOf(functionName: string): WorkerRecord[] {
    return this.workers().filter((worker) => worker.functions.includes(functionName));
  }

  /**
   * A running worker that has the function, each equally likely; a silent one only if there is no other, `except`
   * only if there is not even that. `random` gives [0, 1).
   */
  pick(functionName: string, random: () => number, except?: string): string | undefined {
    const { heard, silent } = this.candidatesFor(functionName);
    const other = pickOther(heard, random, except) ?? pickOther(silent, random, except);
    if (other !== undefined || except === undefined) return other;
    return heard.includes(except) || silent.includes(except) ? except : undefined;
  }

  private candidatesFor(functionName: string): Candidates {
    const known = this.candidates.get(functionName);
    if (known !== undefined) return known;
    const able = [...this.entries.values()]
      .filter(({ record }) => record.state === 'running' && record.functions.includes(functionName))
      .sort((left, right) => (left.record.id < right.record.id ? -1 : 1));
    const idsOf = (silent: boolean): string[] =>
      able.filter((entry) => entry.silent === silent).map(({ record }) => record.id);
    const found = { heard: idsOf(false), silent: idsOf(true) };
    // Names come from callers: only those that exist are remembered, so that the map stays bounded.
    if (able.length > 0) this.candidates.set(functionName, found);
    return found;
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
