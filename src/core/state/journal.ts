/**
 * The journal of one worker: a log that only it writes, with the records of all partitions that it owns. One append is under
 * way at a time, what comes meanwhile is the next one (group commit). In the order in which records were enqueued,
 * whatever their partition: what follows from a record of one partition never gets into the log before it.
 *
 * Somebody who takes over from the worker seals the journal first; the worker notices at its next append or
 * confirmation, and all of its partitions end (I1).
 */
import { decodeAppend, encodeAppend, type AppendKind, type Section } from './append.ts';
import { decodeClaim, neededFrom, type Position } from './claim.ts';
import type { LogPort } from './log-port.ts';
import type { LogQueue, QueueTarget, WhenLogged } from './log-queue.ts';
import type { LogRecord } from './messages.ts';
import { encodeRecords, recordBytes } from './records.ts';

export interface JournalPorts {
  log: LogPort;
  /** The subject of a partition's claims. */
  claims(partition: number): LogPort;
  now(): number;
  /** Runs `task` soon, after what else is ready in this turn: appends collect what comes together. */
  soon(task: () => void): void;
}

export interface JournalLimits {
  /** An append is closed before it grows beyond this. */
  maxAppendBytes: number;
  /** On how many servers the log is kept. */
  replicas: number;
}

interface Entry {
  queue: LogQueue;
  record: LogRecord;
  whenLogged: WhenLogged | undefined;
}

/** What a partition needs of the journal. */
interface Kept {
  /** What follows this sequence. */
  sequence: number;
  /** Another claim may still be written behind this sequence of the claims, which needs no more than that. */
  claimBehind: number | undefined;
}

interface Confirmation {
  queue: LogQueue;
  whenConfirmed: () => void;
}

export class Journal implements QueueTarget {
  readonly id: string;
  /** Behind the last append that is acknowledged. */
  position: Position = { index: 0, sequence: 0 };
  /** Of all appends that are acknowledged. */
  bytes = 0;
  /** Why nothing can be written any more. */
  ended: string | undefined;
  readonly #nonce: bigint;
  readonly #ports: JournalPorts;
  readonly #limits: JournalLimits;
  /** The partitions it writes for, and whom to tell when it ends. */
  readonly #members = new Map<LogQueue, (reason: string) => void>();
  #entries: Entry[] = [];
  #awaited = 0;
  #unconfirmed: Confirmation[] = [];
  #appending = false;
  #confirming = false;
  #flushing = false;
  #whenAppended: (() => void)[] = [];
  readonly #kept = new Map<number, Kept>();
  #trimming = false;
  #trimmed = 0;

  constructor(id: string, nonce: bigint, ports: JournalPorts, limits: JournalLimits) {
    this.id = id;
    this.#nonce = nonce;
    this.#ports = ports;
    this.#limits = limits;
  }

  /** From now on it writes for the partition. */
  attach(queue: LogQueue, epoch: number, onEnd: (reason: string) => void): void {
    queue.open(this, epoch);
    this.#members.set(queue, onEnd);
  }

  /**
   * What the partition has enqueued and is not under way yet is dropped: nobody was told of it (I2). Resolves with the
   * place up to which something of it was written; never rejects.
   */
  detach(queue: LogQueue): Promise<Position> {
    queue.close();
    this.#members.delete(queue);
    this.#entries = this.#entries.filter((entry) => entry.queue !== queue);
    this.#awaited = this.#entries.filter(({ record }) => isAwaited(record)).length;
    return this.settled();
  }

  /** Nothing waits for a flush. */
  get quiet(): boolean {
    return !this.#appending && this.#entries.length === 0 && this.#unconfirmed.length === 0;
  }

  /** Where the journal is once the append that is now under way is in the log, or the journal has ended. */
  settled(): Promise<Position> {
    if (!this.#appending || this.ended !== undefined) return Promise.resolve(this.position);
    return new Promise((resolve) => {
      this.#whenAppended.push(() => resolve(this.position));
    });
  }

  /** A claim is being written behind `claimSequence` that needs what follows `sequence`; it may be written though nobody says so. */
  willKeep(partition: number, sequence: number, claimSequence: number): void {
    const before = this.#kept.get(partition)?.sequence ?? sequence;
    this.#kept.set(partition, {
      sequence: Math.min(sequence, before),
      claimBehind: claimSequence,
    });
  }

  /** A claim is written that needs what follows `sequence`; undefined: nothing. */
  keep(partition: number, sequence: number | undefined): void {
    if (sequence === undefined) this.#kept.delete(partition);
    else this.#kept.set(partition, { sequence, claimBehind: undefined });
    if (this.#trimming) return;
    this.#trimming = true;
    void this.#trim()
      // It is tried again when a partition needs less.
      .catch(() => {})
      .finally(() => {
        this.#trimming = false;
      });
  }

  enqueue(queue: LogQueue, record: LogRecord, whenLogged: WhenLogged | undefined): void {
    this.#entries.push({ queue, record, whenLogged });
    if (isAwaited(record)) this.#awaited += 1;
  }

  confirm(queue: LogQueue, whenConfirmed: () => void): void {
    this.#unconfirmed.push({ queue, whenConfirmed });
  }

  flushSoon(): void {
    if (this.#flushing || this.#appending) return;
    this.#flushing = true;
    this.#ports.soon(() => {
      this.#flushing = false;
      this.flush();
    });
  }

  /** Records for whose sake nobody waits make no append of their own unless `all`. */
  flush(all = false): void {
    if (this.#appending || this.ended !== undefined) return;
    // Of several servers one that was stopped may answer a question with what it was before: only an append is certain.
    const mustAppend = this.#limits.replicas > 1 && this.#unconfirmed.length > 0;
    const worthIt = all ? this.#entries.length > 0 : this.#awaited > 0;
    if (worthIt || mustAppend) void this.#append();
    else if (!this.#confirming && this.#unconfirmed.length > 0) void this.#confirm();
  }

  /** Ends at once, and with it all its partitions. What is not in the log is lost. */
  end(reason: string): void {
    if (this.ended !== undefined) return;
    this.ended = reason;
    this.#entries = [];
    this.#unconfirmed = [];
    for (const [queue, onEnd] of this.#members) {
      queue.close();
      onEnd(reason);
    }
    this.#members.clear();
    this.#settle();
  }

  async #append(): Promise<void> {
    this.#appending = true;
    const entries = this.#take();
    // What waits to be confirmed is, by this append.
    const confirmations = this.#unconfirmed.splice(0);
    const index = this.position.index + 1;
    const sections = sectionsOf(entries);
    const bytes = encodeAppend({
      kind: 'records',
      nonce: this.#nonce,
      index,
      sections: [...sections.values()],
    });
    try {
      const sequence = await this.#ports.log.append(bytes, this.position.sequence);
      if (this.ended !== undefined) return;
      this.position = { index, sequence };
      this.bytes += bytes.length;
      for (const [queue, { records }] of sections) queue.loggedBytes += records.length;
    } catch (error) {
      // I1: refused, or unknown: somebody else may write already.
      this.end((error as Error).message);
      return;
    }
    this.#appending = false;
    this.#settle();
    this.#logged(entries, confirmations);
    this.flush();
  }

  #take(): Entry[] {
    let count = 0;
    let bytes = 0;
    for (const { record } of this.#entries) {
      bytes += recordBytes(record);
      if (count > 0 && bytes > this.#limits.maxAppendBytes) break;
      count += 1;
    }
    const taken = this.#entries.splice(0, count);
    for (const { record } of taken) if (isAwaited(record)) this.#awaited -= 1;
    return taken;
  }

  /** Only now does anything of them leave (I2). */
  #logged(entries: readonly Entry[], confirmations: readonly Confirmation[]): void {
    const nowMs = this.#ports.now();
    const touched = new Set<LogQueue>();
    for (const { queue, record, whenLogged } of entries) {
      if (!queue.isOpen) continue;
      touched.add(queue);
      queue.logged(record);
      whenLogged?.(nowMs);
    }
    this.#confirmed(confirmations, touched, nowMs);
  }

  #confirmed(confirmations: readonly Confirmation[], touched: Set<LogQueue>, nowMs: number): void {
    for (const { queue, whenConfirmed } of confirmations) {
      if (!queue.isOpen) continue;
      touched.add(queue);
      whenConfirmed();
    }
    for (const queue of touched) queue.settled(nowMs);
  }

  async #confirm(): Promise<void> {
    this.#confirming = true;
    const asked = this.position.sequence;
    const confirmations = this.#unconfirmed.splice(0);
    try {
      const last = await this.#ports.log.lastSequence();
      if (this.ended !== undefined) return;
      this.#confirming = false;
      // What lies between the two is this worker's own, it is acknowledged.
      if (last >= asked && last <= this.position.sequence) {
        this.#confirmed(confirmations, new Set(), this.#ports.now());
      } else if (this.#appending) {
        // Its own append that is under way, or a seal: that append's answer will tell.
        this.#unconfirmed.push(...confirmations);
      } else this.end('another worker has taken over');
      this.flushSoon();
    } catch {
      // Nothing is known of another writer: asked again with the next flush.
      this.#confirming = false;
      if (this.ended === undefined) this.#unconfirmed.push(...confirmations);
    }
  }

  /** Partitions that other workers have by now may have a snapshot of their own. */
  async #trim(): Promise<void> {
    const own = new Set([...this.#members.keys()].map(({ partition }) => partition));
    for (const [partition, kept] of this.#kept) {
      if (!own.has(partition) || kept.claimBehind !== undefined) await this.#check(partition, kept);
    }
    const needed = [...this.#kept.values()].map(({ sequence }) => sequence);
    const sequence = Math.min(this.position.sequence, ...needed);
    if (sequence <= this.#trimmed) return;
    await this.#ports.log.trim(sequence + 1);
    this.#trimmed = sequence;
  }

  async #check(partition: number, kept: Kept): Promise<void> {
    const last = await this.#ports.claims(partition).last();
    if (this.#kept.get(partition) !== kept || (last?.sequence ?? 0) <= (kept.claimBehind ?? -1)) {
      return;
    }
    const claim = last === undefined ? undefined : decodeClaim(last.bytes);
    if (claim === undefined) return;
    const sequence = neededFrom(claim, this.id);
    if (sequence === undefined) this.#kept.delete(partition);
    else this.#kept.set(partition, { sequence, claimBehind: undefined });
  }

  #settle(): void {
    for (const resolve of this.#whenAppended.splice(0)) resolve();
  }
}

/** Closes another worker's journal for ever. Resolves with its last place; rejects when its worker always was quicker. */
export async function sealJournal(
  log: LogPort,
  nonce: bigint,
  maxAttempts: number,
): Promise<Position> {
  for (let attempt = 1; ; attempt += 1) {
    const last = await lastOf(log);
    if (last.kind !== 'records') return last.position;
    const index = last.position.index + 1;
    const bytes = encodeAppend({ kind: 'seal', nonce, index, sections: [] });
    try {
      return { index, sequence: await log.append(bytes, last.position.sequence) };
    } catch (error) {
      if (attempt >= maxAttempts) throw error;
    }
  }
}

/**
 * Removes what a sealed journal has if no claim names it any more. A last message stays: it is the fence against its
 * former writer, and tells the reader of a claim which that one may still write that nothing followed from it.
 */
export async function emptyJournal(
  id: string,
  nonce: bigint,
  log: LogPort,
  claims: Iterable<LogPort>,
): Promise<void> {
  const { kind, position } = await lastOf(log);
  if (kind === 'records') return;
  for (const each of claims) {
    const last = await each.last();
    const claim = last === undefined ? undefined : decodeClaim(last.bytes);
    // What cannot be read may name it.
    if (last !== undefined && claim === undefined) return;
    if (claim !== undefined && neededFrom(claim, id) !== undefined) return;
  }
  if (kind === 'seal') {
    const index = position.index + 1;
    const bytes = encodeAppend({ kind: 'emptied', nonce, index, sections: [] });
    await log.append(bytes, position.sequence);
  }
  await log.trim(Number.MAX_SAFE_INTEGER);
}

/** The last place of a journal. */
export async function lastOf(log: LogPort): Promise<{ position: Position; kind: AppendKind }> {
  const last = await log.last();
  if (last === undefined) return { position: { index: 0, sequence: 0 }, kind: 'records' };
  const append = decodeAppend(last.bytes);
  if (append === undefined) throw new Error('an append cannot be read: the journal is corrupt');
  return { position: { index: append.index, sequence: last.sequence }, kind: append.kind };
}

/** By partition, in the order of their records. */
function sectionsOf(entries: readonly Entry[]): Map<LogQueue, Section> {
  const byQueue = new Map<LogQueue, LogRecord[]>();
  for (const { queue, record } of entries) {
    const records = byQueue.get(queue);
    if (records === undefined) byQueue.set(queue, [record]);
    else records.push(record);
  }
  const sections = new Map<LogQueue, Section>();
  for (const [queue, records] of byQueue) {
    const { partition, epoch } = queue;
    sections.set(queue, { partition, epoch, records: encodeRecords(records) });
  }
  return sections;
}

/** The others only say sooner what could also be learnt from the home. */
function isAwaited({ kind }: LogRecord): boolean {
  return kind === 'prepare' || kind === 'decide';
}
