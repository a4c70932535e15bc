/**
 * One attempt of a transaction, as its coordinator runs it: collects locks and writes, then has them committed wholly
 * or not at all. Callbacks instead of promises, so that a simulation can run thousands of them step by step.
 *
 * Every callback is called once. After a refusal the attempt holds nothing; whether to run another, with the same age,
 * is the caller's decision.
 */
import { NO_PARTITION } from './messages.ts';
import type { TransactionIdentity, TransactionPorts, TransactionTimes } from './ports.ts';
import { writeBytes } from './records.ts';
import type {
  CoordinatorMessage,
  ElsewhereMessage,
  GrantedMessage,
  LockMode,
  LostMessage,
  QueuedMessage,
  Refusal,
  Write,
} from './messages.ts';

/** A key is asked for elsewhere at once so often; then only in its turn. */
const MAX_HOPS = 3;

/** `refused`: nothing of it has happened. `unknown`: it may have been committed. */
export type Failure = { kind: 'refused'; refusal: Refusal } | { kind: 'unknown'; home: number };
export type Done<Value> = (failure: Failure | undefined, value: Value) => void;

export type TransactionState =
  'open' | 'locking' | 'preparing' | 'committed' | 'aborted' | 'unknown';

interface Key {
  partition: number;
  wanted: LockMode;
  held: LockMode | undefined;
  value: string | null;
  version: number;
  askedAtMs: number;
  queuedBehind: string | undefined;
  /** How often another partition was named since it was last asked in its turn. */
  hops: number;
  readers: Done<string | null>[];
}

interface Participant {
  epoch: number;
  grant: number;
  contention: number;
}

export class Transaction {
  readonly identity: TransactionIdentity;
  state: TransactionState = 'open';
  readonly #ports: TransactionPorts;
  readonly #times: TransactionTimes;
  readonly #keys = new Map<string, Key>();
  readonly #participants = new Map<number, Participant>();
  /** Partitions that were asked for something, whether they have answered or not. */
  readonly #asked = new Set<number>();
  readonly #writes = new Map<string, string | null>();
  #waiting = 0;
  #wound: { by: string; partition: number; key: string } | undefined;
  #failure: Failure | undefined;
  #emits: readonly Uint8Array[] = [];
  #done: Done<void> | undefined;
  #home = -1;
  #preparedAtMs = 0;
  #resolvedAtMs = 0;

  constructor(identity: TransactionIdentity, ports: TransactionPorts, times: TransactionTimes) {
    this.identity = identity;
    this.#ports = ports;
    this.#times = times;
  }

  get failure(): Failure | undefined {
    return this.#failure;
  }

  get size(): number {
    return this.#keys.size;
  }

  /** When it had all its locks and asked for votes; 0 before. */
  get preparedAtMs(): number {
    return this.#preparedAtMs;
  }

  /** Of the value that was read; 0 for none. */
  versionOf(key: string): number {
    return this.#keys.get(key)?.version ?? 0;
  }

  hasRead(key: string): boolean {
    return this.#keys.get(key)?.held !== undefined;
  }

  /** Its participants so far. */
  get partitions(): number[] {
    return [...this.#asked];
  }

  /** Keys it waits for, and for whom. */
  waitsFor(): { key: string; partition: number; behind: string }[] {
    return [...this.#keys].flatMap(([key, { partition, queuedBehind: behind }]) =>
      behind === undefined ? [] : [{ key, partition, behind }],
    );
  }

  /** The value with this transaction's own writes; `mode` exclusive when it will be written, too. */
  read(key: string, mode: LockMode, nowMs: number, done: Done<string | null>): void {
    if (this.#failure !== undefined) {
      done(this.#failure, null);
      return;
    }
    const written = this.#writes.get(key);
    if (written !== undefined) {
      done(undefined, written);
      return;
    }
    const known = this.#keys.get(key);
    if (known?.held !== undefined) {
      done(undefined, known.value);
      return;
    }
    this.#lock(key, mode, nowMs).readers.push(done);
  }

  /** Asks for the exclusive lock at once; `commit` waits for it. */
  write(key: string, value: string | null, nowMs: number): void {
    if (this.#failure !== undefined) return;
    this.#writes.set(key, value);
    this.#lock(key, 'exclusive', nowMs);
  }

  /** Something is to be written. */
  get writes(): boolean {
    return this.#writes.size > 0;
  }

  /** The items that it writes. */
  get written(): Iterable<string> {
    return this.#writes.keys();
  }

  /** Of all keys and values, as they are sent and stored. */
  get writtenBytes(): number {
    let bytes = 0;
    for (const [key, value] of this.#writes) bytes += writeBytes(key, value);
    return bytes;
  }

  /** What it read is still to be confirmed, what it wrote is not wanted any more. */
  forgetWrites(): void {
    if (this.state === 'open') this.#writes.clear();
  }

  /** When all locks are there: prepare, votes, decision. */
  commit(emits: readonly Uint8Array[], nowMs: number, done: Done<void>): void {
    if (this.#failure !== undefined) {
      done(this.#failure);
      return;
    }
    this.#emits = emits;
    this.#done = done;
    this.state = 'locking';
    this.#prepareIfLocked(nowMs);
  }

  /** Leaves nothing behind. Without effect once it is preparing. */
  abandon(): void {
    if (this.state === 'open' || this.state === 'locking') {
      this.#refuse({ why: 'lost', partition: NO_PARTITION });
    }
  }

  receive(message: CoordinatorMessage, nowMs: number): void {
    if (message.kind === 'outcome') this.#onOutcome(message.refusal, nowMs);
    else if (this.state === 'preparing') {
      // The home has given the session up without deciding; another's loss the home hears of itself.
      const ours = message.kind === 'lost' && this.#isOurs(message);
      if (ours && message.refusal.partition === this.#home) this.#onOutcome(message.refusal, nowMs);
    } else if (this.state === 'open' || this.state === 'locking') this.#collect(message, nowMs);
  }

  /** The partition has no owner that can be reached, or has another one than before. */
  ownerLost(partition: number): void {
    if (!this.#asked.has(partition)) return;
    if (this.state === 'preparing') {
      if (partition === this.#home) this.#resolvedAtMs = 0;
      else this.#voteNoFor(partition);
    } else if (this.#participants.has(partition)) this.#refuse({ why: 'lost', partition });
  }

  /** The partition has an owner (again): what waits for it is asked for now. */
  ownerFound(partition: number, nowMs: number): void {
    if (this.state !== 'open' && this.state !== 'locking') return;
    for (const [key, entry] of this.#keys) {
      if (entry.partition === partition && entry.held !== entry.wanted)
        this.#ask(key, entry, nowMs);
    }
  }

  tick(nowMs: number): void {
    const { lockRetryMs, resolveAfterMs, unknownAfterMs } = this.#times;
    if (this.state === 'open' || this.state === 'locking') {
      if (this.#waiting === 0) return;
      for (const [key, entry] of this.#keys) {
        const waits = entry.held !== entry.wanted;
        if (!waits || nowMs - entry.askedAtMs < lockRetryMs) continue;
        entry.hops = 0;
        this.#ask(key, entry, nowMs);
      }
    } else if (this.state === 'preparing') {
      if (nowMs - this.#preparedAtMs >= unknownAfterMs) {
        this.#finish('unknown', { kind: 'unknown', home: this.#home });
      } else if (nowMs - Math.max(this.#preparedAtMs, this.#resolvedAtMs) >= resolveAfterMs) {
        this.#resolvedAtMs = nowMs;
        const { id: tx, coordinator } = this.identity;
        this.#ports.toPartition(this.#home, { kind: 'resolve', tx, coordinator });
      }
    }
  }

  #lock(key: string, mode: LockMode, nowMs: number): Key {
    let entry = this.#keys.get(key);
    if (entry === undefined) {
      entry = {
        partition: this.#ports.partitionOf(key),
        wanted: mode,
        held: undefined,
        value: null,
        version: 0,
        askedAtMs: nowMs,
        queuedBehind: undefined,
        hops: 0,
        readers: [],
      };
      this.#keys.set(key, entry);
      this.#asked.add(entry.partition);
      this.#waiting += 1;
      this.#ask(key, entry, nowMs);
    } else if (mode === 'exclusive' && entry.wanted === 'shared') {
      if (entry.held !== undefined) this.#waiting += 1;
      entry.wanted = mode;
      this.#ask(key, entry, nowMs);
    }
    return entry;
  }

  #ask(key: string, entry: Key, nowMs: number): void {
    entry.askedAtMs = nowMs;
    const { id: tx, age, coordinator, deadlineMs } = this.identity;
    this.#ports.toPartition(entry.partition, {
      kind: 'lock',
      tx,
      age,
      coordinator,
      key,
      mode: entry.wanted,
      ttlMs: Math.max(0, deadlineMs - nowMs),
    });
  }

  #collect(message: Exclude<CoordinatorMessage, { kind: 'outcome' }>, nowMs: number): void {
    if (message.kind === 'granted') this.#onGranted(message, nowMs);
    else if (message.kind === 'queued') this.#onQueued(message);
    else if (message.kind === 'elsewhere') this.#onElsewhere(message, nowMs);
    else if (message.kind === 'lost') {
      if (message.grant === 0 || this.#isOurs(message)) this.#refuse(message.refusal);
    } else {
      this.#wound = message;
      this.#dieIfWoundedAndWaiting();
    }
  }

  /** A former owner may lose a session that it opened for a request which came twice. */
  #isOurs({ epoch, grant, refusal }: LostMessage): boolean {
    const known = this.#participants.get(refusal.partition);
    return known?.epoch === epoch && known.grant === grant;
  }

  #onGranted(message: GrantedMessage, nowMs: number): void {
    const entry = this.#keys.get(message.key);
    const { partition, epoch, grant, contention } = message;
    // A former owner, which does not know that the key has moved on, may grant it.
    if (entry?.partition !== partition) return;
    const known = this.#participants.get(partition);
    if (known === undefined) this.#participants.set(partition, { epoch, grant, contention });
    // Of a former owner, whose locks are not needed.
    else if (known.epoch > epoch) return;
    else if (known.epoch !== epoch || known.grant !== grant) {
      // Another session than the one that gave the locks before: those are gone.
      this.#refuse({ why: 'lost', partition, key: message.key });
      return;
    } else known.contention = Math.max(known.contention, contention);
    if (entry.held === undefined) {
      entry.value = message.value;
      entry.version = message.version;
    }
    if (entry.held === entry.wanted) return;
    // A shared lock that was asked for before the exclusive one was wanted: the value is good, the lock is to come.
    entry.held = message.mode;
    if (message.mode === entry.wanted) {
      entry.queuedBehind = undefined;
      this.#waiting -= 1;
    }
    const readers = entry.readers.splice(0);
    for (const done of readers) done(undefined, entry.value);
    this.#prepareIfLocked(nowMs);
  }

  #onElsewhere({ partition, key, to }: ElsewhereMessage, nowMs: number): void {
    const entry = this.#keys.get(key);
    if (entry?.partition !== partition) return;
    if (entry.held !== undefined) {
      // What it held there it has lost, and not heard of it yet.
      this.#refuse({ why: 'lost', partition, key });
      return;
    }
    entry.partition = to;
    this.#asked.add(to);
    entry.hops += 1;
    if (entry.hops <= MAX_HOPS) this.#ask(key, entry, nowMs);
  }

  #onQueued({ key, behind }: QueuedMessage): void {
    const entry = this.#keys.get(key);
    if (entry === undefined || entry.held === entry.wanted) return;
    entry.queuedBehind = behind;
    this.#dieIfWoundedAndWaiting();
  }

  /** The half of wound-wait that is the younger one's: it waits for nobody while an older one waits for it (I6). */
  #dieIfWoundedAndWaiting(): void {
    if (this.#wound === undefined || this.waitsFor().length === 0) return;
    const { by: other, partition, key } = this.#wound;
    this.#refuse({ why: 'conflict', partition, key, other });
  }

  #prepareIfLocked(nowMs: number): void {
    if (this.state !== 'locking' || this.#waiting > 0) return;
    if (this.#participants.size === 0) {
      this.#finish('committed', undefined);
      return;
    }
    // From here on every lock is held (I4).
    this.state = 'preparing';
    this.#preparedAtMs = nowMs;
    const writes = this.#writesByPartition();
    this.#home = this.#chooseHome(writes);
    const participants = [...this.#participants.keys()].filter((each) => each !== this.#home);
    const writers = participants.filter((each) => writes.has(each));
    const { id: tx, coordinator } = this.identity;
    for (const [partition, { epoch, grant }] of this.#participants) {
      const atHome = partition === this.#home;
      this.#ports.toPartition(partition, {
        kind: 'prepare',
        tx,
        coordinator,
        epoch,
        grant,
        home: this.#home,
        participants: atHome ? participants : [],
        writers: atHome ? writers : [],
        writes: writes.get(partition) ?? [],
        emits: atHome ? this.#emits : [],
      });
    }
  }

  #writesByPartition(): Map<number, Write[]> {
    const byPartition = new Map<number, Write[]>();
    for (const [key, value] of this.#writes) {
      const { partition } = this.#keys.get(key) as Key;
      const writes = byPartition.get(partition);
      if (writes === undefined) byPartition.set(partition, [[key, value]]);
      else writes.push([key, value]);
    }
    return byPartition;
  }

  /**
   * Where most others wait: transactions with one home are decided by their order in its log, without waiting for each
   * other's outcome.
   */
  #chooseHome(writes: ReadonlyMap<number, unknown>): number {
    const candidates = [...this.#participants].filter(
      ([partition]) => writes.size === 0 || writes.has(partition),
    );
    const [best] = candidates.sort(
      ([left, { contention: one }], [right, { contention: other }]) => other - one || left - right,
    );
    return (best as [number, Participant])[0];
  }

  #voteNoFor(partition: number): void {
    const refusal: Refusal = { why: 'lost', partition };
    const { id: tx } = this.identity;
    this.#ports.toPartition(this.#home, { kind: 'vote', tx, from: partition, yes: false, refusal });
  }

  #onOutcome(refusal: Refusal | undefined, nowMs: number): void {
    const { id: tx } = this.identity;
    if (refusal === undefined && this.#writes.size + this.#emits.length > 0) {
      this.#ports.toPartition(this.#home, { kind: 'ended', tx, from: undefined });
    }
    if (this.state !== 'preparing') return;
    const late = nowMs - this.#preparedAtMs >= this.#times.unknownAfterMs;
    if (refusal === undefined) this.#finish('committed', undefined);
    // A home may have forgotten a commit by then.
    else if (late) this.#finish('unknown', { kind: 'unknown', home: this.#home });
    else this.#finish('aborted', { kind: 'refused', refusal });
  }

  #refuse(refusal: Refusal): void {
    const { id: tx } = this.identity;
    for (const partition of this.#asked)
      this.#ports.toPartition(partition, { kind: 'release', tx });
    this.#finish('aborted', { kind: 'refused', refusal });
  }

  #finish(state: TransactionState, failure: Failure | undefined): void {
    this.state = state;
    this.#failure = failure;
    const done = this.#done;
    this.#done = undefined;
    for (const { readers } of this.#keys.values()) {
      for (const reader of readers.splice(0)) reader(failure, null);
    }
    done?.(failure);
  }
}
