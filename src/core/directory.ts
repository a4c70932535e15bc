/**
 * What a caller knows of the workers: who lives, who drains, which functions each runs. Pure: announcements, beats
 * and losses come in with their time, choices come out.
 *
 * The directory is a hint. A worker that it wrongly believes alive answers "no responders" at once, and the call
 * goes elsewhere; one that it does not know yet is found by its next announcement.
 */
export type WorkerState = 'running' | 'draining';

export interface WorkerRecord {
  id: string;
  /** Counts the worker's connections to the broker: calls sent under an earlier one may be lost. */
  connectionEpoch: number;
  state: WorkerState;
  functions: readonly string[];
  /** Counts the changes of `functions`; a beat with another revision makes the listener ask for an announcement. */
  revision: number;
}

interface Entry {
  record: WorkerRecord;
  heardAtMs: number;
}

export type BeatOutcome = 'known' | 'unknown' | 'new-connection';

export class Directory {
  private readonly entries = new Map<string, Entry>();
  /** function → ids of running workers, built on demand and dropped at every change. */
  private readonly candidates = new Map<string, readonly string[]>();

  get size(): number {
    return this.entries.size;
  }

  workers(): WorkerRecord[] {
    return [...this.entries.values()].map((entry) => entry.record);
  }

  has(id: string): boolean {
    return this.entries.has(id);
  }

  /** True when the worker is back on a new connection, so that what was sent on the old one may be lost. */
  announced(record: WorkerRecord, nowMs: number): boolean {
    const known = this.entries.get(record.id);
    this.entries.set(record.id, { record, heardAtMs: nowMs });
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

  /** Removes and returns the workers that have been silent for longer than `missedAfterMs`. */
  expire(nowMs: number, missedAfterMs: number): string[] {
    const missed: string[] = [];
    for (const [id, entry] of this.entries) {
      if (nowMs - entry.heardAtMs > missedAfterMs) missed.push(id);
    }
    for (const id of missed) this.remove(id);
    return missed;
  }

  /** All that have the function, running or draining. */
  workersOf(functionName: string): WorkerRecord[] {
    return this.workers().filter((worker) => worker.functions.includes(functionName));
  }

  /** A running worker that has the function, each equally likely, `except` only if there is no other; `random` gives [0, 1). */
  pick(functionName: string, random: () => number, except?: string): string | undefined {
    const ids = this.candidatesFor(functionName);
    if (ids.length === 0) return undefined;
    const left = except === undefined || ids.length === 1 ? -1 : ids.indexOf(except);
    if (left < 0) return ids[Math.floor(random() * ids.length)];
    const chosen = Math.floor(random() * (ids.length - 1));
    return ids[chosen < left ? chosen : chosen + 1];
  }

  private candidatesFor(functionName: string): readonly string[] {
    let ids = this.candidates.get(functionName);
    if (ids === undefined) {
      ids = this.workers()
        .filter((worker) => worker.state === 'running' && worker.functions.includes(functionName))
        .map((worker) => worker.id)
        .sort();
      // Names come from callers: only those that exist are remembered, so that the map stays bounded.
      if (ids.length > 0) this.candidates.set(functionName, ids);
    }
    return ids;
  }
}
