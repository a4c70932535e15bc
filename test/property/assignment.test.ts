import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { assign, quotas, type WorkerCapacity } from '../../src/core/assignment.ts';
import { hash32 } from '../../src/core/hash.ts';
import { HashRing } from '../../src/core/ring.ts';

type Table = readonly (string | undefined)[];

const partitions = fc.oneof(fc.constantFrom(8, 32, 128), fc.integer({ min: 1, max: 150 }));
const workerId = fc.oneof(fc.stringMatching(/^[a-z0-9]{8}$/), fc.constantFrom('a', 'b', 'B', 'é'));
const capacity = fc.oneof(
  fc.constantFrom(1, 1, 1, 2, 4, 10),
  fc.double({ min: 0.01, max: 100, noNaN: true }),
);
const clusterOf = (
  capacity: fc.Arbitrary<number>,
  maxLength: number,
): fc.Arbitrary<WorkerCapacity[]> =>
  fc.uniqueArray(fc.record({ id: workerId, capacity }), {
    selector: ({ id }) => id,
    minLength: 1,
    maxLength,
  });
const cluster = fc.oneof(clusterOf(capacity, 16), clusterOf(fc.constant(1), 16));
/** Some leave (by index) and some join, at once. */
const change = fc.record({
  leaving: fc.uniqueArray(fc.nat(20), { maxLength: 4 }),
  joining: fc.oneof(clusterOf(capacity, 3), fc.constant([])),
});

function changed(
  workers: readonly WorkerCapacity[],
  { leaving, joining }: { leaving: readonly number[]; joining: readonly WorkerCapacity[] },
): WorkerCapacity[] {
  const staying = workers.filter((_, index) => !leaving.includes(index));
  const known = new Set(workers.map(({ id }) => id));
  return [...staying, ...joining.filter(({ id }) => !known.has(id))];
}

const nobody = (partitions: number): Table => Array.from({ length: partitions }, () => undefined);
const ids = (workers: readonly WorkerCapacity[]): Set<string> =>
  new Set(workers.map(({ id }) => id));
const ownedBy = (table: Table, id: string): number => table.filter((owner) => owner === id).length;
const shareOf = (partitions: number, worker: WorkerCapacity, all: readonly WorkerCapacity[]) =>
  (partitions * worker.capacity) / all.reduce((sum, { capacity }) => sum + capacity, 0);
const movedBetween = (before: Table, after: Table): number[] =>
  [...after.keys()].filter((partition) => before[partition] !== after[partition]);
const positionOf = (partition: number): number => hash32(`partition ${partition}`);

function expectBalanced(table: Table, workers: readonly WorkerCapacity[]): void {
  const known = ids(workers);
  for (const worker of workers) {
    const owned = ownedBy(table, worker.id);
    const share = shareOf(table.length, worker, workers);
    // share × (1 + workers / partitions): 1.25 × share, or less, from four partitions for each worker on.
    const bound = share + workers.length * shareOf(1, worker, workers);
    expect(owned).toBeLessThanOrEqual(bound + 1e-9);
    expect(owned).toBeGreaterThanOrEqual(Math.floor(share - 1e-9));
  }
  const allowed = (owner: string | undefined): boolean =>
    workers.length === 0 ? owner === undefined : owner !== undefined && known.has(owner);
  expect(table.filter((owner) => !allowed(owner))).toEqual([]);
}

describe('the assignment', () => {
  it('keeps all it promises through any sequence of joins and leaves, several at once', () => {
    const changes = fc.array(change, { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(partitions, cluster, changes, (partitions, first, changes) => {
        let workers = first;
        let table: Table = assign(nobody(partitions), workers);
        for (const change of changes) {
          const next = changed(workers, change);
          const after = assign(table, next);
          const stays = new Set(workers.map(({ id }) => id).filter((id) => ids(next).has(id)));
          const between = movedBetween(table, after).filter(
            (partition) => stays.has(table[partition] ?? '') && stays.has(after[partition] ?? ''),
          );
          expect(between).toEqual([]);
          expectBalanced(after, next);
          expect(assign(after, next)).toEqual(after);
          workers = next;
          table = after;
        }
      }),
      { numRuns: 400 },
    );
  });

  it('is the same whatever the order of the workers', () => {
    const shuffled = cluster.chain((workers) =>
      fc.tuple(
        fc.constant(workers),
        fc.shuffledSubarray(workers, { minLength: workers.length, maxLength: workers.length }),
      ),
    );
    fc.assert(
      fc.property(partitions, cluster, shuffled, (partitions, before, [one, other]) => {
        const table = assign(nobody(partitions), before);
        expect(assign(table, other)).toEqual(assign(table, one));
      }),
      { numRuns: 300 },
    );
  });

  it('puts from any table whatever into balance with as few moves as that takes', () => {
    const anyTable = fc.array(fc.option(workerId, { nil: undefined }), { maxLength: 60 });
    const mixed = fc.tuple(anyTable, cluster).chain(([table, workers]) =>
      fc.tuple(
        fc.constant(workers),
        // Owners that exist, as well as some that do not.
        fc.tuple(
          ...table.map((owner) =>
            fc.constantFrom(owner, undefined, ...workers.map(({ id }) => id)),
          ),
        ),
      ),
    );
    fc.assert(
      fc.property(mixed, ([workers, table]: [WorkerCapacity[], Table]) => {
        const after = assign(table, workers);
        expectBalanced(after, workers);
        const needed = workers.map(({ id }) =>
          Math.max(0, ownedBy(after, id) - ownedBy(table, id)),
        );
        const sum = needed.reduce((total, count) => total + count, 0);
        expect(movedBetween(table, after)).toHaveLength(sum);
        expect(assign(after, workers)).toEqual(after);
      }),
      { numRuns: 300 },
    );
  });

  it('moves no more than the quotas ask for when capacities change', () => {
    const capacities = fc.array(capacity, { minLength: 16, maxLength: 16 });
    fc.assert(
      fc.property(partitions, cluster, capacities, (partitions, workers, capacities) => {
        const before = assign(nobody(partitions), workers);
        const other = workers.map(({ id }, at) => ({ id, capacity: capacities[at] as number }));
        const after = assign(before, other);
        expectBalanced(after, other);
        const gained = workers.map(({ id }) =>
          Math.max(0, ownedBy(after, id) - ownedBy(before, id)),
        );
        const sum = gained.reduce((total, count) => total + count, 0);
        expect(movedBetween(before, after)).toHaveLength(sum);
      }),
      { numRuns: 200 },
    );
  });

  it('gives nothing to a worker of capacity 0, and nobody anything when there is no capacity', () => {
    const before = assign(nobody(32), [
      { id: 'a', capacity: 1 },
      { id: 'b', capacity: 1 },
    ]);
    const drained = assign(before, [
      { id: 'a', capacity: 0 },
      { id: 'b', capacity: 1 },
    ]);
    expect(drained).toEqual(before.map(() => 'b'));
    expect(assign(before, [{ id: 'a', capacity: 0 }])).toEqual(nobody(32));
    expect(assign(before, [])).toEqual(nobody(32));
    expect(assign([], [{ id: 'a', capacity: 1 }])).toEqual([]);
  });

  it('refuses two workers of one name and capacities that are none', () => {
    const twice = ['a', 'b', 'a'].map((id) => ({ id, capacity: 1 }));
    expect(() => assign(nobody(8), twice)).toThrow('two workers are named a');
    for (const capacity of [-1, Number.NaN, Number.POSITIVE_INFINITY, 0.0001, 1e7]) {
      expect(() => assign(nobody(8), [{ id: 'a', capacity }])).toThrow(RangeError);
    }
  });
});

describe('quotas', () => {
  /** All ways to give `partitions` to `workers`. */
  function* allocations(partitions: number, workers: number): Generator<number[]> {
    if (workers === 1) yield [partitions];
    else {
      for (let first = 0; first <= partitions; first += 1) {
        for (const rest of allocations(partitions - first, workers - 1)) yield [first, ...rest];
      }
    }
  }

  it('make the largest load for its capacity as small as any whole numbers do', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 10 }),
        fc.array(capacity, { minLength: 1, maxLength: 4 }),
        (partitions, capacities) => {
          const workers = capacities.map((capacity, index) => ({ id: `w${index}`, capacity }));
          const largest = (counts: readonly number[]): number =>
            Math.max(...counts.map((count, index) => count / (capacities[index] as number)));
          const best = Math.min(...[...allocations(partitions, workers.length)].map(largest));
          const given = [...quotas(partitions, workers).values()];
          expect(given.reduce((sum, count) => sum + count, 0)).toBe(partitions);
          expect(largest(given)).toBeCloseTo(best, 9);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('prefer the lower id among equals', () => {
    const workers = ['c', 'a', 'b'].map((id) => ({ id, capacity: 1 }));
    expect([...quotas(8, workers)]).toEqual([
      ['a', 3],
      ['b', 3],
      ['c', 2],
    ]);
  });

  it('differ by one at most among equals', () => {
    fc.assert(
      fc.property(partitions, clusterOf(fc.constant(3), 20), (partitions, workers) => {
        const counts = [...quotas(partitions, workers).values()];
        expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
      }),
    );
  });
});

describe('movement', () => {
  /** Mean of moved / ideal, and sum of moved / sum of ideal, over many clusters. */
  function measured(
    capacity: fc.Arbitrary<number>,
    step: (workers: WorkerCapacity[]) => [before: WorkerCapacity[], after: WorkerCapacity[]],
  ): { mean: number; total: number } {
    const runs = fc.sample(
      fc.tuple(
        fc.constantFrom(32, 64, 128),
        fc.uniqueArray(fc.record({ id: fc.stringMatching(/^[a-z0-9]{8}$/), capacity }), {
          selector: ({ id }) => id,
          minLength: 3,
          maxLength: 9,
        }),
      ),
      { numRuns: 400, seed: 7 },
    );
    let [moved, ideal, ratios] = [0, 0, 0];
    for (const [partitions, workers] of runs) {
      const [before, after] = step(workers);
      const table = assign(nobody(partitions), before);
      const movedHere = movedBetween(table, assign(table, after)).length;
      // What must move if partitions could be divided: what those that come, or those that go, have.
      const shares = (some: WorkerCapacity[], others: WorkerCapacity[]): number =>
        some
          .filter(({ id }) => !ids(others).has(id))
          .reduce((sum, worker) => sum + shareOf(partitions, worker, some), 0);
      const idealHere = Math.max(shares(before, after), shares(after, before));
      moved += movedHere;
      ideal += idealHere;
      ratios += movedHere / idealHere;
    }
    return { mean: ratios / runs.length, total: moved / ideal };
  }

  const steps: [
    string,
    (workers: WorkerCapacity[]) => [before: WorkerCapacity[], after: WorkerCapacity[]],
  ][] = [
    ['one joins', (workers) => [workers.slice(1), workers]],
    ['one leaves', (workers) => [workers, workers.slice(1)]],
    ['two join', (workers) => [workers.slice(2), workers]],
    ['two leave', (workers) => [workers, workers.slice(2)]],
    ['one is replaced', (workers) => [workers.slice(1), workers.slice(0, -1)]],
  ];
  it.each(steps)('is at most 1.1 times the ideal on average when %s', (_, step) => {
    const mixed = fc.constantFrom(1, 1, 2, 4, 8);
    for (const { mean, total } of [measured(fc.constant(1), step), measured(mixed, step)]) {
      expect(mean).toBeLessThan(1.1);
      expect(total).toBeLessThan(1.1);
      expect(total).toBeGreaterThan(0.9);
    }
  });
});

describe('the ring chooses', () => {
  const ringOf = (workers: readonly WorkerCapacity[]): HashRing =>
    new HashRing(
      workers.map((one) => ({ id: one.id, weight: shareOf(workers.length, one, workers) })),
    );
  const some = clusterOf(fc.constantFrom(1, 1, 1, 2, 4), 12);

  it('their own worker for as many as it has room for, both at first and after one left', () => {
    fc.assert(
      fc.property(partitions, some, (partitions, workers) => {
        const left = workers.slice(1);
        for (const [before, now] of [
          [nobody(partitions), workers],
          [assign(nobody(partitions), workers), left],
        ] as const) {
          if (now.length === 0) continue;
          const after = assign(before, now);
          const ring = ringOf(now);
          const moved = movedBetween(before, after);
          const own = moved.map((partition) => ring.owner(positionOf(partition)));
          for (const { id } of now) {
            const room = ownedBy(after, id) - ownedBy(before, id);
            const got = moved.filter((partition, at) => own[at] === id && after[partition] === id);
            expect(got).toHaveLength(Math.min(room, ownedBy(own, id)));
          }
        }
      }),
      { numRuns: 150 },
    );
  });

  it('for a worker that joins first of all what is its own on the ring', () => {
    fc.assert(
      fc.property(partitions, some, (partitions, workers) => {
        const joining = workers[0]?.id;
        const before = assign(nobody(partitions), workers.slice(1));
        const after = assign(before, workers);
        const ring = ringOf(workers);
        const isOwn = (partition: number): boolean => ring.owner(positionOf(partition)) === joining;
        const moved = movedBetween(before, after);
        for (const { id } of workers.slice(1)) {
          const given = moved.filter((partition) => before[partition] === id);
          const kept = [...after.keys()].filter((partition) => after[partition] === id);
          // Who gives something that is not the joiner's own has given all that is.
          expect(given.every(isOwn) ? [] : kept.filter(isOwn)).toEqual([]);
        }
      }),
      { numRuns: 150 },
    );
  });
});
