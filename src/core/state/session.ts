/** What a partition knows of a transaction; SPEC.md, "A session's life at a partition". */
import type { Age } from './age.ts';
import type { Holder } from './locks.ts';
import type { LockMode, LogRecord, VersionedWrite } from './messages.ts';

/**
 * - active: it has locks, or waits for some.
 * - prepared: a participant; its locks are freed, its writes are tentative.
 * - collecting: the same at the home, until all votes are there.
 * - deciding: the home's `decide` record is on its way into the log; it can't abort any more.
 */
export type SessionState = 'active' | 'prepared' | 'collecting' | 'deciding';

export class Session implements Holder {
  readonly tx: string;
  readonly age: Age;
  readonly coordinator: string;
  readonly grant: number;
  deadlineMs: number;
  state: SessionState = 'active';
  /** What is granted; 'none' for a key that is only waited for. */
  readonly keys = new Map<string, LockMode | 'none'>();
  waits = 0;
  /** Sessions here whose tentative values it read or overwrote and which have no outcome yet (and the way back). */
  readonly dependsOn = new Set<Session>();
  readonly dependants = new Set<Session>();
  /** After a recovery: what it depended on and of which the log has nothing but, perhaps, a decision further on. */
  readonly undecided = new Set<string>();
  home = -1;
  writes: readonly VersionedWrite[] = [];
  emits: readonly Uint8Array[] = [];
  /** Participants that are written to, the home not counted. */
  writers: readonly number[] = [];
  participants: readonly number[] = [];
  /** At the home: whose vote is missing; while it is active, whose vote came too early. */
  readonly missing = new Set<number>();
  readonly early = new Set<number>();
  /** Its `prepare` record is acknowledged. */
  logged = false;
  /** Its reads were made by the owner: it has appended since, or asked (SPEC.md, "Reads are confirmed"). */
  confirmed = false;
  voted = false;
  /** When it prepared, later when it last voted. */
  sinceMs = 0;
  /** When its coordinator was last told again what it has, because others wait for it. */
  remindedMs = Number.NEGATIVE_INFINITY;

  constructor(tx: string, age: Age, coordinator: string, grant: number, deadlineMs: number) {
    this.tx = tx;
    this.age = age;
    this.coordinator = coordinator;
    this.grant = grant;
    this.deadlineMs = deadlineMs;
  }

  /** Its place among those that have prepared here. */
  get order(): number {
    return this.writes[0]?.[2] ?? 0;
  }

  get readOnly(): boolean {
    return this.writes.length + this.writers.length + this.emits.length === 0;
  }

  dependOn(other: Session): void {
    if (other === this) return;
    this.dependsOn.add(other);
    other.dependants.add(this);
  }

  /** Nobody depends on it, and it on nobody, any more. */
  detach(): void {
    for (const other of this.dependsOn) other.dependants.delete(this);
    for (const other of this.dependants) other.dependsOn.delete(this);
    this.dependsOn.clear();
    this.dependants.clear();
  }
}

/** As a former owner has left it. */
export function restoredSession(record: LogRecord & { kind: 'prepare' }): Session {
  const session = new Session(record.tx, { startMs: 0, first: '' }, record.coordinator, 0, 0);
  session.state = 'prepared';
  session.home = record.home;
  session.writes = record.writes;
  session.logged = true;
  return session;
}

export function prepareRecord({ tx, home, coordinator, dependsOn, writes }: Session): LogRecord {
  return {
    kind: 'prepare',
    tx,
    home,
    coordinator,
    // What is being decided has its record before this one in the same log.
    dependsOn: [...dependsOn].filter(({ state }) => state !== 'deciding').map((other) => other.tx),
    writes,
  };
}
