/**
 * Which worker should own each partition (invariant I7, `src/core/state/SPEC.md`). Pure, and the same whatever the
 * order of the workers, so all that compute it from the same table and the same workers get the same.
 *
 * How many each owns is apportioned by highest averages (D'Hondt's method): the next partition goes to the worker that
 * would then have the fewest for its capacity, among equals to the lowest id. Nothing else is looked at, and therefore
 *
 * - A1: the largest load for its capacity is as small as whole numbers allow. So none owns more than 1.25 times its
 *   share wherever that is possible; it always is with at least four partitions for each worker, because nobody
 *   gets more than (1 + workers / partitions) times its share. Nobody gets less than its share rounded down.
 * - A2: when workers join or leave, or both, the numbers of all that stay change in one direction: all their claims
 *   keep their order, only more or fewer of them are met. So none that stays takes from another that stays.
 *
 * A2 is why numbers are fixed, and not only bounded from above: were all numbers below a bound allowed, they would drift
 * apart, until one that joins could not take as much as the others must lose. Only a change of capacities, or a table that `assign`
 * did not make, can move partitions between two that stay.
 *
 * Which partitions move, and where to, is the ring's choice: first those whose own worker there has room, then those for
 * which the next one clockwise has, and so on.
 */
import { hash32 } from './hash.ts';
import { HashRing } from './ring.ts';

export interface WorkerCapacity {
  id: string;
  /** Relative to the other workers, within the limits below; or 0 for one that should own nothing (any more). */
  capacity: number;
}

/** Far enough from the ends of a number that no quotient of two capacities is lost. */
export const MIN_CAPACITY = 0.001;
export const MAX_CAPACITY = 1_000_000;

/** One worker's way from the numbers that it has to those that it should have. */
interface Account {
  readonly quota: number;
  owned: number;
}

/** A partition that nobody owns, or whose owner has too many. */
interface Candidate {
  readonly partition: number;
  readonly from: Account | undefined;
  /** The workers from the partition's place on the ring on. */
  readonly way: Iterator<string, void>;
}

/**
 * How many of `partitions` each worker should own, by id in ascending order; the numbers add up to `partitions`. Workers
 * with capacity 0 are left out, so the map is empty when nobody has any. Throws RangeError for two workers
 * of the same id, and for a capacity that is neither 0 nor within `MIN_CAPACITY` and `MAX_CAPACITY`.
 */
export function quotas(
  partitions: number,
  workers: readonly WorkerCapacity[],
): Map<string, number> {
  const able = ableWorkers(workers);
  const counts = able.map(() => 0);
  for (let given = 0; given < partitions && able.length > 0; given += 1) {
    let next = 0;
    let highest = 0;
    for (const [index, { capacity }] of able.entries()) {
      const claim = capacity / ((counts[index] as number) + 1);
      if (claim > highest) {
        highest = claim;
        next = index;
      }
    }
    counts[next] = (counts[next] as number) + 1;
  }
  return new Map(able.map(({ id }, index) => [id, counts[index] as number]));
}

/**
 * The owner of each partition, by number. `previous` is the present table, `undefined` where nobody owns the partition;
 * owners that are not among `workers` have left. As few partitions move as the quotas allow, and none when
 * nothing has changed. With nobody to own anything (no workers, or all of capacity 0) every entry is undefined, and only
 * then any is. Throws RangeError as `quotas` does.
 */
export function assign(
  previous: readonly (string | undefined)[],
  workers: readonly WorkerCapacity[],
): (string | undefined)[] {
  const accounts = new Map<string, Account>();
  for (const [id, quota] of quotas(previous.length, workers)) accounts.set(id, { quota, owned: 0 });
  if (accounts.size === 0) return previous.map(() => undefined);
  for (const owner of previous) {
    const account = accountOf(accounts, owner);
    if (account !== undefined) account.owned += 1;
  }

  const next = [...previous];
  if ([...accounts.values()].every(({ owned, quota }) => owned === quota)) return next;
  const ring = ringOf(workers);
  let waiting: Candidate[] = [];
  for (const [partition, owner] of previous.entries()) {
    const from = accountOf(accounts, owner);
    if (from !== undefined && from.owned <= from.quota) continue;
    waiting.push({ partition, from, way: ring.walk(hash32(`partition ${partition}`)) });
  }
  // One worker further in each round. There is as much room as must move, so every way leads to room in the end.
  while (waiting.length > 0) {
    waiting = waiting.filter(({ partition, from, way }) => {
      // Its owner has given enough away by now.
      if (from !== undefined && from.owned <= from.quota) return false;
      const step = way.next();
      if (step.done === true) return false;
      const to = accounts.get(step.value);
      if (to === undefined || to.owned >= to.quota) return true;
      to.owned += 1;
      if (from !== undefined) from.owned -= 1;
      next[partition] = step.value;
      return false;
    });
  }
  return next;
}

function accountOf(
  accounts: ReadonlyMap<string, Account>,
  owner: string | undefined,
): Account | undefined {
  return owner === undefined ? undefined : accounts.get(owner);
}

/** Weights are relative to the mean capacity: the size of the ring depends on the number of workers alone. */
function ringOf(workers: readonly WorkerCapacity[]): HashRing {
  const able = ableWorkers(workers);
  const mean = able.reduce((sum, { capacity }) => sum + capacity / able.length, 0);
  return new HashRing(able.map(({ id, capacity }) => ({ id, weight: capacity / mean })));
}

/** In order of id: sums, and choices among equals, must not depend on the order in which workers were named. */
function ableWorkers(workers: readonly WorkerCapacity[]): WorkerCapacity[] {
  const sorted = workers.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  for (const [index, { id, capacity }] of sorted.entries()) {
    if (id === sorted[index + 1]?.id) throw new RangeError(`two workers are named ${id}`);
    if (capacity !== 0 && !(capacity >= MIN_CAPACITY && capacity <= MAX_CAPACITY)) {
      throw new RangeError(
        `the capacity of ${id} must be 0 or ${MIN_CAPACITY} to ${MAX_CAPACITY}, not ${capacity}`,
      );
    }
  }
  return sorted.filter(({ capacity }) => capacity > 0);
}
