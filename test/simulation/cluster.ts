/**
 * Workers with the real machines of src/core/state, over a network and a store that are simulated. Who owns what is
 * decided by a fickle controller: it moves partitions for no reason and may name two owners at once.
 */
import type { Age } from '../../src/core/state/age.ts';
import { PartitionOwner, type OwnerLimits } from '../../src/core/state/owner.ts';
import { Transaction } from '../../src/core/state/transaction.ts';
import { decodeAppend } from '../../src/core/state/append.ts';
import { decodeClaim, type Position } from '../../src/core/state/claim.ts';
import { emptyJournal, Journal, sealJournal } from '../../src/core/state/journal.ts';
import { hash32 } from '../../src/core/hash.ts';
import { Places, type Layout, type Rings } from '../../src/core/state/layout.ts';
import type { LogPort } from '../../src/core/state/log-port.ts';
import { decodeRecords } from '../../src/core/state/records.ts';
import { decodeEnvelopes, encodeEnvelopes, type Envelope } from '../../src/core/state/wire.ts';
import { Random } from '../support/random.ts';
import { Clock, type Actor } from './clock.ts';
import { CALM, type Plan } from './plan.ts';
import { lastOwn, Store } from './store.ts';

const LIMITS: OwnerLimits = {
  maxSessions: 1_000,
  maxPartitionBytes: 1_000_000,
  voteTimeoutMs: 300,
  queryAfterMs: 80,
  keepOutcomeMs: 6_000,
  snapshotAfterBytes: 1_500,
  snapshotChunkBytes: 300,
  moveChunkBytes: 60,
};
const JOURNAL = { maxAppendBytes: 2_000, replicas: 1 };
/** How often at least a worker that is there is taken for gone. */
const SEALED_ALIVE = 0.2;
const MAX_SEAL_ATTEMPTS = 20;
const TIMES = { lockRetryMs: 60, resolveAfterMs: 80, unknownAfterMs: 2_000 };
const TICK_MS = 20;
const RELEASE_MS = 100;
const RETAKE_MS = 50;
const VERY_LATE_MS = 10_000;
const UNHEARD_MS = 2_000;
const FATAL_MS = 30;
/** A worker reads the table again from time to time. */
const REREAD = 0.02;

const RINGS: Rings = (partitions) => (item) => rendezvous(item, partitions);

export class Node implements Actor {
  readonly id: string;
  alive = true;
  pausedUntilMs = 0;
  readonly owners = new Map<number, PartitionOwner>();
  readonly taking = new Set<number>();
  journal: Journal | undefined;
  journals = 0;
  readonly transactions = new Map<string, Transaction>();
  readonly places: Places;
  /** Who owns which partition, by the highest epoch that it has heard of. */
  readonly hints = new Map<number, { id: string; epoch: number }>();
  next = 1;
  /** Its clock is wrong by this much, and runs this much faster. */
  readonly skewMs: number;
  readonly rate: number;

  constructor(id: string, layout: Layout, skewMs: number, rate: number) {
    this.id = id;
    this.places = new Places(layout, RINGS);
    this.skewMs = skewMs;
    this.rate = rate;
  }
}

export class Cluster {
  readonly clock = new Clock();
  readonly random: Random;
  readonly store: Store;
  /** What the table says. */
  layout: Layout;
  /** As many as the table has: it never gets shorter. */
  partitions: number;
  faults: Pick<Plan, keyof typeof CALM> = CALM;
  nodes: Node[] = [];
  /** Somebody takes what has no owner. */
  retakes = true;
  /** What no run may ever do; found out while it goes on. */
  readonly violations: string[] = [];
  #nextNode = 1;
  #nonce = 1n;

  readonly #onTrace: ((line: string) => void) | undefined;

  /** `onTrace` is told what happens, for one who looks for a reason. */
  constructor(seed: number, partitions: number, onTrace?: (line: string) => void) {
    this.random = new Random(seed);
    this.store = new Store(this.clock, this.random, seed);
    this.partitions = partitions;
    this.layout = { generation: 0, from: partitions, to: partitions };
    this.#onTrace = onTrace;
    if (onTrace === undefined) return;
    this.store.onAppend = (name, sequence, bytes) => {
      const text = name.startsWith('claims') ? claimShown(bytes) : appendShown(bytes);
      this.trace(() => `${name} ${sequence}: ${text}`);
    };
  }

  addNode(): Node {
    const skewMs = this.random.between(0, 20_000);
    const rate = this.random.between(0.98, 1.02);
    const node = new Node(`w${this.#nextNode}`, this.layout, skewMs, rate);
    this.#nextNode += 1;
    for (const other of this.nodes) {
      for (const [partition, { epoch }] of other.owners) hear(node, partition, other.id, epoch);
    }
    this.nodes.push(node);
    this.#tick(node);
    return node;
  }

  /** All that it has in memory is gone. */
  crash(node: Node): void {
    this.trace(() => `${node.id} crashes`);
    node.alive = false;
    this.nodes = this.nodes.filter((other) => other !== node);
    for (const other of this.nodes) {
      // Noticed by each at another moment, or not for a long time.
      this.clock.after(this.random.between(1, 200), other, () => {
        for (const owner of other.owners.values()) owner.coordinatorGone(node.id);
      });
    }
  }

  /** Another one takes its place, and others what it had. */
  replace(node: Node): void {
    this.crash(node);
    this.addNode();
    this.ensureOwners();
  }

  /** Each partition gets an owner by and by. */
  ensureOwners(): void {
    for (let partition = 0; partition < this.partitions; partition += 1) {
      this.clock.after(this.random.between(1, 300), undefined, () => this.ensureOwner(partition));
    }
  }

  pause(node: Node, durationMs: number): void {
    this.trace(() => `${node.id} is paused for ${durationMs}`);
    node.pausedUntilMs = this.clock.nowMs + durationMs;
  }

  trace(text: () => string): void {
    this.#onTrace?.(`${this.clock.nowMs.toFixed(2)} ${text()}`);
  }

  now(node: Node): number {
    return node.skewMs + this.clock.nowMs * node.rate;
  }

  /** The number of partitions is to change; not while it does so already. */
  change(to: number): void {
    const { generation, from, to: before } = this.layout;
    if (from !== before || from === to) return;
    this.layout = { generation: generation + 1, from, to };
    this.trace(() => `layout ${JSON.stringify(this.layout)}`);
    const first = this.partitions;
    this.partitions = Math.max(this.partitions, to);
    for (let partition = first; partition < this.partitions; partition += 1) {
      this.clock.after(this.random.between(1, 300), undefined, () => this.ensureOwner(partition));
    }
    this.#tellLayout();
  }

  /** Once somebody has been owner of each partition who has done its part: that is never undone. */
  endChange(): void {
    const { generation, from, to } = this.layout;
    if (from === to) return;
    for (let partition = 0; partition < this.partitions; partition += 1) {
      const settled = this.nodes.some(
        ({ owners }) =>
          (owners.get(partition)?.machine.moves.settledGeneration ?? -1) >= generation,
      );
      if (!settled) return;
    }
    this.layout = { generation, from: to, to };
    this.trace(() => `layout ${JSON.stringify(this.layout)}`);
    this.#tellLayout();
  }

  #tellLayout(): void {
    for (const node of this.nodes) {
      const late = this.random.chance(this.faults.unheard);
      const lateMs = late ? this.random.between(0, UNHEARD_MS) : 0;
      this.clock.after(this.#delay() + lateMs, node, () => this.#readLayout(node));
    }
  }

  #readLayout(node: Node): void {
    if (!node.places.adopt(this.layout)) return;
    for (const owner of node.owners.values()) owner.adopt(this.layout);
  }

  take(node: Node, partition: number): void {
    if (!node.alive || node.owners.has(partition) || node.taking.has(partition)) return;
    node.taking.add(partition);
    this.#nonce += 1n;
    let released = false;
    const owner: PartitionOwner = new PartitionOwner(
      partition,
      this.#nonce,
      this.#journalOf(node),
      {
        claims: this.#claims(node, partition),
        journal: (id) => this.store.log(`journal-${id}`, node),
        seal: async (id) => this.#seal(node, id, released),
        forsaken: (ids) => void this.#empty(node, ids).catch(() => {}),
        snapshots: this.store.snapshot(partition, node),
        rings: RINGS,
        layout: () => node.places.layout,
        now: () => this.now(node),
        toPartition: (to, message) => this.#toPartition(node, to, message),
        toCoordinator: (to, message) => this.#send(node, to, { partition: undefined, message }),
        publish: (tx) => this.clock.after(5, node, () => owner.published(tx)),
        askToRelease: async (journal) => {
          released = await this.#askToRelease(node, partition, journal);
        },
        ended: (reason) => {
          this.trace(() => `${node.id} gives up ${partition}: ${reason}`);
          if (node.owners.get(partition) === owner) node.owners.delete(partition);
          this.clock.after(RETAKE_MS, undefined, () => this.ensureOwner(partition));
        },
      },
      LIMITS,
    );
    owner.take().then(
      () => {
        node.taking.delete(partition);
        node.owners.set(partition, owner);
        owner.adopt(node.places.layout);
        this.trace(
          () => `${node.id} owns ${partition} in epoch ${owner.epoch} from ${owner.sequence}`,
        );
        this.#announce(node, partition);
      },
      (error: unknown) => {
        this.trace(() => `${node.id} does not get ${partition}: ${(error as Error).message}`);
        node.taking.delete(partition);
        owner.end('not taken');
        this.clock.after(RETAKE_MS, undefined, () => this.ensureOwner(partition));
      },
    );
  }

  /** The epoch of whoever owns it, or is about to. */
  claimedEpoch(partition: number): number {
    const claimed = lastOwn(this.store.logs.get(`claims-${partition}`) ?? []);
    return (claimed && decodeClaim(claimed.bytes)?.epoch) ?? 0;
  }

  /** Somebody takes it, if nobody who is awake has it; former owners who don't know that they are don't count. */
  ensureOwner(partition: number): void {
    if (!this.retakes) return;
    const awake = this.nodes.filter(({ pausedUntilMs }) => pausedUntilMs <= this.clock.nowMs);
    const epoch = this.claimedEpoch(partition);
    const owned = awake.some(
      ({ owners, taking }) => owners.get(partition)?.epoch === epoch || taking.has(partition),
    );
    if (owned) return;
    const fresh = awake.filter(({ owners }) => !owners.has(partition));
    if (fresh.length > 0) this.take(this.random.pick(fresh), partition);
    // Whoever asks them something makes them find out.
    else if (awake.length > 0)
      this.random.pick(awake).journal?.end('another worker has taken over');
    else this.clock.after(RETAKE_MS, undefined, () => this.ensureOwner(partition));
  }

  begin(node: Node, deadlineMs: number, age?: Age): Transaction {
    const id = `${node.id}-${node.next}`;
    node.next += 1;
    const transaction = new Transaction(
      {
        id,
        age: age ?? { startMs: this.now(node), first: id },
        coordinator: node.id,
        deadlineMs: this.now(node) + deadlineMs,
      },
      {
        partitionOf: (key) => node.places.partitionOf(key),
        toPartition: (partition, message) => this.#toPartition(node, partition, message),
      },
      TIMES,
    );
    node.transactions.set(id, transaction);
    return transaction;
  }

  #claims(node: Node, partition: number): LogPort {
    return this.store.log(`claims-${partition}`, node);
  }

  #journalOf(node: Node): Journal {
    if (node.journal !== undefined && node.journal.ended === undefined) return node.journal;
    node.journals += 1;
    const id = `${node.id}.${node.journals}`;
    this.#nonce += 1n;
    node.journal = new Journal(
      id,
      this.#nonce,
      {
        log: this.store.log(`journal-${id}`, node),
        claims: (partition) => this.#claims(node, partition),
        now: () => this.now(node),
        soon: (task) => this.clock.after(0.01, node, task),
      },
      JOURNAL,
    );
    return node.journal;
  }

  async #seal(node: Node, id: string, released: boolean): Promise<Position> {
    const writer = this.nodes.find((other) => other.id === writerOf(id));
    const awake = writer !== undefined && writer.pausedUntilMs <= this.clock.nowMs;
    const mistaken = this.random.chance(Math.max(SEALED_ALIVE, this.faults.unasked));
    if (awake && writer.journal?.id === id && !released && !mistaken)
      throw new Error('its worker is there');
    this.#nonce += 1n;
    return sealJournal(this.store.log(`journal-${id}`, node), this.#nonce, MAX_SEAL_ATTEMPTS);
  }

  async #empty(node: Node, ids: readonly string[]): Promise<void> {
    const claims = Array.from({ length: this.partitions }, (_, each) => this.#claims(node, each));
    for (const id of ids) {
      this.#nonce += 1n;
      await emptyJournal(id, this.#nonce, this.store.log(`journal-${id}`, node), claims);
    }
  }

  #tick(node: Node): void {
    this.clock.after(this.random.between(0.5, 1.5) * TICK_MS, node, () => {
      for (const owner of node.owners.values()) owner.tick();
      if (this.random.chance(REREAD)) this.#readLayout(node);
      node.journal?.flush(true);
      for (const transaction of node.transactions.values()) transaction.tick(this.now(node));
      this.#tick(node);
    });
  }

  /** True when its worker has answered: it writes nothing more for the partition. */
  async #askToRelease(node: Node, partition: number, journal: string): Promise<boolean> {
    const present = this.nodes.find(({ id }) => id === writerOf(journal));
    // The present owner is not always known.
    if (present === undefined || this.random.chance(this.faults.unasked)) return false;
    let released = false;
    this.clock.after(this.#delay(), present, () => {
      const letGo = async (): Promise<void> => {
        await present.owners.get(partition)?.release();
        released = true;
      };
      void letGo();
      this.clock.after(RELEASE_MS, present, () => {
        present.owners.get(partition)?.giveUp();
      });
    });
    await this.clock.sleep(RELEASE_MS + this.#delay() * 3, node);
    return released;
  }

  #announce(owner: Node, partition: number): void {
    const { epoch } = owner.owners.get(partition) as PartitionOwner;
    for (const node of this.nodes) {
      const late = node !== owner && this.random.chance(this.faults.unheard);
      const lateMs = late ? this.random.between(0, UNHEARD_MS) : 0;
      this.clock.after(this.#delay() + lateMs, node, () => {
        if (!hear(node, partition, owner.id, epoch)) return;
        for (const transaction of node.transactions.values()) {
          transaction.ownerLost(partition);
          transaction.ownerFound(partition, this.now(node));
        }
      });
    }
  }

  #toPartition(from: Node, partition: number, message: Envelope['message']): void {
    const hint = from.hints.get(partition)?.id;
    const { misled } = this.faults;
    const to = this.random.chance(misled) ? this.random.pick(this.nodes).id : hint;
    if (to !== undefined) this.#send(from, to, { partition, message } as Envelope);
  }

  #send(_from: Node, to: string, envelope: Envelope): void {
    const bytes = encodeEnvelopes([envelope]);
    const { dropped, repeated, veryLate } = this.faults;
    if (this.random.chance(dropped)) return;
    const copies = this.random.chance(repeated) ? 2 : 1;
    for (let copy = 0; copy < copies; copy += 1) {
      const lateMs = this.random.chance(veryLate) ? this.random.between(0, VERY_LATE_MS) : 0;
      this.clock.after(this.#delay() + lateMs, undefined, () => {
        const node = this.nodes.find(({ id }) => id === to);
        // A pause holds the message up, too.
        if (node !== undefined) this.clock.after(0, node, () => this.#deliver(node, bytes));
      });
    }
  }

  #deliver(node: Node, bytes: Uint8Array): void {
    const { envelopes, refused } = decodeEnvelopes(bytes);
    this.trace(() => `${node.id} <- ${JSON.stringify(envelopes)}`);
    if (refused > 0) this.violations.push('a message could not be read');
    if (this.random.chance(this.faults.fatal)) {
      this.clock.after(this.random.between(0, FATAL_MS), node, () => this.replace(node));
    }
    for (const { partition, message } of envelopes) {
      if (partition !== undefined) {
        const taken = node.owners.get(partition)?.receive(message) ?? false;
        if (!taken && (message.kind === 'lock' || message.kind === 'prepare')) {
          this.#bounce(node, message.coordinator, message.tx, partition);
        }
      } else {
        if (message.kind === 'elsewhere') {
          node.places.learn(message.generation, message.partition, message.to);
        }
        const transaction = node.transactions.get(message.tx);
        if (transaction !== undefined) transaction.receive(message, this.now(node));
        else if (message.kind === 'granted' || message.kind === 'wound') {
          this.#toPartition(node, message.partition, { kind: 'release', tx: message.tx });
        }
      }
    }
  }

  #bounce(_from: Node, coordinator: string, tx: string, partition: number): void {
    const node = this.nodes.find(({ id }) => id === coordinator);
    if (node === undefined) return;
    this.clock.after(this.#delay(), node, () => node.transactions.get(tx)?.ownerLost(partition));
  }

  #delay(): number {
    return this.random.between(0.1, this.faults.delayMs);
  }
}

/** The number with the highest draw for the item: another one takes items, and none moves between the others. */
function rendezvous(item: string, partitions: number): number {
  let best = 0;
  let highest = -1;
  for (let partition = 0; partition < partitions; partition += 1) {
    const draw = hash32(`${item} ${partition}`) >>> 0;
    if (draw <= highest) continue;
    highest = draw;
    best = partition;
  }
  return best;
}

function writerOf(journal: string): string {
  return journal.slice(0, journal.indexOf('.'));
}

function appendShown(bytes: Uint8Array): string {
  const { index, kind, sections = [] } = decodeAppend(bytes) ?? {};
  const written = sections.map(({ partition, epoch, records }) => [
    partition,
    epoch,
    decodeRecords(records),
  ]);
  return `${index} ${kind} ${JSON.stringify(written)}`;
}

function claimShown(bytes: Uint8Array): string {
  const { epoch, segments = [] } = decodeClaim(bytes) ?? {};
  const shown = segments.map(
    ({ journal, from, to }) => `${journal} ${from.index}-${to?.index ?? ''}`,
  );
  return `epoch ${epoch} in ${shown.join(', ')}`;
}

/** False where it knows better. */
function hear(node: Node, partition: number, id: string, epoch: number): boolean {
  if (epoch < (node.hints.get(partition)?.epoch ?? 0)) return false;
  node.hints.set(partition, { id, epoch });
  return true;
}
