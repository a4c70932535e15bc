/** The ring for each number of partitions that there is or has been here, made once: it takes some milliseconds. */
import { KeyRing } from '../core/key-ring.ts';
import { placeOf } from '../core/state/keys.ts';
import type { Ring } from '../core/state/layout.ts';

/** At most `MAX_PARTITIONS` of them. */
const made = new Map<number, Ring>();

/** Throws RangeError for a number that is not allowed. */
export function ringOf(partitions: number): Ring {
  let ring = made.get(partitions);
  if (ring === undefined) {
    const keys = new KeyRing(partitions);
    ring = (item) => keys.partitionOf(placeOf(item));
    made.set(partitions, ring);
  }
  return ring;
}
