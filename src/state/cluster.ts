/**
 * Which workers host partitions, and who owns which: heard from beats. All of it is a hint (SPEC.md, "Ownership"): what it
 * gets wrong costs time, never safety.
 *
 * A worker that is silent for `ownerMissedMs` loses its claim to partitions, though it may still be connected: paused or
 * computing. The broker's "no responders" on one of its subjects ends it at once.
 */
import type { Subscription } from 'nats';
import { NO_RESPONDERS, type Bus } from '../bus/connection.ts';
import {
  leaveSchema,
  ownerBeatSchema,
  readControl,
  writeControl,
  type OwnerBeat,
} from '../bus/messages.ts';
import { MillraceError } from '../core/errors.ts';
import { FIRST_PROTOCOL, PROTOCOL } from '../core/newer.ts';
import { ownersOf } from '../core/state/owners.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf } from '../core/subjects.ts';

/** How many workers that have gone are remembered. */
const MAX_LEFT = 10_000;
/** How many are heard at once: more than this are no workers. */
const MAX_MEMBERS = 10_000;

export interface ClusterMember {
  id: string;
  capacity: number;
  hosting: boolean;
  owned: ReadonlyMap<number, number>;
  /** See OwnerBeat. */
  settled: number;
  protocol: number;
  heardAtMs: number;
}

export interface ClusterEvents {
  /** A partition has another owner than before. */
  onOwner(partition: number): void;
  /** The worker is gone or has been silent for too long. */
  onGone(workerId: string): void;
  /** Who hosts, or how much, or how far a change of the number of partitions is, has changed. */
  onMembers(): void;
  /** A worker is there that this one cannot work with: told once for each. */
  onForeign(problem: MillraceError): void;
}

export interface ClusterSelf {
  id: string;
  capacity: number;
  /** core/newer.ts */
  readonly protocol?: number;
  /** How many there are that keys lie on. */
  readonly partitions: number;
  /** See OwnerBeat. */
  readonly settled: number;
  owned(): [partition: number, epoch: number][];
}

export class Cluster {
  readonly members = new Map<string, ClusterMember>();
  /** Workers of which this one knows that they are gone; they never come back under the same id. */
  readonly left = new Set<string>();
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #self: ClusterSelf;
  readonly #events: ClusterEvents;
  readonly #subscriptions: Subscription[];
  readonly #beats: NodeJS.Timeout;
  readonly #beatSubject: string;
  readonly #leaveSubject: string;
  #hosting = false;
  #owners: Map<number, string> | undefined;
  #soon: NodeJS.Immediate | undefined;
  #said: Buffer | undefined;
  readonly #sinceMs = performance.now();
  /** Of the connection under which the others were last looked at. */
  #epoch: number;

  constructor(bus: Bus, settings: Settings, self: ClusterSelf, events: ClusterEvents) {
    this.#bus = bus;
    this.#epoch = bus.epoch;
    this.#settings = settings;
    this.#self = self;
    this.#events = events;
    const subjects = subjectsOf(settings.namespace);
    this.#beatSubject = subjects.stateBeat;
    this.#leaveSubject = subjects.stateLeave;
    this.#subscriptions = [
      bus.subscribe(this.#beatSubject, ({ data }) => {
        // Its own comes back, too.
        if (this.#said?.equals(data) === true) return;
        const beat = readControl(ownerBeatSchema, data);
        if (beat !== undefined && beat.id !== self.id) this.#onBeat(beat);
      }),
      bus.subscribe(this.#leaveSubject, ({ data }) => {
        const leaving = readControl(leaveSchema, data);
        if (leaving !== undefined) this.gone(leaving.id);
      }),
    ];
    this.#beats = setInterval(() => {
      this.#beat();
      this.#expire();
    }, settings.ownerBeatMs);
  }

  /** From now on this worker takes partitions, or no more. */
  host(hosting: boolean): void {
    this.#hosting = hosting;
    this.changed();
  }

  /** What this worker owns has changed: the others hear it soon, in one message for all that changes together. */
  changed(): void {
    this.#owners = undefined;
    this.#soon ??= setImmediate(() => {
      this.#soon = undefined;
      this.#beat();
    });
  }

  /** Workers that are to own partitions, this one among them. */
  hosts(): { id: string; capacity: number }[] {
    const { id, capacity } = this.#self;
    const hosts = [...this.members.values()].filter(({ hosting }) => hosting);
    return [...hosts, ...(this.#hosts() ? [{ id, capacity }] : [])].map((host) => ({
      id: host.id,
      capacity: host.capacity,
    }));
  }

  /** The owner under the highest epoch that was heard of; undefined where nobody has claimed the partition. */
  ownerOf(partition: number): string | undefined {
    this.#owners ??= this.#findOwners();
    return this.#owners.get(partition);
  }

  /** The highest epoch under which another worker says that it owns the partition; 0 for none. */
  claimedEpoch(partition: number): number {
    let highest = 0;
    for (const { owned } of this.members.values()) {
      highest = Math.max(highest, owned.get(partition) ?? 0);
    }
    return highest;
  }

  /** Partitions of which an owner has said that they are done with this change. That is never undone, so any owner's word will do. */
  settled(generation: number): Set<number> {
    const own = { owned: new Map(this.#self.owned()), settled: this.#self.settled };
    const partitions = new Set<number>();
    for (const { owned, settled } of [...this.members.values(), own]) {
      if (settled < generation) continue;
      for (const partition of owned.keys()) partitions.add(partition);
    }
    return partitions;
  }

  /** On the broker's word, or its own. */
  gone(workerId: string): void {
    if (this.left.size >= MAX_LEFT) this.left.clear();
    this.left.add(workerId);
    const member = this.members.get(workerId);
    if (member === undefined) {
      // It may have locked something all the same: its beats have not been heard yet, or it never was.
      this.#events.onGone(workerId);
      return;
    }
    this.members.delete(workerId);
    this.#owners = undefined;
    for (const partition of member.owned.keys()) this.#events.onOwner(partition);
    this.#events.onGone(workerId);
    this.#events.onMembers();
  }

  /**
   * Whether the worker is certainly not there: it was missed, or the broker says so. One that was never heard of and does
   * not answer may be there, as long as this worker itself is new.
   */
  async isGone(workerId: string): Promise<boolean> {
    if (this.members.has(workerId)) return false;
    if (this.left.has(workerId)) return true;
    const { ownerMissedMs, namespace } = this.#settings;
    try {
      const subject = subjectsOf(namespace).workerPing(workerId);
      await this.#bus.request(subject, new Uint8Array(), ownerMissedMs);
      return false;
    } catch (error) {
      const gone =
        (error as MillraceError).details === NO_RESPONDERS ||
        performance.now() - this.#sinceMs >= ownerMissedMs;
      if (gone) this.left.add(workerId);
      return gone;
    }
  }

  close(): void {
    clearInterval(this.#beats);
    if (this.#soon !== undefined) clearImmediate(this.#soon);
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
    if (this.#bus.up) this.#bus.publish(this.#leaveSubject, writeControl({ id: this.#self.id }));
  }

  /** Asked for with every message: built once, dropped when anybody's claims change. */
  #findOwners(): Map<number, string> {
    return ownersOf([...this.members.values(), { id: this.#self.id, owned: this.#self.owned() }]);
  }

  get #protocol(): number {
    return this.#self.protocol ?? PROTOCOL;
  }

  /** The newer one steps back from those that it is too new for: their partitions stay where they are. */
  #hosts(): boolean {
    const tooOld = [...this.members.values()].some(({ protocol }) => protocol < this.#protocol - 1);
    return this.#hosting && !tooOld;
  }

  #judge(id: string, protocol: number): void {
    const own = this.#protocol;
    if (Math.abs(protocol - own) <= 1) return;
    const [older, newer] =
      protocol < own ? [`worker ${id}`, 'this one'] : ['this one', `worker ${id}`];
    const ends =
      protocol < own
        ? 'This one owns no partitions until it is gone.'
        : 'It owns no partitions meanwhile.';
    this.#events.onForeign(
      new MillraceError(
        'NEWER_VERSION',
        `Protocol ${Math.min(protocol, own)} of ${older} and ${Math.max(protocol, own)} of ${newer} are too far apart: upgrade by way of the versions between. ${ends}`,
      ),
    );
  }

  #beat(): void {
    if (!this.#bus.up) return;
    const { id, capacity, partitions, settled } = this.#self;
    const owned = this.#self.owned();
    const beat: OwnerBeat = {
      id,
      capacity,
      hosting: this.#hosts(),
      partitions,
      settled,
      owned,
      protocol: this.#protocol,
    };
    this.#said = writeControl(beat);
    this.#bus.publish(this.#beatSubject, this.#said);
  }

  #onBeat(beat: OwnerBeat): void {
    const { id, capacity, hosting, settled = 0, protocol = FIRST_PROTOCOL } = beat;
    // It was only silent.
    this.left.delete(id);
    const before = this.members.get(id);
    if (before === undefined && this.members.size >= MAX_MEMBERS) return;
    const owned = new Map(beat.owned);
    const heardAtMs = performance.now();
    this.members.set(id, { id, capacity, hosting, owned, settled, protocol, heardAtMs });
    if (before === undefined) this.#judge(id, protocol);
    this.#owners = undefined;
    // One that is new here has not heard of us either.
    if (before === undefined) this.changed();
    for (const partition of new Set([...owned.keys(), ...(before?.owned.keys() ?? [])])) {
      if (before?.owned.get(partition) !== owned.get(partition)) this.#events.onOwner(partition);
    }
    const same = before?.hosting === hosting && before.capacity === capacity;
    if (!same || before.settled !== settled) this.#events.onMembers();
  }

  #expire(): void {
    // While our own connection is down nobody can be heard.
    if (!this.#bus.up) return;
    const now = performance.now();
    if (this.#bus.epoch !== this.#epoch) {
      // A broker that was away was so for all: they have as long from now on to be heard again as they always have.
      this.#epoch = this.#bus.epoch;
      for (const member of this.members.values()) member.heardAtMs = now;
    }
    for (const { id, heardAtMs } of this.members.values()) {
      if (now - heardAtMs > this.#settings.ownerMissedMs) this.gone(id);
    }
  }
}
