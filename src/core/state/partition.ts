/**
 * A partition as its owner runs it: keys, locks, sessions, decisions. Messages, acknowledgements and time come in;
 * messages go out through `ports`, records through `takeBatch`. SPEC.md is its specification, I1 to I6 are cited from there.
 *
 * After an append that was refused, or whose fate is unknown, the owner throws the whole machine away (I1).
 */
import { LockTable } from './locks.ts';
import type {
  CoordinatorMessage,
  LockMessage,
  LockMode,
  LogRecord,
  PartitionMessage,
  PrepareMessage,
  Refusal,
  ResolveMessage,
  VersionedWrite,
  VoteMessage,
} from './messages.ts';
import { Session, type Decision } from './session.ts';

export interface PartitionPorts {
  toPartition(partition: number, message: PartitionMessage): void;
  toCoordinator(workerId: string, message: CoordinatorMessage): void;
  /** Publishes what a committed transaction has emitted, and calls `published` when all of it is stored. */
  publish(tx: string, emits: readonly Uint8Array[]): void;
}

export interface PartitionLimits {
  /** Transactions that have something locked here at once. */
  maxSessions: number;
  /** Estimated memory of keys and values. */
  maxPartitionBytes: number;
  /** How long the home waits for votes before it aborts. */
  voteTimeoutMs: number;
  /** How long somebody waits for a word on a prepared or decided transaction before he asks (again). */
  queryAfterMs: number;
  /** How long the home remembers a commit that its coordinator has not confirmed. */
  keepOutcomeMs: number;
}

export interface Item {
  /** JSON text. */
  value: string;
  version: number;
}

/** What an item costs beside its characters: map entry, two strings, one object (measured, docs/ARCHITECTURE.md). */
export const ITEM_OVERHEAD_BYTES = 160;

const SILENT: PartitionPorts = { toPartition() {}, toCoordinator() {}, publish() {} };

/**
 * What waits until it is certain that this is the owner: a former one does not know of what has begun since, so neither
 * its reads nor its "unknown" count.
 */
type Confirmed = () => void;

interface Enqueued {
  record: LogRecord;
  session?: Session;
  /** The home that waits to hear that the record is in the log. */
  endedTo?: number;
}

export class Partition {
  readonly id: number;
  readonly items = new Map<string, Item>();
  readonly sessions = new Map<string, Session>();
  readonly decisions = new Map<string, Decision>();
  readonly counters = { committed: 0, aborted: 0, conflicts: 0, ignored: 0 };
  epoch = 0;
  bytes = 0;
  /** Silent during replay: what the records cause has been said by former owners, or is asked for at the start. */
  #ports: PartitionPorts = SILENT;
  readonly #openPorts: PartitionPorts;
  readonly #limits: PartitionLimits;
  readonly #locks: LockTable<Session>;
  #nextGrant = 1;
  #version = 0;
  #closing = false;
  #queue: Enqueued[] = [];
  #appending: { entries: Enqueued[]; confirms: Confirmed[] } | undefined;
  #unconfirmed: Confirmed[] = [];
  #confirming: Confirmed[] | undefined;
  /** Sessions for which something has changed: looked at once the input is handled, not recursively. */
  #changed: Session[] = [];

  constructor(id: number, ports: PartitionPorts, limits: PartitionLimits) {
    this.id = id;
    this.#openPorts = ports;
    this.#limits = limits;
    this.#locks = new LockTable((session, key, mode) => {
      session.waits -= 1;
      this.#grant(session, key, mode);
    });
  }

  /** All of the log is replayed: this owner serves under `epoch`. What is in doubt is asked for at once. */
  start(epoch: number, nowMs: number): void {
    this.epoch = epoch;
    this.#ports = this.#openPorts;
    for (const [tx, decision] of this.decisions) {
      decision.sinceMs = nowMs;
      this.#remind(tx, decision, nowMs);
      if (decision.emits.length > 0) this.#ports.publish(tx, decision.emits);
    }
    for (const session of this.sessions.values()) {
      session.sinceMs = nowMs;
      this.#changed.push(session);
    }
    this.#settleChanged(nowMs);
  }

  receive(message: PartitionMessage, nowMs: number): void {
    switch (message.kind) {
      case 'lock':
        this.#onLock(message, nowMs);
        break;
      case 'release':
        this.#onRelease(message.tx);
        break;
      case 'prepare':
        this.#onPrepare(message, nowMs);
        break;
      case 'vote':
        this.#onVote(message);
        break;
      case 'commit':
        this.#onCommit(message.tx, message.home);
        break;
      case 'abort':
        this.#onAbort(message.tx);
        break;
      case 'ended':
        this.#onEnded(message.tx, message.from);
        break;
      case 'resolve':
        this.#onResolve(message);
        break;
    }
    this.#settleChanged(nowMs);
  }

  /**
   * The records of the next append, none while one is under way. The reads made so far are confirmed with it. Records for
   * whose sake nobody waits make no append of their own unless `all`.
   */
  takeBatch(maxBytes: number, all = false): LogRecord[] {
    if (this.#appending !== undefined || this.#queue.length === 0) return [];
    if (!all && !this.#queue.some(({ record }) => isAwaited(record))) return [];
    let count = 0;
    let bytes = 0;
    for (const { record } of this.#queue) {
      bytes += sizeOf(record);
      if (count > 0 && bytes > maxBytes) break;
      count += 1;
    }
    const entries = this.#queue.splice(0, count);
    this.#appending = { entries, confirms: this.#unconfirmed };
    this.#unconfirmed = [];
    return entries.map(({ record }) => record);
  }

  /** The append is acknowledged: only now does anything of it leave (I2). */
  appended(nowMs: number): void {
    const { entries, confirms } = this.#appending ?? { entries: [], confirms: [] };
    this.#appending = undefined;
    for (const { record, session, endedTo } of entries) {
      if (record.kind === 'prepare' && session !== undefined) {
        session.logged = true;
        this.#changed.push(session);
      } else if (record.kind === 'decide' && session !== undefined) {
        this.#committedAtHome(session, nowMs);
      } else if (endedTo !== undefined) {
        this.#ports.toPartition(endedTo, { kind: 'ended', tx: record.tx, from: this.id });
      }
    }
    for (const then of confirms) then();
    this.#settleChanged(nowMs);
  }

  /** True when reads wait for a confirmation and no question is under way: the owner is to ask now. */
  takeConfirmation(): boolean {
    if (this.#confirming !== undefined || this.#unconfirmed.length === 0) return false;
    this.#confirming = this.#unconfirmed;
    this.#unconfirmed = [];
    return true;
  }

  /** The stream still has this owner's append as the last one. */
  confirmed(nowMs: number): void {
    const confirmed = this.#confirming ?? [];
    this.#confirming = undefined;
    for (const then of confirmed) then();
    this.#settleChanged(nowMs);
  }

  /** The question could not be answered: the next append, or another question, confirms. */
  confirmLater(): void {
    this.#unconfirmed.push(...(this.#confirming ?? []));
    this.#confirming = undefined;
  }

  published(tx: string): void {
    const decision = this.decisions.get(tx);
    if (decision === undefined) return;
    decision.emits = [];
    this.#forgetIfDone(tx, decision);
  }

  /** From now on no new session; what has not prepared is sent elsewhere. Done when `idle`. */
  close(): void {
    this.#closing = true;
    for (const session of this.sessions.values()) {
      if (session.state === 'active') this.#lose(session, { why: 'lost', partition: this.id });
    }
    this.#changed = [];
  }

  /** Nothing prepared, nothing to append. */
  get idle(): boolean {
    return this.sessions.size === 0 && this.#queue.length === 0 && this.#appending === undefined;
  }

  /** Transactions that have prepared, or are decided and not ended everywhere. */
  get unfinished(): number {
    const open = [...this.decisions.values()].filter(({ writers }) => writers.size > 0);
    return this.sessions.size + open.length;
  }

  /** The worker is gone: what it had locked and not prepared is free. */
  coordinatorGone(workerId: string, nowMs: number): void {
    for (const session of this.sessions.values()) {
      if (session.coordinator === workerId && session.state === 'active') this.#drop(session);
    }
    this.#settleChanged(nowMs);
  }

  /** To be called every some 10 ms: deadlines, and questions that were not answered (I6). */
  tick(nowMs: number): void {
    const { voteTimeoutMs, queryAfterMs, keepOutcomeMs } = this.#limits;
    for (const session of this.sessions.values()) {
      const waitedMs = nowMs - session.sinceMs;
      if (session.state === 'active') {
        if (nowMs >= session.deadlineMs) this.#lose(session, this.#refusal('timeout'));
      } else if (session.state === 'collecting') {
        if (waitedMs >= voteTimeoutMs) this.#abortAtHome(session, this.#refusal('timeout'));
      } else if (session.voted && waitedMs >= queryAfterMs) this.#voteYes(session, nowMs);
    }
    for (const [tx, decision] of this.decisions) {
      if (nowMs - decision.sinceMs >= keepOutcomeMs) decision.coordinatorEnded = true;
      if (nowMs - decision.askedAtMs >= queryAfterMs) this.#remind(tx, decision, nowMs);
      this.#forgetIfDone(tx, decision);
    }
    this.#settleChanged(nowMs);
  }

  /** The value that a lock would show now. */
  get(key: string): Item | undefined {
    return this.items.get(key);
  }

  /** Keys that are locked, waited for, or written tentatively. */
  get lockedKeys(): number {
    return this.#locks.size;
  }

  holderOf(key: string): string | undefined {
    return this.#locks.holderOf(key)?.tx;
  }

  /** Replays one record of the log; only before `start`. */
  replay(record: LogRecord): void {
    switch (record.kind) {
      case 'prepare':
        this.#replayPrepare(record);
        break;
      case 'decide':
        for (const write of record.writes) this.#apply(write);
        this.decisions.set(record.tx, newDecision(record, 0));
        break;
      case 'commit': {
        const session = this.sessions.get(record.tx);
        if (session !== undefined) this.#commitSession(session);
        break;
      }
      case 'abort': {
        const session = this.sessions.get(record.tx);
        if (session !== undefined) this.#undo(session);
        break;
      }
      case 'end':
        this.decisions.delete(record.tx);
        break;
    }
    this.#changed = [];
    this.#queue = [];
  }

  /** For a snapshot: sessions whose `prepare` record is in the log, as that record. */
  loggedPrepares(): LogRecord[] {
    return [...this.sessions.values()]
      .filter(({ state, logged }) => state === 'prepared' && logged)
      .map((session) => prepareRecord(session));
  }

  /** For a snapshot: the decisions that somebody may ask for, as records without their writes. */
  openDecisions(): LogRecord[] {
    return [...this.decisions].map(([tx, { coordinator, writers, emits }]) => ({
      kind: 'decide' as const,
      tx,
      coordinator,
      writers: [...writers],
      writes: [],
      emits,
    }));
  }

  /** Before a snapshot is loaded. */
  clear(): void {
    this.items.clear();
    this.decisions.clear();
    for (const session of this.sessions.values()) {
      for (const [key] of session.writes) this.#locks.settle(session, key);
    }
    this.sessions.clear();
    this.bytes = 0;
  }

  /** From a snapshot. */
  load(key: string, value: string, version: number): void {
    this.#apply([key, value, version]);
  }

  get version(): number {
    return this.#version;
  }

  /** From a snapshot: versions given since are above it. */
  raiseVersion(version: number): void {
    this.#version = Math.max(this.#version, version);
  }

  #onLock(message: LockMessage, nowMs: number): void {
    const { tx, key, mode } = message;
    const session = this.sessions.get(tx) ?? this.#newSession(message, nowMs);
    if (session === undefined || session.state !== 'active') return;
    const answer = this.#locks.request(session, key, mode);
    if (answer.granted) {
      this.#grant(session, key, mode);
      return;
    }
    const { behind, wounds, asksAgain } = answer;
    if (!asksAgain) {
      session.waits += 1;
      session.keys.set(key, session.keys.get(key) ?? 'none');
      this.counters.conflicts += 1;
    }
    const partition = this.id;
    this.#ports.toCoordinator(session.coordinator, {
      kind: 'queued',
      tx,
      partition,
      key,
      behind: behind.tx,
    });
    for (const { tx: wounded, coordinator } of wounds) {
      this.#ports.toCoordinator(coordinator, {
        kind: 'wound',
        tx: wounded,
        partition,
        key,
        by: tx,
      });
    }
  }

  #newSession(message: LockMessage, nowMs: number): Session | undefined {
    const { tx, age, coordinator, ttlMs } = message;
    const { maxSessions } = this.#limits;
    const full = this.sessions.size >= maxSessions || this.decisions.size >= maxSessions;
    if (full || this.#closing) {
      const refusal = this.#refusal(this.#closing ? 'lost' : 'overloaded');
      this.#ports.toCoordinator(coordinator, { kind: 'lost', tx, refusal });
      return undefined;
    }
    const session = new Session(tx, age, coordinator, this.#nextGrant, nowMs + ttlMs);
    this.#nextGrant += 1;
    this.sessions.set(tx, session);
    return session;
  }

  #grant(session: Session, key: string, mode: LockMode): void {
    session.keys.set(key, mode);
    const tail = this.#locks.tail(key);
    if (tail !== undefined) session.dependOn(tail.owner);
    const item = this.items.get(key);
    this.#ports.toCoordinator(session.coordinator, {
      kind: 'granted',
      tx: session.tx,
      partition: this.id,
      key,
      mode,
      value: tail === undefined ? (item?.value ?? null) : tail.value,
      version: tail?.version ?? item?.version ?? 0,
      epoch: this.epoch,
      grant: session.grant,
      contention: this.#locks.contention(key),
    });
  }

  #onRelease(tx: string): void {
    const session = this.sessions.get(tx);
    if (session?.state === 'active') this.#drop(session);
  }

  #onPrepare(message: PrepareMessage, nowMs: number): void {
    const { tx, home } = message;
    const session = this.sessions.get(tx);
    if (session !== undefined && session.state !== 'active') return;
    const refusal = this.#whyNot(message, session);
    if (refusal === undefined) this.#accept(message, session as Session, nowMs);
    else if (session !== undefined) this.#refuse(message, session, refusal);
    else if (home === this.id) {
      if (this.decisions.has(tx)) this.#tellOutcome(message.coordinator, tx);
      else this.#tellAborted(message, refusal);
    } else this.#vote(home, tx, refusal);
  }

  #whyNot(message: PrepareMessage, session: Session | undefined): Refusal | undefined {
    if (session === undefined) return this.#refusal('lost');
    if (message.epoch !== this.epoch || message.grant !== session.grant || session.waits > 0) {
      return this.#refusal('lost');
    }
    let bytes = this.bytes;
    for (const [key, value] of message.writes) {
      if (session.keys.get(key) !== 'exclusive') return this.#refusal('lost', key);
      const before = this.items.get(key);
      if (before !== undefined) bytes -= costOf(key, before.value);
      if (value === null) continue;
      bytes += costOf(key, value);
      if (bytes > this.#limits.maxPartitionBytes) return this.#refusal('full', key);
    }
    return undefined;
  }

  #refuse(message: PrepareMessage, session: Session, refusal: Refusal): void {
    this.#drop(session);
    if (message.home === this.id) this.#tellAborted(message, refusal);
    else this.#vote(message.home, message.tx, refusal);
  }

  /** The writes become tentative, the locks are free: no other lock of this transaction is still asked for (I4). */
  #accept(message: PrepareMessage, session: Session, nowMs: number): void {
    session.state = message.home === this.id ? 'collecting' : 'prepared';
    session.home = message.home;
    session.sinceMs = nowMs;
    session.participants = message.participants;
    session.writers = message.writers;
    session.emits = message.emits;
    session.writes = message.writes.map(([key, value]) => [key, value, this.#nextVersion()]);
    for (const [key, value, version] of session.writes) {
      this.#locks.push(key, { owner: session, value, version });
    }
    this.#freeLocks(session);
    if (session.state === 'collecting') {
      for (const partition of session.participants) {
        if (!session.early.has(partition)) session.missing.add(partition);
      }
    } else if (session.writes.length > 0)
      this.#enqueue({ record: prepareRecord(session), session });
    // A write's own append proves who the owner is; what only reads must ask (SPEC.md, "Reads are confirmed").
    const asks = session.state === 'collecting' ? session.readOnly : session.writes.length === 0;
    if (asks) this.#unconfirmed.push(() => this.#readsConfirmed(session));
    else session.confirmed = true;
    this.#changed.push(session);
  }

  #onVote(message: VoteMessage): void {
    const { tx, from, yes } = message;
    const session = this.sessions.get(tx);
    if (session === undefined) {
      const known = this.decisions.has(tx);
      if (known) this.#ports.toPartition(from, { kind: 'commit', tx, home: this.id });
      // I3: without a session nothing can decide for it any more.
      else if (yes) {
        this.#unconfirmed.push(() => this.#ports.toPartition(from, { kind: 'abort', tx }));
      }
    } else if (session.state === 'active') {
      if (yes) session.early.add(from);
      else this.#lose(session, message.refusal ?? this.#refusal('lost'));
    } else if (session.state === 'collecting') {
      if (yes) session.missing.delete(from);
      else this.#abortAtHome(session, message.refusal ?? this.#refusal('lost'));
      this.#changed.push(session);
    }
  }

  #onCommit(tx: string, home: number): void {
    const session = this.sessions.get(tx);
    if (session?.state === 'prepared') this.#commitPrepared(session);
    else if (session === undefined && !this.#isOnItsWay(tx)) {
      // It had prepared here: so its end is in this log, unless this is a former owner.
      this.#unconfirmed.push(() =>
        this.#ports.toPartition(home, { kind: 'ended', tx, from: this.id }),
      );
    }
  }

  /**
   * It has voted yes, so all that it depends on has committed; after a recovery that may not have been heard here yet.
   */
  #commitPrepared(session: Session): void {
    for (const other of session.dependsOn) {
      if (other.state === 'prepared') this.#commitPrepared(other);
    }
    this.#commitSession(session);
    this.#enqueue({ record: { kind: 'commit', tx: session.tx }, endedTo: session.home });
  }

  #onAbort(tx: string): void {
    const session = this.sessions.get(tx);
    if (session?.state === 'active') this.#drop(session);
    else if (session?.state === 'prepared') this.#abortPrepared(session);
  }

  #onEnded(tx: string, from: number | undefined): void {
    const decision = this.decisions.get(tx);
    if (decision === undefined) return;
    if (from === undefined) decision.coordinatorEnded = true;
    else decision.writers.delete(from);
    this.#forgetIfDone(tx, decision);
  }

  #onResolve({ tx, coordinator }: ResolveMessage): void {
    const session = this.sessions.get(tx);
    if (this.decisions.has(tx)) this.#tellOutcome(coordinator, tx);
    else if (session === undefined) {
      this.#unconfirmed.push(() => this.#tellOutcome(coordinator, tx, this.#refusal('lost')));
    }
    // Its prepare has not come; if it comes now it finds no session.
    else if (session.state === 'active') this.#loseAll(session, coordinator);
  }

  #loseAll(session: Session, coordinator: string): void {
    this.#drop(session);
    this.#tellOutcome(coordinator, session.tx, this.#refusal('lost'));
  }

  /** Votes, decisions and answers that have become possible. */
  #settleChanged(nowMs: number): void {
    for (let session = this.#changed.pop(); session !== undefined; session = this.#changed.pop()) {
      if (this.sessions.get(session.tx) !== session) continue;
      if (session.state === 'prepared') this.#voteIfReady(session, nowMs);
      else if (session.state === 'collecting') this.#decideIfReady(session, nowMs);
    }
  }

  #voteIfReady(session: Session, nowMs: number): void {
    if (session.voted || session.dependsOn.size > 0) return;
    if (session.writes.length > 0 && session.logged) this.#voteYes(session, nowMs);
    else if (session.writes.length === 0 && session.confirmed) {
      this.#voteYes(session, nowMs);
      this.#forget(session);
    }
  }

  #decideIfReady(session: Session, nowMs: number): void {
    if (session.missing.size > 0) return;
    if (session.readOnly) {
      if (session.dependsOn.size > 0 || !session.confirmed) return;
      this.counters.committed += 1;
      this.#forget(session);
      this.#tellOutcome(session.coordinator, session.tx);
      return;
    }
    for (const other of session.dependsOn) if (other.state !== 'deciding') return;
    session.state = 'deciding';
    session.sinceMs = nowMs;
    const { tx, coordinator, writers, writes, emits } = session;
    this.#enqueue({ record: { kind: 'decide', tx, coordinator, writers, writes, emits }, session });
    // Their decisions may now follow in the same log.
    this.#changed.push(...session.dependants);
  }

  #committedAtHome(session: Session, nowMs: number): void {
    const { tx, coordinator, writers, emits } = session;
    this.#commitSession(session);
    const decision = newDecision({ coordinator, writers, emits }, nowMs);
    this.decisions.set(tx, decision);
    this.counters.committed += 1;
    this.#tellOutcome(coordinator, tx);
    this.#remind(tx, decision, nowMs);
    if (emits.length > 0) this.#ports.publish(tx, emits);
  }

  /** Its values are the committed ones from now on. */
  #commitSession(session: Session): void {
    for (const write of session.writes) {
      this.#apply(write);
      this.#locks.settle(session, write[0]);
    }
    this.#changed.push(...session.dependants);
    this.#forget(session);
  }

  #abortAtHome(session: Session, refusal: Refusal): void {
    const { tx, coordinator, participants } = session;
    this.counters.aborted += 1;
    this.#undo(session);
    this.#tellOutcome(coordinator, tx, refusal);
    for (const partition of participants) this.#ports.toPartition(partition, { kind: 'abort', tx });
  }

  #abortPrepared(session: Session): void {
    const { tx, writes } = session;
    this.#undo(session);
    if (writes.length > 0) this.#enqueue({ record: { kind: 'abort', tx } });
  }

  /** Takes back its tentative values and aborts all that is built on them: none of that has been voted for. */
  #undo(session: Session): void {
    const dependants = [...session.dependants];
    for (const [key] of session.writes) this.#locks.settle(session, key);
    this.#forget(session);
    for (const other of dependants) {
      if (this.sessions.get(other.tx) !== other) continue;
      const refusal = { ...this.#refusal('conflict'), other: session.tx };
      if (other.state === 'active') this.#lose(other, refusal);
      else if (other.state === 'collecting') this.#abortAtHome(other, refusal);
      else {
        this.#vote(other.home, other.tx, refusal);
        this.#abortPrepared(other);
      }
    }
  }

  /** Drops a session that has not prepared and tells its coordinator. */
  #lose(session: Session, refusal: Refusal): void {
    this.#drop(session);
    this.#ports.toCoordinator(session.coordinator, { kind: 'lost', tx: session.tx, refusal });
  }

  #drop(session: Session): void {
    this.#forget(session);
    this.#freeLocks(session);
  }

  #forget(session: Session): void {
    this.sessions.delete(session.tx);
    session.detach();
  }

  #freeLocks(session: Session): void {
    const keys = [...session.keys.keys()];
    session.keys.clear();
    for (const key of keys) this.#locks.free(session, key);
  }

  #apply([key, value, version]: VersionedWrite): void {
    const before = this.items.get(key);
    if (before !== undefined) this.bytes -= costOf(key, before.value);
    if (value === null) this.items.delete(key);
    else {
      this.bytes += costOf(key, value);
      this.items.set(key, { value, version });
    }
    this.raiseVersion(version);
  }

  #replayPrepare(record: LogRecord & { kind: 'prepare' }): void {
    if (this.sessions.has(record.tx)) return;
    const session = new Session(record.tx, { startMs: 0, first: '' }, record.coordinator, 0, 0);
    session.state = 'prepared';
    session.home = record.home;
    session.writes = record.writes;
    session.logged = true;
    for (const tx of record.dependsOn) {
      const other = this.sessions.get(tx);
      if (other !== undefined) session.dependOn(other);
    }
    for (const [key, value, version] of record.writes) {
      this.#locks.push(key, { owner: session, value, version });
      this.raiseVersion(version);
    }
    this.sessions.set(record.tx, session);
  }

  #nextVersion(): number {
    this.#version += 1;
    return this.#version;
  }

  #enqueue(entry: Enqueued): void {
    this.#queue.push(entry);
  }

  #isOnItsWay(tx: string): boolean {
    const entries = [...(this.#appending?.entries ?? []), ...this.#queue];
    return entries.some(({ record }) => record.tx === tx);
  }

  #readsConfirmed(session: Session): void {
    session.confirmed = true;
    this.#changed.push(session);
  }

  #voteYes(session: Session, nowMs: number): void {
    session.voted = true;
    session.sinceMs = nowMs;
    const { tx, home } = session;
    this.#ports.toPartition(home, { kind: 'vote', tx, from: this.id, yes: true });
  }

  #vote(home: number, tx: string, refusal: Refusal): void {
    this.#ports.toPartition(home, { kind: 'vote', tx, from: this.id, yes: false, refusal });
  }

  #remind(tx: string, decision: Decision, nowMs: number): void {
    decision.askedAtMs = nowMs;
    for (const partition of decision.writers) {
      this.#ports.toPartition(partition, { kind: 'commit', tx, home: this.id });
    }
  }

  #forgetIfDone(tx: string, { writers, coordinatorEnded, emits, logged }: Decision): void {
    if (writers.size > 0 || !coordinatorEnded || emits.length > 0) return;
    this.decisions.delete(tx);
    if (logged) this.#enqueue({ record: { kind: 'end', tx } });
  }

  #tellOutcome(coordinator: string, tx: string, refusal?: Refusal): void {
    this.#ports.toCoordinator(coordinator, {
      kind: 'outcome',
      tx,
      ...(refusal === undefined ? {} : { refusal }),
    });
  }

  #tellAborted({ tx, coordinator, participants }: PrepareMessage, refusal: Refusal): void {
    this.counters.aborted += 1;
    this.#tellOutcome(coordinator, tx, refusal);
    for (const partition of participants) this.#ports.toPartition(partition, { kind: 'abort', tx });
  }

  #refusal(why: Refusal['why'], key?: string): Refusal {
    return { why, partition: this.id, ...(key === undefined ? {} : { key }) };
  }
}

export function costOf(key: string, value: string): number {
  return key.length + value.length + ITEM_OVERHEAD_BYTES;
}

function prepareRecord({ tx, home, coordinator, dependsOn, writes }: Session): LogRecord {
  return {
    kind: 'prepare',
    tx,
    home,
    coordinator,
    dependsOn: [...dependsOn].map((other) => other.tx),
    writes,
  };
}

function newDecision(
  facts: { coordinator: string; writers: readonly number[]; emits: readonly Uint8Array[] },
  nowMs: number,
): Decision {
  return {
    coordinator: facts.coordinator,
    writers: new Set(facts.writers),
    coordinatorEnded: false,
    logged: facts.writers.length > 0 || facts.emits.length > 0,
    emits: facts.emits,
    sinceMs: nowMs,
    askedAtMs: nowMs,
  };
}

/** The others only say sooner what could also be learnt from the home. */
function isAwaited({ kind }: LogRecord): boolean {
  return kind === 'prepare' || kind === 'decide';
}

const RECORD_OVERHEAD_BYTES = 64;

function sizeOf(record: LogRecord): number {
  let bytes = RECORD_OVERHEAD_BYTES;
  if (record.kind === 'prepare' || record.kind === 'decide') {
    for (const [key, value] of record.writes) bytes += key.length + (value?.length ?? 0) + 16;
  }
  if (record.kind === 'decide') for (const emit of record.emits) bytes += emit.length;
  return bytes;
}
