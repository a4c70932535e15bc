/**
 * Reads a partition's log into its machine: the snapshot that the claim names, then the segments behind it. SPEC.md,
 * "Ownership" and "The log". Called again it goes on where it has come to, or begins anew where that is not the same log any more.
 */
import { decodeAppend } from './append.ts';
import type { Claim, Position, Segment } from './claim.ts';
import { lastOf } from './journal.ts';
import type { LogPort, SnapshotPort } from './log-port.ts';
import type { Partition } from './partition.ts';
import { decodeRecords } from './records.ts';
import { readSnapshot } from './snapshot.ts';

export type ClosedSegment = Segment & { to: Position };

/** Something that the claim names is not in the log (any more). */
export class LogGap extends Error {
  override readonly name = 'LogGap';
}

export interface ReplayPorts {
  snapshots: Pick<SnapshotPort, 'read'>;
  /** Any worker's journal, to be read. */
  journal(id: string): LogPort;
}

export class Replay {
  readonly #machine: Partition;
  readonly #ports: ReplayPorts;
  /** What the machine has read up to. */
  #read: { epoch: number; position: Position } | undefined;
  /**
   * The claim's sequence under which a segment of an emptied journal was taken for empty. That it is holds only if this claim is
   * still the last one: one before may have named what was in it.
   */
  #skippedUnder: number | undefined;

  constructor(machine: Partition, ports: ReplayPorts) {
    this.#machine = machine;
    this.#ports = ports;
  }

  /** A segment was taken for empty, which holds under the last claim only. */
  get skipped(): boolean {
    return this.#skippedUnder !== undefined;
  }

  /** `segments`: the claim's, with their ends. Rejects where something of them is not there, or cannot be read. */
  async read(
    { snapshot }: Claim,
    claimSequence: number,
    segments: readonly ClosedSegment[],
  ): Promise<void> {
    const doubtful = this.#skippedUnder !== undefined && this.#skippedUnder !== claimSequence;
    let at = doubtful ? -1 : segments.findIndex((segment) => this.#hasReadInto(segment));
    if (at < 0) {
      at = 0;
      await this.#restart(snapshot);
    }
    for (const segment of segments.slice(at)) await this.#readSegment(segment, claimSequence);
  }

  #hasReadInto({ epoch, from, to }: ClosedSegment): boolean {
    if (this.#read?.epoch !== epoch) return false;
    const { index } = this.#read.position;
    return index >= from.index && index <= to.index;
  }

  async #restart(snapshot: Claim['snapshot']): Promise<void> {
    this.#machine.clear();
    this.#machine.queue.loggedBytes = 0;
    this.#read = undefined;
    this.#skippedUnder = undefined;
    if (snapshot === undefined) return;
    await this.#ports.snapshots.read(snapshot, (chunk) => readSnapshot(this.#machine, chunk));
  }

  async #readSegment(
    { journal, epoch, from, to }: ClosedSegment,
    claimSequence: number,
  ): Promise<void> {
    let position = this.#read?.epoch === epoch ? this.#read.position : from;
    let missing = false;
    const { id, queue } = this.#machine;
    const read = (sequence: number, bytes: Uint8Array): void => {
      const append = decodeAppend(bytes);
      if (append === undefined) throw new Error('an append cannot be read: the log is corrupt');
      missing ||= append.index !== position.index + 1;
      if (missing) return;
      for (const section of append.sections) {
        if (section.partition !== id) continue;
        if (section.epoch !== epoch) throw new Error('an append is of another epoch');
        for (const record of decodeRecords(section.records)) this.#machine.replay(record);
        queue.loggedBytes += section.records.length;
      }
      position = { index: append.index, sequence };
      this.#read = { epoch, position };
    };
    if (position.index < to.index) {
      await this.#ports.journal(journal).read(position.sequence + 1, to.sequence, read);
    }
    if (position.index < to.index) {
      // Its worker may have trimmed it meanwhile; otherwise the log is corrupt, and stays so.
      const untouched = position.index === from.index;
      if (!untouched || !(await this.#isEmptied(journal))) {
        throw new LogGap('an append of the log is missing');
      }
      this.#skippedUnder = claimSequence;
      position = to;
    }
    this.#read = { epoch, position };
  }

  /** Then what no claim named at that time had nothing of this partition, and never will. */
  async #isEmptied(journal: string): Promise<boolean> {
    return (await lastOf(this.#ports.journal(journal))).kind === 'emptied';
  }
}
