/**
 * The partitions that this worker owns, and which it should own: SPEC.md, "Ownership". Every worker compares the table with
 * who is there; the first in the order of ids changes it, the others only if it doesn't.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Subscription } from 'nats';
import type { Logger } from 'pino';
import { z } from 'zod';
import type { Assignment, AssignmentStore, AssignmentTable } from '../bus/assignment-store.ts';
import type { Bus } from '../bus/connection.ts';
import { readControl, writeControl } from '../bus/messages.ts';
import type { LogStreams } from '../bus/log-streams.ts';
import type { Publisher } from '../bus/publisher.ts';
import { messageOf, type MillraceError } from '../core/errors.ts';
import { assign, type WorkerCapacity } from '../core/assignment.ts';
import type { Settings } from '../core/settings.ts';
import type { Layout, Places } from '../core/state/layout.ts';
import type { CoordinatorMessage, PartitionMessage } from '../core/state/messages.ts';
import { PartitionOwner, RELEASED, type OwnerPorts } from '../core/state/owner.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';
import type { Cluster } from './cluster.ts';
import { Journals, workerOf } from './journals.ts';
import { publishEmits } from './outbox.ts';
import { ringOf } from './rings.ts';

export interface HostingOptions {
  bus: Bus;
  settings: Settings;
  log: Logger;
  workerId: string;
  store: AssignmentStore;
  streams: LogStreams;
  publisher: Publisher;
  cluster: Cluster;
  places: Places;
  readonly toPartition: (partition: number, message: PartitionMessage) => void;
  readonly toCoordinator: (workerId: string, message: CoordinatorMessage) => void;
  /** This worker has become the owner, or is it no longer. */
  onOwned(partition: number): void;
}

/** How long the next in line waits for the one before it to change the table. */
const TURN_MS = 400;
/** Between a takeover that failed and the next one. */
const RETRY_MS = 250;
/** Likewise from one whose log a newer version has written. */
const NEWER_RETRY_MS = 10_000;
const TICK_MS = 25;
/** One in so many beats the table is read without a reason. */
const QUIET_BEATS = 10;
/** How often each partition looks for answers that need not be kept any longer. */
const EXPIRE_MS = 1_000;
/** Others have had time to take a partition over that nobody has taken for so long. */
const STUCK_MS = 5_000;
/** Partitions that are taken from workers that still serve them, at the same time: each is away for as long as its own handover takes, not for that of all. */
const HANDOVERS_AT_ONCE = 2;
/** Beside `handoverMs`: the way there and back. */
const RELEASE_MARGIN_MS = 500;

/** What one message of a move between partitions has of items, about. */
const MOVE_CHUNK_BYTES = 128 * 1024;

const releaseSchema = z.object({ partition: z.number().int().nonnegative() });
const NOTHING = new Uint8Array();

export class Hosting {
  readonly owners = new Map<number, PartitionOwner>();
  /** Unfinished transactions of former owners that this worker has found. */
  recovered = 0;
  readonly #options: HostingOptions;
  readonly #subjects: Subjects;
  readonly #subscriptions: Subscription[];
  readonly #timers: NodeJS.Timeout[];
  readonly #taking = new Map<number, Promise<void>>();
  /** Of these, partitions that another worker has served until now. */
  #handovers = 0;
  /** Those whose last takeover failed: they hold up no others. */
  readonly #failed = new Set<number>();
  /** Those that are taken again later, and not before: one timer each, however many there are that fail. */
  readonly #later = new Map<number, NodeJS.Timeout>();
  readonly #journals: Journals;
  #table: readonly (string | null)[];
  /** What the others have heard of `settled`. */
  #saidSettled = 0;
  readonly #startedAtMs = performance.now();
  #wrongSinceMs: number | undefined;
  /** It was said that the table cannot be used. */
  #unusable = false;
  #beats = 0;
  #ticking: NodeJS.Timeout | undefined;
  #reconciling: Promise<void> | undefined;
  #again = false;
  #closed = false;

  constructor(options: HostingOptions, assignment: Assignment) {
    const { bus, settings, workerId } = options;
    this.#options = options;
    this.#table = assignment.owners;
    this.#subjects = subjectsOf(settings.namespace);
    this.#journals = new Journals(options);
    this.#subscriptions = [
      bus.subscribe(this.#subjects.stateAssignment, () => this.reconcile()),
      bus.subscribe(this.#subjects.stateRelease(workerId), ({ data, reply }) => {
        void this.#release(data).then(() => bus.answer(reply, NOTHING));
      }),
    ];
    this.#timers = [
      setInterval(() => this.#reconcileIfDue(), settings.ownerBeatMs),
      setInterval(() => {
        for (const owner of this.owners.values()) owner.expire(Date.now());
        if (!this.#quiet) this.#keepTicking();
      }, EXPIRE_MS),
    ];
  }

  /** All that the table has, those without keys among them. */
  get partitions(): number {
    return this.#table.length;
  }

  /** The last change of their number that is done at all partitions of this worker. */
  get settled(): number {
    let settled = this.#options.places.layout.generation;
    for (const { machine } of this.owners.values()) {
      settled = Math.min(settled, machine.moves.settledGeneration);
    }
    return Math.max(0, settled);
  }

  /** False when this worker does not own it. */
  receive(partition: number, message: PartitionMessage): boolean {
    this.#keepTicking();
    return this.owners.get(partition)?.receive(message) ?? false;
  }

  owned(): [partition: number, epoch: number][] {
    return [...this.owners].map(([id, { epoch }]) => [id, epoch]);
  }

  coordinatorGone(workerId: string): void {
    for (const owner of this.owners.values()) owner.coordinatorGone(workerId);
  }

  /** A worker that says so under a higher epoch has it from the log: this one is the former owner, and need not wait to be refused. */
  claimed(partition: number): void {
    const owner = this.owners.get(partition);
    if (owner !== undefined && owner.epoch < this.#options.cluster.claimedEpoch(partition)) {
      owner.end('another worker owns it');
    }
  }

  /** As long as something is under way: a worker that does nothing costs nothing. */
  #keepTicking(): void {
    if (this.#closed) return;
    this.#ticking ??= setInterval(() => {
      this.#tick();
      if (!this.#quiet) return;
      clearInterval(this.#ticking);
      this.#ticking = undefined;
    }, TICK_MS);
  }

  /** Who comes, goes or changes the table says so; what was missed of that is found more slowly, while nobody works at it. */
  #reconcileIfDue(): void {
    this.#beats += 1;
    if (this.#wrongSinceMs !== undefined || this.#beats % QUIET_BEATS === 0) this.reconcile();
  }

  /** Compares the table with who is there, soon. */
  reconcile(): void {
    if (this.#closed) return;
    if (this.#reconciling !== undefined) {
      this.#again = true;
      return;
    }
    this.#reconciling = this.#reconcile()
      .catch((error: unknown) => {
        const { log } = this.#options;
        log.debug({ err: error }, 'the assignment of partitions was not compared');
        const { code, message } = error as MillraceError;
        if (code !== 'STREAM_UNUSABLE') return;
        // What the table had last counts until it can be read again.
        this.#takeMine();
        if (this.#unusable) return;
        this.#unusable = true;
        log.error({ code }, `partitions are not given to other workers any more: ${message}`);
      })
      .finally(() => {
        this.#reconciling = undefined;
        if (!this.#again) return;
        this.#again = false;
        this.reconcile();
      });
  }

  /** Waits for others to take what this worker owns, which it must not host any more; false when nobody did in time. */
  async handOver(timeoutMs: number): Promise<boolean> {
    const until = performance.now() + timeoutMs;
    const { bus, cluster, log } = this.#options;
    const others = (): boolean => bus.up && cluster.hosts().length > 0;
    let left = this.owners.size;
    let movedMs = performance.now();
    while (this.owners.size > 0 && others() && performance.now() < until) {
      await delay(TICK_MS);
      if (this.owners.size !== left) movedMs = performance.now();
      left = this.owners.size;
      if (performance.now() - movedMs < STUCK_MS) continue;
      log.warn(`nobody takes partitions ${[...this.owners.keys()].join(', ')}: they are let go`);
      break;
    }
    return this.owners.size === 0;
  }

  /** Lets what has prepared come to its end, then stops. What is left is in the logs. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of [...this.#timers, ...this.#later.values()]) clearInterval(timer);
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
    clearInterval(this.#ticking);
    const ticking = setInterval(() => this.#tick(), TICK_MS);
    await Promise.all(this.#taking.values());
    await Promise.all([...this.owners.values()].map(async (owner) => this.#letGo(owner)));
    clearInterval(ticking);
    await this.#journals.close();
  }

  get #quiet(): boolean {
    return this.#journals.quiet && [...this.owners.values()].every(({ quiet }) => quiet);
  }

  #tick(): void {
    for (const owner of this.owners.values()) owner.tick();
    this.#journals.flush();
    const { settled } = this;
    if (settled === this.#saidSettled) return;
    this.#saidSettled = settled;
    this.#options.cluster.changed();
    this.reconcile();
  }

  async #reconcile(): Promise<void> {
    const { store, workerId, bus } = this.#options;
    const current = await store.read();
    this.#unusable = false;
    if (this.#closed) return;
    this.#adopt(current);
    const hosts = this.#hosts(current.owners);
    if (hosts.length === 0) return;
    const wanted = this.#wanted(current, hosts);
    const asItIs = wanted.owners.every((owner, partition) => owner === current.owners[partition]);
    if (asItIs && wanted.layout === current.layout) {
      this.#wrongSinceMs = undefined;
      return;
    }
    this.#wrongSinceMs ??= performance.now();
    const place = hosts
      .map(({ id }) => id)
      .sort()
      .indexOf(workerId);
    if (place < 0 || performance.now() - this.#wrongSinceMs < place * TURN_MS) return;
    if (!(await store.change(wanted, current.revision))) return;
    this.#wrongSinceMs = undefined;
    if (bus.up) bus.publish(this.#subjects.stateAssignment, NOTHING);
    this.#adopt(wanted);
  }

  /** Who should own what; and a change of the number of partitions is over when all are done with it. */
  #wanted({ owners, layout }: AssignmentTable, hosts: WorkerCapacity[]): AssignmentTable {
    const { generation, from, to } = layout;
    const settled = from === to ? undefined : this.#options.cluster.settled(generation);
    const over = settled !== undefined && owners.every((_, partition) => settled.has(partition));
    const before = owners.map((owner) => owner ?? undefined);
    // Those that have keys, or are to have some, are spread for themselves.
    const after = [...assign(before.slice(0, to), hosts), ...assign(before.slice(to), hosts)];
    return {
      owners: after.map((owner) => owner ?? null),
      layout: over ? { generation, from: to, to } : layout,
    };
  }

  /** Who has just started may not have heard of all yet: whom the table names is there, until time has shown that he isn't. */
  #hosts(table: readonly (string | null)[]): WorkerCapacity[] {
    const { cluster, settings, workerId } = this.#options;
    const hosts = cluster.hosts();
    if (performance.now() - this.#startedAtMs >= settings.ownerMissedMs) return hosts;
    const heard = new Set([...cluster.members.keys(), ...cluster.left, workerId]);
    const unheard = new Set(table.filter((owner) => owner !== null));
    for (const id of heard) unheard.delete(id);
    for (const id of unheard) {
      void cluster.isGone(id).then((gone) => {
        if (gone) this.reconcile();
      });
    }
    return [...hosts, ...[...unheard].map((id) => ({ id, capacity: settings.capacity }))];
  }

  #adopt({ owners, layout }: AssignmentTable): void {
    // Whoever answered may not have heard of the last change yet.
    if (owners.length < this.#table.length) return;
    this.#table = owners;
    if (this.#options.places.adopt(layout)) this.#move(layout);
    this.#takeMine();
  }

  /** Keys are to lie elsewhere, or have come to. */
  #move(layout: Layout): void {
    const { log } = this.#options;
    const { generation, from, to } = layout;
    if (from === to) log.info({ generation }, `keys lie on ${to} partitions`);
    else log.info({ generation }, `keys move from ${from} to ${to} partitions`);
    for (const owner of this.owners.values()) owner.adopt(layout);
    this.#keepTicking();
  }

  #takeMine(): void {
    for (let partition = 0; partition < this.partitions; partition += 1)
      this.#takeIfMine(partition);
  }

  #takeIfMine(partition: number): void {
    const { workerId, log, cluster } = this.#options;
    if (this.#closed || this.#table[partition] !== workerId) return;
    if (this.owners.has(partition) || this.#taking.has(partition)) return;
    if (this.#later.has(partition)) return;
    if (!this.#options.bus.up) {
      this.#takeLater(partition, RETRY_MS);
      return;
    }
    const inTurn = cluster.ownerOf(partition) !== undefined && !this.#failed.has(partition);
    if (inTurn && this.#handovers >= HANDOVERS_AT_ONCE) return;
    if (inTurn) this.#handovers += 1;
    const owner: PartitionOwner = new PartitionOwner(
      partition,
      randomBytes(8).readBigUInt64BE(),
      this.#journals.current(),
      this.#portsOf(partition, () => owner),
      { ...this.#options.settings, moveChunkBytes: MOVE_CHUNK_BYTES },
    );
    const taken = owner.take().then(
      () => {
        this.owners.set(partition, owner);
        // It may have changed since the claim.
        owner.adopt(this.#options.places.layout);
        this.#failed.delete(partition);
        this.#keepTicking();
        this.recovered += owner.recovered;
        this.#options.cluster.changed();
        this.#options.onOwned(partition);
        return true;
      },
      (error: unknown) => {
        owner.end('not taken');
        const newer = (error as { code?: unknown }).code === 'NEWER_VERSION';
        if (newer)
          log.error(
            { partition },
            `partition ${partition} is not served: ${messageOf(error)} [NEWER_VERSION]`,
          );
        else log.warn({ partition, err: error }, `partition ${partition} was not taken over`);
        this.#failed.add(partition);
        this.#takeLater(partition, newer ? NEWER_RETRY_MS : RETRY_MS);
        return false;
      },
    );
    this.#taking.set(
      partition,
      taken.then((done) => {
        this.#taking.delete(partition);
        if (inTurn) this.#handovers -= 1;
        if (done || inTurn) this.#takeMine();
      }),
    );
  }

  #takeLater(partition: number, afterMs: number): void {
    const timer = setTimeout(() => {
      this.#later.delete(partition);
      this.#takeIfMine(partition);
    }, afterMs);
    this.#later.set(partition, timer.unref());
  }

  #portsOf(partition: number, owner: () => PartitionOwner): OwnerPorts {
    const { streams, publisher, places, toPartition, toCoordinator } = this.#options;
    let released = false;
    return {
      claims: streams.claims(partition),
      snapshots: streams.snapshots(partition),
      journal: (id) => streams.journal(id),
      seal: async (id) => this.#journals.seal(id, released),
      forsaken: (ids) => this.#journals.empty(ids),
      layout: () => places.layout,
      rings: ringOf,
      now: () => performance.now(),
      toPartition,
      toCoordinator,
      publish: (tx, emits, again) => {
        const over = (): boolean => owner().state === 'ended';
        void publishEmits(publisher, emits, again, over).then((published) => {
          if (published) owner().published(tx);
        });
      },
      askToRelease: async (id) => {
        released = await this.#askToRelease(workerOf(id), partition);
      },
      ended: (reason) => this.#ended(partition, reason),
    };
  }

  /** True when it has answered: then it writes nothing more for the partition, whatever the claim says. */
  async #askToRelease(owner: string, partition: number): Promise<boolean> {
    const { bus, settings, cluster } = this.#options;
    // One that is cut off, connected still, would be waited for.
    if (await cluster.isGone(owner)) return false;
    const timeoutMs = settings.handoverMs + RELEASE_MARGIN_MS;
    return bus
      .request(this.#subjects.stateRelease(owner), writeControl({ partition }), timeoutMs)
      .then(
        () => true,
        () => false,
      );
  }

  async #release(data: Uint8Array): Promise<void> {
    const partition = readControl(releaseSchema, data)?.partition ?? -1;
    await this.#taking.get(partition);
    const owner = this.owners.get(partition);
    if (owner !== undefined) await this.#letGo(owner);
  }

  async #letGo(owner: PartitionOwner): Promise<void> {
    const timer = setTimeout(() => owner.giveUp(), this.#options.settings.handoverMs);
    await owner.release();
    clearTimeout(timer);
  }

  #ended(partition: number, reason: string): void {
    const { log, cluster } = this.#options;
    this.owners.delete(partition);
    cluster.changed();
    this.#options.onOwned(partition);
    const level = reason === RELEASED ? 'debug' : 'warn';
    log[level]({ partition, reason }, `partition ${partition} is given up: ${reason}`);
    if (!this.#closed) setTimeout(() => this.reconcile(), RETRY_MS).unref();
  }
}
