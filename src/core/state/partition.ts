/**
 * A partition as its owner runs it: keys, locks, sessions, decisions. Messages, acknowledgements and time come in;
 * messages go out through `ports`, records through `queue`. SPEC.md is its specification, I1 to I6 are cited from there.
 *
 * After an append that was refused, or whose fate is unknown, the owner throws the whole machine away (I1).
 */
import { Decisions } from './decisions.ts';
import { Items } from './items.ts';
import type { Layout } from './layout.ts';
import { LogQueue } from './log-queue.ts';
import type {
  LockMessage,
  LogRecord,
  PartitionMessage,
  PrepareMessage,
  Refusal,
  ResolveMessage,
  VoteMessage,
} from './messages.ts';
import { Moves } from './moves.ts';
import { SILENT, type PartitionLimits, type PartitionWorld } from './ports.ts';
import { prepareRecord, restoredSession, type Session } from './session.ts';
import { Sessions } from './sessions.ts';

/** Items looked at by one call of `expire`. */
const MAX_EXPIRED = 2_000;

export class Partition {
  readonly id: number;
  readonly items = new Items();
  readonly sessions: Sessions;
  readonly queue: LogQueue;
  readonly decisions: Decisions;
  readonly moves: Moves;
  epoch = 0;
  #ports: typeof SILENT = SILENT;
  readonly #openPorts: PartitionWorld;
  readonly #limits: PartitionLimits;
  /** Sessions for which something has changed: looked at once the input is handled, not recursively. */
  #changed: Session[] = [];

  constructor(id: number, ports: PartitionWorld, limits: PartitionLimits) {
    this.id = id;
    this.#openPorts = ports;
    this.#limits = limits;
    this.queue = new LogQueue(id, (nowMs) => this.#settleChanged(nowMs));
    this.decisions = new Decisions(id, limits, this.queue);
    this.sessions = new Sessions(id, this.items, SILENT);
    this.moves = new Moves(id, this.items, this.sessions, this.queue, ports, limits);
  }

  /**
   * All of the log is replayed: this owner serves under `epoch`. What is in doubt is asked for at once. `layout` is the
   * table's, of which the log may know nothing yet, or more.
   */
  start(epoch: number, layout: Layout, nowMs: number): void {
    this.epoch = epoch;
    this.moves.adopt(layout);
    this.#ports = this.#openPorts;
    this.sessions.epoch = epoch;
    this.sessions.ports = this.#openPorts;
    this.decisions.announceAll(this.#ports, nowMs);
    for (const session of this.sessions.values()) {
      session.sinceMs = nowMs;
      this.#changed.push(session);
    }
    for (const session of this.sessions.values()) {
      if (session.undecided.size > 0) this.#refusePrepared(session, this.#refusal('lost'));
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
        this.decisions.ended(message.tx, message.from);
        break;
      case 'resolve':
        this.#onResolve(message);
        break;
      case 'fetch':
      case 'items':
      case 'left':
      case 'arrived':
        this.moves.receive(message, nowMs);
    }
    this.#settleChanged(nowMs);
  }

  /** From now on no new session; what has not prepared is sent elsewhere. Done when `idle`. */
  close(): void {
    this.sessions.closed = true;
    this.moves.closed = true;
    for (const session of this.sessions.values()) {
      if (session.state === 'active') this.sessions.lose(session, this.#refusal('lost'));
    }
    this.#changed = [];
  }

  /** Nothing prepared, nothing to append. */
  get idle(): boolean {
    return this.sessions.size === 0 && this.queue.idle;
  }

  /** Transactions that have prepared, or are decided and not ended everywhere. */
  get unfinished(): number {
    return this.sessions.size + this.decisions.open;
  }

  /** The worker is gone: what it had locked and not prepared is free. */
  coordinatorGone(workerId: string, nowMs: number): void {
    for (const session of this.sessions.values()) {
      if (session.coordinator === workerId && session.state === 'active')
        this.sessions.drop(session);
    }
    this.#settleChanged(nowMs);
  }

  /** To be called every some 10 ms: deadlines, and questions that were not answered (I6). */
  tick(nowMs: number): void {
    const { voteTimeoutMs, queryAfterMs } = this.#limits;
    for (const session of this.sessions.values()) {
      const waitedMs = nowMs - session.sinceMs;
      if (session.state === 'active') {
        if (nowMs >= session.deadlineMs) this.sessions.lose(session, this.#refusal('timeout'));
      } else if (session.state === 'collecting') {
        if (waitedMs >= voteTimeoutMs) this.#abortAtHome(session, this.#refusal('timeout'));
      } else if (session.voted && waitedMs >= queryAfterMs) this.#voteYes(session, nowMs);
    }
    this.decisions.tick(this.#ports, nowMs);
    this.moves.tick(nowMs);
    this.#settleChanged(nowMs);
  }

  /** Removes answers and the like whose time is over, some at each call. `wallMs`: since 1970. */
  expire(wallMs: number): void {
    const due = this.items.expired(wallMs, MAX_EXPIRED);
    const items = due.filter(([key]) => this.moves.serves(key));
    if (items.length === 0) return;
    this.queue.enqueue({ kind: 'expire', tx: '', items }, () => this.items.remove(items));
  }

  /** Replays one record of the log; only before `start`. */
  replay(record: LogRecord): void {
    const session = this.sessions.get(record.tx);
    if (record.kind === 'prepare') this.#replayPrepare(record);
    else if (record.kind === 'decide') {
      for (const write of record.writes) this.items.apply(write);
      this.decisions.replay(record.tx, record);
      for (const other of this.sessions.values()) other.undecided.delete(record.tx);
    } else if (record.kind === 'commit' && session !== undefined) this.#commitSession(session);
    else if (record.kind === 'abort' && session !== undefined) this.#undo(session);
    else if (record.kind === 'end') this.decisions.forget(record.tx);
    else if (record.kind === 'published') this.decisions.emptied(record.tx);
    else if (record.kind === 'expire') this.items.remove(record.items);
    else this.moves.replay(record);
    this.#changed = [];
  }

  /** For a snapshot: what is under way and stands in the log, as records. */
  openRecords(): LogRecord[] {
    const prepared = [...this.sessions.values()]
      .filter(({ state, logged }) => state === 'prepared' && logged)
      .sort((left, right) => left.order - right.order);
    return [
      ...this.moves.record(),
      ...prepared.map((session) => prepareRecord(session)),
      ...this.decisions.records(),
    ];
  }

  /** Before a snapshot is loaded. */
  clear(): void {
    this.items.clear();
    this.decisions.clear();
    this.sessions.clear();
    this.moves.clear();
  }

  #onLock(message: LockMessage, nowMs: number): void {
    if (!this.moves.serves(message.key)) return this.moves.refuse(message);
    // Commits that are remembered count, too: a coordinator that never says that it knows could fill the memory.
    const { maxSessions } = this.#limits;
    this.sessions.lock(message, nowMs, this.decisions.own >= maxSessions ? 0 : maxSessions);
  }

  #onRelease(tx: string): void {
    const session = this.sessions.get(tx);
    if (session?.state === 'active') this.sessions.drop(session);
  }

  #onPrepare(message: PrepareMessage, nowMs: number): void {
    const { tx, home } = message;
    const session = this.sessions.get(tx);
    if (session !== undefined && session.state !== 'active') return;
    if (this.decisions.has(tx)) {
      this.#tellOutcome(message.coordinator, tx);
      return;
    }
    const refusal = this.#whyNot(message, session);
    if (refusal === undefined) this.#accept(message, session as Session, nowMs);
    else if (session !== undefined) this.#refuse(message, session, refusal);
    else if (home === this.id) this.#tellAborted(message, refusal);
    else this.#vote(home, tx, refusal);
  }

  #whyNot(message: PrepareMessage, session: Session | undefined): Refusal | undefined {
    if (session === undefined) return this.#refusal('lost');
    if (message.epoch !== this.epoch || message.grant !== session.grant || session.waits > 0) {
      return this.#refusal('lost');
    }
    const unlocked = message.writes.find(([key]) => session.keys.get(key) !== 'exclusive');
    if (unlocked !== undefined) return this.#refusal('lost', unlocked[0]);
    const tooMuch = this.items.outgrownBy(message.writes, this.#limits.maxPartitionBytes);
    if (tooMuch !== undefined) return this.#refusal('full', tooMuch);
    return undefined;
  }

  #refuse(message: PrepareMessage, session: Session, refusal: Refusal): void {
    this.sessions.drop(session);
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
    this.sessions.prepare(session, message.writes);
    if (session.state === 'collecting') {
      for (const partition of session.participants) {
        if (!session.early.has(partition)) session.missing.add(partition);
      }
    } else if (session.writes.length > 0)
      this.queue.enqueue(prepareRecord(session), () => {
        session.logged = true;
        this.#changed.push(session);
      });
    // A write's own append proves who the owner is; what only reads must ask (SPEC.md, "Reads are confirmed").
    const asks = session.state === 'collecting' ? session.readOnly : session.writes.length === 0;
    if (asks) {
      this.queue.confirm(() => {
        session.confirmed = true;
        this.#changed.push(session);
      });
    } else session.confirmed = true;
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
        this.queue.confirm(() => this.#ports.toPartition(from, { kind: 'abort', tx }));
      }
    } else if (session.state === 'active') {
      if (yes) session.early.add(from);
      else this.sessions.lose(session, message.refusal ?? this.#refusal('lost'));
    } else if (session.state === 'collecting') {
      if (yes) session.missing.delete(from);
      else this.#abortAtHome(session, message.refusal ?? this.#refusal('lost'));
      this.#changed.push(session);
    }
  }

  #onCommit(tx: string, home: number): void {
    const session = this.sessions.get(tx);
    if (session?.state === 'prepared') this.#commitPrepared(session);
    else if (session === undefined && !this.queue.has(tx)) {
      // It had prepared here: so its end is in this log, unless this is a former owner.
      this.queue.confirm(() => this.#ports.toPartition(home, { kind: 'ended', tx, from: this.id }));
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
    const { tx, home } = session;
    this.queue.enqueue({ kind: 'commit', tx }, () =>
      this.#ports.toPartition(home, { kind: 'ended', tx, from: this.id }),
    );
  }

  #onAbort(tx: string): void {
    const session = this.sessions.get(tx);
    if (session?.state === 'active') this.sessions.drop(session);
    else if (session?.state === 'prepared') this.#abortPrepared(session);
  }

  #onResolve({ tx, coordinator }: ResolveMessage): void {
    const session = this.sessions.get(tx);
    if (this.decisions.has(tx)) this.#tellOutcome(coordinator, tx);
    else if (session === undefined || session.state === 'active') {
      // Its prepare has not come; if it comes now it finds no session.
      if (session !== undefined) this.sessions.drop(session);
      this.queue.confirm(() => this.#tellOutcome(coordinator, tx, this.#refusal('lost')));
    }
  }

  /** Votes, decisions and answers that have become possible. */
  #settleChanged(nowMs: number): void {
    for (let session = this.#changed.pop(); session !== undefined; session = this.#changed.pop()) {
      if (!this.sessions.has(session)) continue;
      if (session.state === 'prepared') this.#voteIfReady(session, nowMs);
      else if (session.state === 'collecting') this.#decideIfReady(session, nowMs);
    }
    this.moves.proceed(nowMs);
  }

  #voteIfReady(session: Session, nowMs: number): void {
    if (session.voted || session.dependsOn.size > 0) return;
    if (session.writes.length > 0 && session.logged) this.#voteYes(session, nowMs);
    else if (session.writes.length === 0 && session.confirmed) {
      this.#voteYes(session, nowMs);
      this.sessions.forget(session);
    }
  }

  #decideIfReady(session: Session, nowMs: number): void {
    if (session.missing.size > 0) return;
    if (session.readOnly) {
      if (session.dependsOn.size > 0 || !session.confirmed) return;
      this.sessions.forget(session);
      this.#tellOutcome(session.coordinator, session.tx);
      return;
    }
    for (const other of session.dependsOn) if (other.state !== 'deciding') return;
    session.state = 'deciding';
    session.sinceMs = nowMs;
    const { tx, coordinator, writers, writes, emits } = session;
    this.queue.enqueue({ kind: 'decide', tx, coordinator, writers, writes, emits }, (loggedAtMs) =>
      this.#committedAtHome(session, loggedAtMs),
    );
    // Their decisions may now follow in the same log.
    this.#changed.push(...session.dependants);
  }

  #committedAtHome(session: Session, nowMs: number): void {
    const { tx, coordinator, writers, emits } = session;
    this.#commitSession(session);
    this.decisions.add(tx, { coordinator, writers, emits });
    this.#tellOutcome(coordinator, tx);
    this.decisions.announce(tx, this.#ports, nowMs);
  }

  /** Its values are the committed ones from now on. */
  #commitSession(session: Session): void {
    for (const write of session.writes) this.items.apply(write);
    this.#changed.push(...session.dependants);
    this.sessions.settle(session);
  }

  #abortAtHome(session: Session, refusal: Refusal): void {
    const { tx, coordinator, participants } = session;
    this.#undo(session);
    this.#tellOutcome(coordinator, tx, refusal);
    for (const partition of participants) this.#ports.toPartition(partition, { kind: 'abort', tx });
  }

  #abortPrepared(session: Session): void {
    const { tx, writes } = session;
    this.#undo(session);
    if (writes.length > 0) this.queue.enqueue({ kind: 'abort', tx });
  }

  /** Takes back its tentative values and aborts all that is built on them: none of that has been voted for. */
  #undo(session: Session): void {
    const dependants = [...session.dependants];
    this.sessions.settle(session);
    for (const other of dependants) {
      if (!this.sessions.has(other)) continue;
      const refusal = { ...this.#refusal('conflict'), other: session.tx };
      if (other.state === 'active') this.sessions.lose(other, refusal);
      else if (other.state === 'collecting') this.#abortAtHome(other, refusal);
      else this.#refusePrepared(other, refusal);
    }
  }

  #refusePrepared(session: Session, refusal: Refusal): void {
    this.#vote(session.home, session.tx, refusal);
    this.#abortPrepared(session);
  }

  #replayPrepare(record: LogRecord & { kind: 'prepare' }): void {
    if (this.sessions.get(record.tx) !== undefined) return;
    const session = restoredSession(record);
    for (const tx of record.dependsOn) {
      const other = this.sessions.get(tx);
      if (other === undefined) session.undecided.add(tx);
      else session.dependOn(other);
    }
    this.sessions.restore(session);
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

  #tellOutcome(coordinator: string, tx: string, refusal?: Refusal): void {
    const why = refusal === undefined ? {} : { refusal };
    this.#ports.toCoordinator(coordinator, { kind: 'outcome', tx, ...why });
  }

  #tellAborted({ tx, coordinator, participants }: PrepareMessage, refusal: Refusal): void {
    this.#tellOutcome(coordinator, tx, refusal);
    for (const partition of participants) this.#ports.toPartition(partition, { kind: 'abort', tx });
  }

  #refusal(why: Refusal['why'], key?: string): Refusal {
    return { why, partition: this.id, ...(key === undefined ? {} : { key }) };
  }
}
