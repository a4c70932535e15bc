/**
 * Takes a partition over, feeds its machine with the log, and lets go of it: SPEC.md, sections "Ownership", "Snapshots and
 * trimming". What the machine wants written goes into the journal of its worker.
 *
 * loading → serving → (closing →) ended. Whatever is unclear ends the ownership: another takeover starts from the log.
 */
import {
  decodeClaim,
  encodeClaim,
  neededFrom,
  type Claim,
  type Position,
  type Segment,
} from './claim.ts';
import { lastOf, type Journal } from './journal.ts';
import type { LogPort, SnapshotPort } from './log-port.ts';
import type { PartitionMessage } from './messages.ts';
import { Partition } from './partition.ts';
import type { Layout } from './layout.ts';
import type { PartitionLimits, PartitionWorld } from './ports.ts';
import { Replay, type ClosedSegment } from './replay.ts';
import { writeSnapshot } from './snapshot.ts';

export interface OwnerPorts extends PartitionWorld {
  /** What the table says; heard late, perhaps. */
  layout(): Layout;
  /** The partition's own subject: only claims. */
  claims: LogPort;
  snapshots: SnapshotPort;
  /** Any worker's journal, to be read. */
  journal(id: string): LogPort;
  /** Closes the journal of a worker that is not there any more; rejects when it is, or nothing could be learnt. */
  seal(id: string): Promise<Position>;
  now(): number;
  /** Asks the worker with this journal to let go; resolves when it has, or when waiting longer makes no sense. */
  askToRelease(journal: string): Promise<void>;
  /** The claim names these journals of other workers no longer. */
  forsaken(journals: readonly string[]): void;
  /** Ownership is over, whatever the reason; never called before `serving`. */
  ended(reason: string): void;
}

export interface OwnerLimits extends PartitionLimits {
  /** A snapshot is written when the log behind the last one is larger than this, and than the partition. */
  snapshotAfterBytes: number;
  snapshotChunkBytes: number;
}

/** Why an ownership ends that was handed over. */
export const RELEASED = 'released';

export type OwnerState = 'loading' | 'serving' | 'closing' | 'ended';

/** Others who take over at the same moment are let go first so often; then the assignment has to decide again. */
const MAX_TAKEOVER_ATTEMPTS = 5;
/** A partition that writes little must not keep a whole journal from being trimmed. */
const JOURNAL_SNAPSHOTS = 8;
/** A partition that moves often and writes little leaves no longer trail than this. */
const MAX_SEGMENTS = 8;

export class PartitionOwner {
  readonly machine: Partition;
  state: OwnerState = 'loading';
  epoch = 0;
  /** Transactions that a former owner left unfinished, found in the log at the takeover. */
  recovered = 0;
  readonly #nonce: bigint;
  readonly #journal: Journal;
  readonly #ports: OwnerPorts;
  readonly #limits: OwnerLimits;
  readonly #replay: Replay;
  #claim: Claim | undefined;
  #claimSequence = 0;
  #snapshotting: Promise<void> | undefined;
  /** Of the journal, when the last snapshot began. */
  #journalBytes = 0;
  #onEnded: (() => void)[] = [];
  #leaving = false;

  constructor(id: number, nonce: bigint, journal: Journal, ports: OwnerPorts, limits: OwnerLimits) {
    this.#nonce = nonce;
    this.#journal = journal;
    this.#ports = ports;
    this.#limits = limits;
    this.machine = new Partition(id, ports, limits);
    this.#replay = new Replay(this.machine, ports);
  }

  /** Of the journal's last append that is acknowledged. */
  get sequence(): number {
    return this.#journal.position.sequence;
  }

  /** Resolves when it serves; rejects when it doesn't become the owner, or the log cannot be read. */
  async take(): Promise<void> {
    // While the present owner still serves.
    await this.#catchUp(false);
    const writing = this.#claim?.segments.at(-1);
    if (
      writing?.to === undefined &&
      writing !== undefined &&
      writing.journal !== this.#journal.id
    ) {
      await this.#ports.askToRelease(writing.journal);
    }
    for (let attempt = 1; ; attempt += 1) {
      const read = await this.#catchUp(true);
      try {
        const epoch = this.epoch + 1;
        const from = this.#journal.position;
        const own: Segment = { journal: this.#journal.id, epoch, from };
        await this.#writeClaim({ ...this.#claim, epoch, segments: [...read, own] });
        this.epoch = epoch;
        break;
      } catch (error) {
        if (attempt >= MAX_TAKEOVER_ATTEMPTS || this.#is('ended')) throw error;
      }
    }
    if (this.#is('ended') || this.#journal.ended !== undefined) throw new Error('given up');
    this.state = 'serving';
    this.recovered = this.machine.unfinished;
    this.#journalBytes = this.#journal.bytes;
    this.#journal.attach(this.machine.queue, this.epoch, (reason) => this.end(reason));
    this.machine.start(this.epoch, this.#ports.layout(), this.#ports.now());
    this.#journal.flushSoon();
  }

  /** False when the message is for another owner. */
  receive(message: PartitionMessage): boolean {
    if (!this.#isActive) return false;
    if (this.state === 'closing' && message.kind === 'lock') return false;
    this.machine.receive(message, this.#ports.now());
    this.#afterInput();
    return true;
  }

  published(tx: string): void {
    if (!this.#isActive) return;
    this.machine.decisions.published(tx);
    this.#journal.flushSoon();
  }

  coordinatorGone(workerId: string): void {
    if (!this.#isActive) return;
    this.machine.coordinatorGone(workerId, this.#ports.now());
    this.#journal.flushSoon();
  }

  /** The table has another layout. */
  adopt(layout: Layout): void {
    if (this.state !== 'serving') return;
    this.machine.moves.adopt(layout);
    this.tick();
    this.#journal.flushSoon();
  }

  /** See Partition. */
  expire(wallMs: number): void {
    if (this.state === 'serving') this.machine.expire(wallMs);
  }

  /** Nothing is under way here: it need not be ticked until it receives something. */
  get quiet(): boolean {
    const { sessions, decisions, queue, moves } = this.machine;
    const atRest = sessions.size + decisions.size === 0 && queue.idle && moves.settled;
    return this.state === 'serving' && atRest;
  }

  /** The journal is to be flushed by the caller afterwards. */
  tick(): void {
    if (!this.#isActive) return;
    this.machine.tick(this.#ports.now());
    this.#snapshotIfDue();
    this.#leaveIfIdle();
  }

  /** Hands the partition over: resolves when it has ended, because nothing is under way any more or by `giveUp`. */
  release(): Promise<void> {
    if (this.state === 'serving') {
      this.state = 'closing';
      this.machine.close();
      this.#leaveIfIdle();
    }
    return new Promise((resolve) => {
      if (this.#is('ended')) resolve();
      else this.#onEnded.push(resolve);
    });
  }

  /** What is under way is not waited for any longer. Only after `release`. */
  giveUp(): void {
    if (this.state === 'closing') this.#leave();
  }

  /** Ends at once; what is in memory is lost, the log has what counts. */
  end(reason: string): void {
    if (this.state === 'ended') return;
    const served = this.state !== 'loading';
    this.state = 'ended';
    this.machine.queue.close();
    for (const resolve of this.#onEnded.splice(0)) resolve();
    if (served) this.#ports.ended(reason);
  }

  get #isActive(): boolean {
    return (this.state === 'serving' || this.state === 'closing') && !this.#leaving;
  }

  #afterInput(): void {
    this.#journal.flushSoon();
    this.#snapshotIfDue();
    this.#leaveIfIdle();
  }

  /**
   * Reads the log from where it knows it to its end; with `sealing`, to the end for ever. Returns its segments, all of
   * them closed.
   */
  async #catchUp(sealing: boolean): Promise<ClosedSegment[]> {
    const last = await this.#ports.claims.last();
    if (last === undefined) return [];
    const claim = decodeClaim(last.bytes);
    if (claim === undefined) throw new Error('the claim cannot be read: it is corrupt');
    const segments: ClosedSegment[] = [];
    for (const segment of claim.segments) {
      segments.push({ ...segment, to: segment.to ?? (await this.#endOf(segment, sealing)) });
    }
    await this.#replay.read(claim, last.sequence, segments);
    this.#claim = claim;
    this.#claimSequence = last.sequence;
    this.epoch = claim.epoch;
    return segments;
  }

  async #endOf(segment: Segment, sealing: boolean): Promise<Position> {
    const { journal } = segment;
    // Of an attempt that did not come to serve, or was cut short.
    if (journal === this.#journal.id) {
      const settled = await this.#journal.settled();
      if (this.#journal.ended !== undefined) throw new Error('given up');
      return settled;
    }
    if (sealing) return this.#ports.seal(journal);
    const { position } = await lastOf(this.#ports.journal(journal));
    return position.index < segment.from.index ? segment.from : position;
  }

  async #writeClaim(claim: Omit<Claim, 'nonce'>): Promise<void> {
    const whole: Claim = { ...claim, nonce: this.#nonce };
    const bytes = encodeClaim(whole);
    const { id } = this.machine;
    const needed = neededFrom(whole, this.#journal.id);
    if (needed !== undefined) this.#journal.willKeep(id, needed, this.#claimSequence);
    this.#claimSequence = await this.#ports.claims.append(bytes, this.#claimSequence);
    this.#claim = whole;
    // What came before says nothing any more; not waited for.
    void this.#ports.claims.trim(this.#claimSequence).catch(() => {});
    this.#journal.keep(id, needed);
  }

  #snapshotIfDue(): void {
    if (this.#snapshotting !== undefined || this.state !== 'serving') return;
    const { items, queue } = this.machine;
    const { snapshotAfterBytes } = this.#limits;
    const journalBytes = this.#journal.bytes - this.#journalBytes;
    const segments = this.#claim?.segments.length ?? 0;
    const due =
      queue.loggedBytes >= Math.max(snapshotAfterBytes, items.bytes) ||
      journalBytes >= Math.max(JOURNAL_SNAPSHOTS * snapshotAfterBytes, items.bytes) ||
      segments > MAX_SEGMENTS;
    if (!due) return;
    this.#snapshotting = this.#writeSnapshot().finally(() => {
      this.#snapshotting = undefined;
    });
  }

  async #writeSnapshot(): Promise<void> {
    const from = this.#journal.position;
    const { id: journal } = this.#journal;
    const { epoch } = this;
    this.machine.queue.loggedBytes = 0;
    this.#journalBytes = this.#journal.bytes;
    let snapshot: Awaited<ReturnType<SnapshotPort['write']>>;
    try {
      const chunks = writeSnapshot(this.machine, this.#limits.snapshotChunkBytes);
      snapshot = await this.#ports.snapshots.write(chunks);
    } catch {
      // The one before still counts; the next attempt comes with the next bytes.
      return;
    }
    if (!this.#is('serving')) return;
    const before = this.#claim?.segments.map((segment) => segment.journal) ?? [];
    try {
      await this.#writeClaim({ epoch, snapshot, segments: [{ journal, epoch, from }] });
    } catch (error) {
      // Another worker has taken over, or may have.
      this.#journal.end((error as Error).message);
      return;
    }
    this.#ports.forsaken(before.filter((id) => id !== journal));
    // Not waited for: it may have to wait for a backup.
    void this.#ports.snapshots.removeBefore(snapshot.firstSequence).catch(() => {});
  }

  #leaveIfIdle(): void {
    if (this.state === 'closing' && this.machine.idle) this.#leave();
  }

  /** Closes the segment, so that nobody has to seal the journal to be certain of its end. */
  #leave(): void {
    if (this.#leaving) return;
    this.#leaving = true;
    void this.#closeSegment().then(
      () => this.end(RELEASED),
      (error: unknown) => {
        this.#journal.end((error as Error).message);
        this.end((error as Error).message);
      },
    );
  }

  async #closeSegment(): Promise<void> {
    const to = await this.#journal.detach(this.machine.queue);
    await this.#snapshotting;
    if (this.#journal.ended !== undefined || this.#claim === undefined) return;
    const [open, ...earlier] = this.#claim.segments.toReversed();
    const segments = [...earlier.toReversed(), { ...(open as Segment), to }];
    await this.#writeClaim({ ...this.#claim, segments });
  }

  /** Past an await the state may be another than the compiler remembers. */
  #is(state: OwnerState): boolean {
    return this.state === state;
  }
}
