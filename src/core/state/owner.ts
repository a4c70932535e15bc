/**
 * Takes a partition over, feeds its machine with the log, and writes what the machine wants written: SPEC.md, sections
 * "Ownership", "Reads are confirmed", "Snapshots and trimming".
 *
 * loading → serving → (closing →) ended. Whatever is unclear ends the ownership: another takeover starts from the log.
 */
import { decodeAppend, encodeAppend, type AppendHeader } from './append.ts';
import type { LogRecord, PartitionMessage } from './messages.ts';
import { Partition } from './partition.ts';
import type { PartitionLimits, PartitionPorts } from './ports.ts';
import { readSnapshot, writeSnapshot } from './snapshot.ts';
import { decodeRecords, encodeRecords } from './wire.ts';

/** Where a snapshot lies in the snapshot stream, and up to which sequence of the log it reaches. */
export type SnapshotPointer = NonNullable<AppendHeader['snapshot']>;

/** The log of one partition. Every rejection means that nothing is known of the append's fate but what its `code` says. */
export interface LogPort {
  /** The last append, undefined for an empty log. From the stream's leader. */
  last(): Promise<{ sequence: number; bytes: Uint8Array } | undefined>;
  /** Calls `onAppend` for everything from `from` to `to`, in order, without a gap, or rejects. */
  read(
    from: number,
    to: number,
    onAppend: (sequence: number, bytes: Uint8Array) => void,
  ): Promise<void>;
  /** Resolves with the append's sequence; rejects when another one has followed `expected` (I1), or nothing could be learnt. */
  append(bytes: Uint8Array, expected: number): Promise<number>;
  /** The last sequence on the subject. */
  lastSequence(): Promise<number>;
  /** Removes what lies before `sequence`, never the last message. */
  trim(before: number): Promise<void>;
}

export type WrittenSnapshot = Omit<SnapshotPointer, 'covers' | 'crc'>;

export interface SnapshotPort {
  write(chunks: AsyncIterable<Uint8Array>): Promise<WrittenSnapshot>;
  read(pointer: SnapshotPointer, onChunk: (bytes: Uint8Array) => void): Promise<void>;
  removeBefore(sequence: number): Promise<void>;
}

export interface OwnerPorts extends PartitionPorts {
  log: LogPort;
  snapshots: SnapshotPort;
  now(): number;
  /** Runs `task` soon, after what else is ready in this turn: appends collect what comes together. */
  soon(task: () => void): void;
  /** Asks the present owner to let go; resolves when it has, or when waiting longer makes no sense. */
  askToRelease(): Promise<void>;
  /** Ownership is over, whatever the reason; never called before `serving`. */
  ended(reason: string): void;
}

export interface OwnerLimits extends PartitionLimits {
  /** An append is closed before it grows beyond this. */
  maxAppendBytes: number;
  /** A snapshot is written when the log behind the last one is larger than this, and than the partition. */
  snapshotAfterBytes: number;
  snapshotChunkBytes: number;
  /** On how many servers the log is kept. */
  replicas: number;
}

/** Why an ownership ends that was handed over. */
export const RELEASED = 'released';

export type OwnerState = 'loading' | 'serving' | 'closing' | 'ended';

/** Others who take over at the same moment are let go first so often; then the assignment has to decide again. */
const MAX_TAKEOVER_ATTEMPTS = 5;

export class PartitionOwner {
  readonly machine: Partition;
  state: OwnerState = 'loading';
  epoch = 0;
  /** Of the last append that is acknowledged. */
  sequence = 0;
  /** Transactions that a former owner left unfinished, found in the log at the takeover. */
  recovered = 0;
  readonly #nonce: bigint;
  readonly #ports: OwnerPorts;
  readonly #limits: OwnerLimits;
  #lastCrc = 0;
  #snapshot: SnapshotPointer | undefined;
  #loggedBytes = 0;
  #flushing = false;
  #appending = false;
  #snapshotting = false;
  #onIdle: (() => void) | undefined;
  /** Called when the next append that begins is in the log. */
  #awaitingAppend: (() => void)[] = [];

  constructor(id: number, nonce: bigint, ports: OwnerPorts, limits: OwnerLimits) {
    this.#nonce = nonce;
    this.#ports = ports;
    this.#limits = limits;
    this.machine = new Partition(id, ports, limits);
  }

  /** Resolves when it serves; rejects when it doesn't become the owner, or the log cannot be read. */
  async take(): Promise<void> {
    const { log } = this.#ports;
    // While the present owner still serves.
    await this.#catchUp();
    await this.#ports.askToRelease();
    for (let attempt = 1; ; attempt += 1) {
      await this.#catchUp();
      const bytes = this.#encode(this.epoch + 1, []);
      try {
        this.sequence = await log.append(bytes, this.sequence);
        this.#adopt(bytes);
        break;
      } catch (error) {
        if (attempt >= MAX_TAKEOVER_ATTEMPTS || this.#is('ended')) throw error;
      }
    }
    if (this.#is('ended')) throw new Error('given up');
    this.state = 'serving';
    this.recovered = this.machine.unfinished;
    this.machine.start(this.epoch, this.#ports.now());
    this.#flushSoon();
  }

  /** False when the message is for another owner. */
  receive(message: PartitionMessage): boolean {
    if (this.state !== 'serving' && this.state !== 'closing') return false;
    if (this.state === 'closing' && message.kind === 'lock') return false;
    this.machine.receive(message, this.#ports.now());
    this.#flushSoon();
    return true;
  }

  published(tx: string): void {
    this.machine.decisions.published(tx);
    this.#flushSoon();
  }

  coordinatorGone(workerId: string): void {
    if (this.state !== 'serving' && this.state !== 'closing') return;
    this.machine.coordinatorGone(workerId, this.#ports.now());
    this.#flushSoon();
  }

  /** See Partition. */
  expire(wallMs: number): void {
    if (this.state === 'serving') this.machine.expire(wallMs);
  }

  /** Nothing is under way: it need not be ticked until it receives something. */
  get quiet(): boolean {
    const { sessions, decisions, queue } = this.machine;
    const open = sessions.size + decisions.size;
    return this.state === 'serving' && open === 0 && queue.idle && !queue.awaitsConfirmation;
  }

  tick(): void {
    if (this.state !== 'serving' && this.state !== 'closing') return;
    this.machine.tick(this.#ports.now());
    this.#flush(true);
  }

  /** Hands the partition over: resolves when it has ended, because nothing is under way any more or by `end`. */
  release(): Promise<void> {
    if (this.state === 'serving') {
      this.state = 'closing';
      this.machine.close();
      this.#flushSoon();
    }
    return new Promise((resolve) => {
      if (this.#is('ended')) resolve();
      else this.#onIdle = resolve;
      this.#endIfIdle();
    });
  }

  /** Ends at once; what is in memory is lost, the log has what counts. */
  end(reason: string): void {
    if (this.state === 'ended') return;
    const served = this.state !== 'loading';
    this.state = 'ended';
    this.#onIdle?.();
    if (served) this.#ports.ended(reason);
  }

  /** Reads the log from where it knows it to its end. */
  async #catchUp(): Promise<void> {
    const last = await this.#ports.log.last();
    if (last === undefined || last.sequence === this.sequence) return;
    const newest = this.#decode(last.bytes);
    let from = this.sequence + 1;
    const { snapshot } = newest;
    if (snapshot !== undefined && snapshot.covers >= from) {
      this.machine.clear();
      this.#lastCrc = snapshot.crc;
      await this.#ports.snapshots.read(snapshot, (chunk) => readSnapshot(this.machine, chunk));
      from = snapshot.covers + 1;
    }
    this.#snapshot = snapshot;
    await this.#ports.log.read(from, last.sequence, (sequence, bytes) => {
      this.#replay(bytes);
      this.sequence = sequence;
    });
    if (this.sequence !== last.sequence) throw new Error('the log has changed while it was read');
  }

  #replay(bytes: Uint8Array): void {
    const { epoch, previousCrc, records, crc } = this.#decode(bytes);
    if (previousCrc !== this.#lastCrc) {
      // Its owner may have trimmed it meanwhile; otherwise it is corrupt, and stays so.
      throw new Error('an append of the log does not follow the one before it');
    }
    this.#lastCrc = crc;
    this.epoch = epoch;
    for (const record of decodeRecords(records)) this.machine.replay(record);
    this.#loggedBytes += bytes.length;
  }

  #decode(bytes: Uint8Array): NonNullable<ReturnType<typeof decodeAppend>> {
    const append = decodeAppend(bytes);
    if (append === undefined) throw new Error('an append cannot be read: the log is corrupt');
    return append;
  }

  #encode(epoch: number, records: readonly LogRecord[]): Uint8Array {
    return encodeAppend({
      epoch,
      nonce: this.#nonce,
      snapshot: this.#snapshot,
      previousCrc: this.#lastCrc,
      records: encodeRecords(records),
    });
  }

  #adopt(bytes: Uint8Array): void {
    const { epoch, crc } = this.#decode(bytes);
    this.epoch = epoch;
    this.#lastCrc = crc;
    this.#loggedBytes += bytes.length;
  }

  #flushSoon(): void {
    if (this.#flushing || this.#appending) return;
    this.#flushing = true;
    this.#ports.soon(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  #flush(all = this.state === 'closing'): void {
    if (this.#appending || (this.state !== 'serving' && this.state !== 'closing')) return;
    const { queue } = this.machine;
    const { maxAppendBytes, replicas } = this.#limits;
    // Of several servers one that was stopped may answer a question with what it was before: only an append is certain.
    const mustAppend = replicas > 1 && queue.awaitsConfirmation;
    const records = queue.take(maxAppendBytes, all, mustAppend || this.#awaitingAppend.length > 0);
    if (records !== undefined) void this.#append(records);
    else if (queue.takeConfirmation()) void this.#confirm();
    this.#snapshotIfDue();
    this.#endIfIdle();
  }

  async #append(records: readonly LogRecord[]): Promise<void> {
    this.#appending = true;
    const bytes = this.#encode(this.epoch, records);
    const waiting = this.#awaitingAppend.splice(0);
    try {
      const sequence = await this.#ports.log.append(bytes, this.sequence);
      if (this.#is('ended')) return;
      this.sequence = sequence;
      this.#adopt(bytes);
      this.#appending = false;
      for (const resolve of waiting) resolve();
      this.machine.appended(this.#ports.now());
      this.#flush();
    } catch (error) {
      // I1: refused, or unknown: somebody else may write already.
      this.end((error as Error).message);
    }
  }

  async #confirm(): Promise<void> {
    const asked = this.sequence;
    try {
      const last = await this.#ports.log.lastSequence();
      if (this.#is('ended')) return;
      // What lies between the two is this owner's own, it is acknowledged.
      if (last >= asked && last <= this.sequence) this.machine.confirmed(this.#ports.now());
      // Its own append that is under way, or another owner's: that append's answer will tell.
      else if (this.#appending) this.machine.queue.confirmLater();
      else this.end('another owner has written to the log');
      this.#flushSoon();
    } catch {
      // Nothing is known of another owner: asked again with the next tick.
      if (!this.#is('ended')) this.machine.queue.confirmLater();
    }
  }

  #snapshotIfDue(): void {
    const due = Math.max(this.#limits.snapshotAfterBytes, this.machine.items.bytes);
    if (this.#snapshotting || this.state !== 'serving' || this.#loggedBytes < due) return;
    this.#snapshotting = true;
    void this.#writeSnapshot().finally(() => {
      this.#snapshotting = false;
    });
  }

  async #writeSnapshot(): Promise<void> {
    const [covers, crc] = [this.sequence, this.#lastCrc];
    this.#loggedBytes = 0;
    try {
      const chunks = writeSnapshot(this.machine, this.#limits.snapshotChunkBytes);
      const written = await this.#ports.snapshots.write(chunks);
      if (this.#is('ended')) return;
      this.#snapshot = { ...written, covers, crc };
      await this.#appendPointer();
      if (this.#is('ended')) return;
      await this.#ports.log.trim(covers + 1);
      await this.#ports.snapshots.removeBefore(written.firstSequence);
    } catch {
      // The one before still counts; the next attempt comes with the next bytes.
    }
  }

  /** Resolves when an append that carries the new pointer is in the log; never, if the ownership ends before. */
  #appendPointer(): Promise<void> {
    return new Promise((resolve) => {
      this.#awaitingAppend.push(resolve);
      this.#flushSoon();
    });
  }

  #endIfIdle(): void {
    if (this.state === 'closing' && this.#onIdle !== undefined && this.machine.idle) {
      this.end(RELEASED);
    }
  }

  /** Past an await the state may be another than the compiler remembers. */
  #is(state: OwnerState): boolean {
    return this.state === state;
  }
}
