/** The transactions that have something locked or prepared at a partition, and their locks: SPEC.md, "Locks". */
import type { Items } from './items.ts';
import { LockTable } from './locks.ts';
import type { LockMessage, LockMode, Refusal, Write } from './messages.ts';
import type { PartitionPorts } from './ports.ts';
import { Session } from './session.ts';

/** How often a holder that others wait for is told again what it has. */
const REMIND_MS = 200;
/** Of all sessions together: a coordinator that only locks must not fill the memory. */
const MAX_LOCKED_KEYS = 1_000_000;

export class Sessions {
  readonly partition: number;
  epoch = 0;
  ports: PartitionPorts;
  /** From now on no new one. */
  closed = false;
  private readonly map = new Map<string, Session>();
  private readonly items: Items;
  private readonly locks: LockTable<Session>;
  private nextGrant = 1;

  constructor(partition: number, items: Items, ports: PartitionPorts) {
    this.partition = partition;
    this.items = items;
    this.ports = ports;
    this.locks = new LockTable((session, key, mode) => {
      session.waits -= 1;
      this.grant(session, key, mode);
    });
  }

  get size(): number {
    return this.map.size;
  }

  /** Keys that are locked, waited for, or written tentatively. */
  get lockedKeys(): number {
    return this.locks.size;
  }

  get(tx: string): Session | undefined {
    return this.map.get(tx);
  }

  has(session: Session): boolean {
    return this.map.get(session.tx) === session;
  }

  values(): Iterable<Session> {
    return this.map.values();
  }

  holderOf(key: string): string | undefined {
    return this.locks.holderOf(key)?.tx;
  }

  /** Grants the lock with the value, or says that it must wait, and to those in its way that it does. `maximum`: sessions. */
  lock(message: LockMessage, nowMs: number, maximum: number): void {
    const { tx, key, mode } = message;
    const session = this.map.get(tx) ?? this.open(message, nowMs, maximum);
    if (session?.state !== 'active') return;
    if (this.locks.size >= MAX_LOCKED_KEYS && !session.keys.has(key)) {
      this.lose(session, { why: 'overloaded', partition: this.partition, key });
      return;
    }
    const answer = this.locks.request(session, key, mode);
    if (answer.granted) {
      this.grant(session, key, mode);
      return;
    }
    const { behind, wounds, asksAgain } = answer;
    if (!asksAgain) {
      session.waits += 1;
      session.keys.set(key, session.keys.get(key) ?? 'none');
    }
    if (asksAgain) this.remind(behind, key, nowMs);
    const { partition } = this;
    const queued = { kind: 'queued', tx, partition, key, behind: behind.tx } as const;
    this.ports.toCoordinator(session.coordinator, queued);
    for (const { tx: wounded, coordinator } of wounds) {
      const wound = { kind: 'wound', tx: wounded, partition, key, by: tx } as const;
      this.ports.toCoordinator(coordinator, wound);
    }
  }

  /** Makes the writes tentative and frees the locks: the transaction asks for no other (I4). */
  prepare(session: Session, writes: readonly Write[]): void {
    session.writes = writes.map(([key, value]) => [key, value, this.items.nextVersion()]);
    this.pushTentative(session);
    this.freeLocks(session);
  }

  /** From the log or a snapshot. */
  restore(session: Session): void {
    this.map.set(session.tx, session);
    this.pushTentative(session);
    for (const [, , version] of session.writes) this.items.raiseVersion(version);
  }

  /** Takes its tentative values out of the chains: they have become committed, or nothing. Then it is forgotten. */
  settle(session: Session): void {
    for (const [key] of session.writes) this.locks.settle(session, key);
    this.forget(session);
  }

  /** Drops one that has not prepared. */
  drop(session: Session): void {
    this.forget(session);
    this.freeLocks(session);
  }

  /** Likewise, and tells its coordinator. */
  lose(session: Session, refusal: Refusal): void {
    this.drop(session);
    const { tx, grant, coordinator } = session;
    const { epoch } = this;
    this.ports.toCoordinator(coordinator, { kind: 'lost', tx, epoch, grant, refusal });
  }

  forget(session: Session): void {
    this.map.delete(session.tx);
    session.detach();
  }

  clear(): void {
    for (const session of this.map.values()) this.settle(session);
  }

  private open(message: LockMessage, nowMs: number, maximum: number): Session | undefined {
    const { tx, age, coordinator, ttlMs } = message;
    if (this.closed || this.map.size >= maximum) {
      const { partition } = this;
      const refusal: Refusal = { why: this.closed ? 'lost' : 'overloaded', partition };
      const { epoch } = this;
      this.ports.toCoordinator(coordinator, { kind: 'lost', tx, epoch, grant: 0, refusal });
      return undefined;
    }
    const session = new Session(tx, age, coordinator, this.nextGrant, nowMs + ttlMs);
    this.nextGrant += 1;
    this.map.set(tx, session);
    return session;
  }

  private grant(session: Session, key: string, mode: LockMode): void {
    session.keys.set(key, mode);
    const tail = this.locks.tail(key);
    if (tail !== undefined) session.dependOn(tail.owner);
    const item = this.items.get(key);
    this.ports.toCoordinator(session.coordinator, {
      kind: 'granted',
      tx: session.tx,
      partition: this.partition,
      key,
      mode,
      value: tail === undefined ? (item?.value ?? null) : tail.value,
      version: tail?.version ?? item?.version ?? 0,
      epoch: this.epoch,
      grant: session.grant,
      contention: this.locks.contention(key),
    });
  }

  /** One whose release was lost would be waited for until its deadline: its coordinator, reminded of it, releases it. */
  private remind(session: Session, key: string, nowMs: number): void {
    const held = session.keys.get(key);
    if (session.state !== 'active' || held === undefined || held === 'none') return;
    if (nowMs - session.remindedMs < REMIND_MS) return;
    session.remindedMs = nowMs;
    this.grant(session, key, held);
  }

  private pushTentative(session: Session): void {
    for (const [key, value, version] of session.writes) {
      this.locks.push(key, { owner: session, value, version });
    }
  }

  private freeLocks(session: Session): void {
    const keys = [...session.keys.keys()];
    session.keys.clear();
    for (const key of keys) this.locks.free(session, key);
  }
}
