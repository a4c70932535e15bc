/**
 * Where the state of a key lies, for a caller that has none itself: heard from the beats of the workers that own it. A hint, as they
 * are: a call that goes elsewhere is answered as well. Listens from the first question on; before the first beats nothing is known.
 */
import type { Subscription } from 'nats';
import { KeyRing, MAX_PARTITIONS } from '../core/key-ring.ts';
import type { Settings } from '../core/settings.ts';
import { ownersOf } from '../core/state/owners.ts';
import { subjectsOf } from '../core/subjects.ts';
import type { Bus } from './connection.ts';
import { ownerBeatSchema, readControl, type OwnerBeat } from './messages.ts';

interface Heard extends OwnerBeat {
  heardAtMs: number;
}

export class Placement {
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #workers = new Map<string, Heard>();
  #subscription: Subscription | undefined;
  #ring: KeyRing | undefined;
  /** Dropped with each beat that says something new. */
  #owners: ReadonlyMap<number, string> | undefined;

  constructor(bus: Bus, settings: Settings) {
    this.#bus = bus;
    this.#settings = settings;
  }

  /** The worker's id; undefined where nobody is known. */
  ownerOf(key: string): string | undefined {
    this.#subscription ??= this.#bus.subscribe(
      subjectsOf(this.#settings.namespace).stateBeat,
      ({ data }) => {
        const beat = readControl(ownerBeatSchema, data);
        if (beat !== undefined) this.#onBeat(beat);
      },
    );
    if (this.#ring === undefined) return undefined;
    this.#owners ??= ownersOf(this.#workers.values());
    return this.#owners.get(this.#ring.partitionOf(key));
  }

  close(): void {
    this.#subscription?.unsubscribe();
  }

  #onBeat(beat: OwnerBeat): void {
    const { id, partitions, owned } = beat;
    const before = this.#workers.get(id);
    const now = performance.now();
    this.#workers.set(id, { ...beat, heardAtMs: now });
    if (String(before?.owned) !== String(owned)) this.#owners = undefined;
    for (const [other, { heardAtMs }] of this.#workers) {
      if (now - heardAtMs <= this.#settings.ownerMissedMs) continue;
      this.#workers.delete(other);
      this.#owners = undefined;
    }
    if (this.#ring?.partitions === partitions || partitions < 1 || partitions > MAX_PARTITIONS)
      return;
    this.#ring = new KeyRing(partitions);
  }
}
