/**
 * Which partition a key belongs to: the ring of the partitions over the keys' hashes, flattened into a table, because
 * this is asked for every key of every access.
 *
 * The table is the ring's answer at evenly spaced positions. So what holds at each position of the ring holds for each
 * slot, and so for each key: another partition takes keys from the others, and none moves between those.
 */
import { hash32 } from './hash.ts';
import { HashRing } from './ring.ts';

/** Up to here the largest partition has at most 1.25 times the mean share of keys; for many more the slots are too few. */
export const MAX_PARTITIONS = 256;

const SLOT_BITS = 16;
const SLOTS = 2 ** SLOT_BITS;
const SHIFT = 32 - SLOT_BITS;

/** With 512 points for each partition the largest of 128 has 1.11 times the mean share; with 128 points, 1.25. */
const WEIGHT = 2;

export class KeyRing {
  readonly partitions: number;
  /** Slot → partition; a key's slot is the upper bits of its hash. */
  private readonly table = new Uint16Array(SLOTS);

  /** Throws RangeError unless `partitions` is a whole number from 1 to `MAX_PARTITIONS`. */
  constructor(partitions: number) {
    if (!Number.isInteger(partitions) || partitions < 1 || partitions > MAX_PARTITIONS) {
      throw new RangeError(`partitions must be 1 to ${MAX_PARTITIONS}, not ${partitions}`);
    }
    this.partitions = partitions;
    const nodes = Array.from({ length: partitions }, (_, id) => ({ id: `${id}`, weight: WEIGHT }));
    const ring = new HashRing(nodes);
    for (let slot = 0; slot < SLOTS; slot += 1) {
      this.table[slot] = Number(ring.owner((slot << SHIFT) >>> 0));
    }
  }

  /** 0 to `partitions` - 1, the same in every process and version. */
  partitionOf(key: string): number {
    return this.partitionAt(hash32(key));
  }

  /** The partition of the keys with this hash, 0 to 2^32 - 1. */
  partitionAt(hash: number): number {
    return this.table[hash >>> SHIFT] as number;
  }
}
