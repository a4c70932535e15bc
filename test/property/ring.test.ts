import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hash32 } from '../../src/core/hash.ts';
import { KeyRing, MAX_PARTITIONS } from '../../src/core/key-ring.ts';
import { HashRing, POINTS_PER_WEIGHT, type RingNode } from '../../src/core/ring.ts';

const position = fc.integer({ min: 0, max: 0xffff_ffff });
const positions = fc.array(position, { minLength: 50, maxLength: 50 });
/** Small weights: what is asked does not depend on how many points there are, and models are slow. */
const node: fc.Arbitrary<RingNode> = fc.record({
  id: fc.oneof(fc.string({ maxLength: 6 }), fc.nat(99).map(String)),
  weight: fc.constantFrom(0.001, 0.02, 0.05, 0.1),
});
const nodes = fc.uniqueArray(node, { selector: ({ id }) => id, minLength: 1, maxLength: 12 });

/** All nodes in the order in which they come from `hash` on, by sorting every point. */
function modelWalk(nodes: readonly RingNode[], hash: number): string[] {
  const points = nodes.flatMap(({ id, weight }) => {
    const count = Math.max(1, Math.round(weight * POINTS_PER_WEIGHT));
    return Array.from({ length: count }, (_, point) => ({ id, at: hash32(`${id}#${point}`) }));
  });
  const distance = (at: number): number => (at - hash) >>> 0;
  points.sort((a, b) => distance(a.at) - distance(b.at) || (a.id < b.id ? -1 : 1));
  return [...new Set(points.map(({ id }) => id))];
}

describe('the ring', () => {
  it('answers as a plain model does, at its points and beside them', () => {
    fc.assert(
      fc.property(nodes, positions, (nodes, positions) => {
        const ring = new HashRing(nodes);
        const points = nodes.map(({ id }) => hash32(`${id}#0`));
        const beside = points.flatMap((at) => [at, (at + 1) >>> 0, (at - 1) >>> 0]);
        for (const hash of [0, 0xffff_ffff, ...beside, ...positions.slice(0, 10)]) {
          const expected = modelWalk(nodes, hash);
          expect([...ring.walk(hash)]).toEqual(expected);
          expect(ring.owner(hash)).toBe(expected[0]);
        }
      }),
      { numRuns: 100 },
    );
  });

  it('answers alike whatever the order of its nodes', () => {
    const ordered = nodes.chain((nodes) =>
      fc.tuple(
        fc.constant(nodes),
        fc.shuffledSubarray(nodes, { minLength: nodes.length, maxLength: nodes.length }),
      ),
    );
    fc.assert(
      fc.property(ordered, positions, ([nodes, shuffled], positions) => {
        const [one, other] = [new HashRing(nodes), new HashRing(shuffled)];
        for (const hash of positions) expect([...one.walk(hash)]).toEqual([...other.walk(hash)]);
      }),
    );
  });

  it('gives a point that two nodes share to the lower id, whatever their order', () => {
    const shared = hash32('w40727#0');
    expect(hash32('w116795#0')).toBe(shared);
    const nodes = ['w40727', 'w116795'].map((id) => ({ id, weight: 0.001 }));
    expect(new HashRing(nodes).owner(shared)).toBe('w116795');
    expect(new HashRing(nodes.toReversed()).owner(shared)).toBe('w116795');
  });

  it('moves nothing between two that stay, whoever else comes and goes', () => {
    fc.assert(
      fc.property(nodes, nodes, nodes, positions, (staying, leaving, joining, positions) => {
        const stays = new Set(staying.map(({ id }) => id));
        const others = (nodes: RingNode[]): RingNode[] => nodes.filter(({ id }) => !stays.has(id));
        const before = new HashRing([...staying, ...others(leaving)]);
        const after = new HashRing([...staying, ...others(joining)]);
        const between = positions.filter((hash) => {
          const [from, to] = [before.owner(hash), after.owner(hash)];
          return from !== to && stays.has(from) && stays.has(to);
        });
        expect(between).toEqual([]);
      }),
    );
  });

  it('gives each node the share of its weight', () => {
    fc.assert(
      fc.property(fc.nat(), (salt) => {
        const weights = [0.5, 1, 1, 2, 4];
        const total = 8.5;
        const ids = weights.map((_, index) => `${salt}-${index}`);
        const ring = new HashRing(ids.map((id, at) => ({ id, weight: weights[at] as number })));
        const counts = new Map<string, number>();
        const samples = 8_192;
        for (let sample = 0; sample < samples; sample += 1) {
          const id = ring.owner(sample * (2 ** 32 / samples));
          counts.set(id, (counts.get(id) ?? 0) + 1);
        }
        for (const [at, id] of ids.entries()) {
          const share = ((counts.get(id) ?? 0) / samples) * (total / (weights[at] as number));
          // Five standard deviations of a share of 128 points, the smallest here.
          expect(Math.abs(share - 1)).toBeLessThan(0.45);
        }
      }),
      { numRuns: 40 },
    );
  });

  it('refuses no nodes, two of one name, weights that are none, and too many points', () => {
    expect(() => new HashRing([])).toThrow(RangeError);
    const twice = ['a', 'b', 'a'].map((id) => ({ id, weight: 1 }));
    expect(() => new HashRing(twice)).toThrow('two nodes of the ring are named a');
    for (const weight of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, 1e9]) {
      expect(() => new HashRing([{ id: 'a', weight }])).toThrow(RangeError);
    }
  });
});

describe('keys to partitions', () => {
  const keys = Array.from({ length: 100_000 }, (_, index) => `customer/${index}`);
  const partitionsOf = (partitions: number): Uint16Array => {
    const ring = new KeyRing(partitions);
    return Uint16Array.from(keys, (key) => ring.partitionOf(key));
  };

  it.each([1, 2, 3, 5, 8, 16, 32, 48, 64, 100, 128])(
    'gives the largest of %i partitions at most 1.25 times the mean share',
    (partitions) => {
      const counts = new Uint32Array(partitions);
      for (const partition of partitionsOf(partitions)) {
        counts[partition] = (counts[partition] as number) + 1;
      }
      const mean = keys.length / partitions;
      expect(Math.max(...counts) / mean).toBeLessThan(1.25);
      expect(Math.min(...counts) / mean).toBeGreaterThan(0.75);
    },
  );

  // Both ways: with one partition fewer, its keys and no others move.
  it.each([1, 2, 3, 7, 8, 9, 31, 32, 63, 127, 128, MAX_PARTITIONS - 1])(
    'from %i partitions to one more moves only keys of the new one, and about its share',
    (partitions) => {
      const [before, after] = [partitionsOf(partitions), partitionsOf(partitions + 1)];
      const moved = after.filter((partition) => partition === partitions).length;
      const movedElsewhere = after.filter(
        (partition, key) => partition !== partitions && partition !== before[key],
      );
      expect(movedElsewhere).toHaveLength(0);
      const ideal = keys.length / (partitions + 1);
      expect(moved / ideal).toBeLessThan(1.25);
      expect(moved / ideal).toBeGreaterThan(0.75);
    },
  );

  it('is defined for every string', () => {
    const ring = new KeyRing(32);
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (key) => {
        const partition = ring.partitionOf(key);
        expect(Number.isInteger(partition) && partition >= 0 && partition < 32).toBe(true);
      }),
    );
  });

  it('refuses numbers of partitions that are none', () => {
    for (const partitions of [0, -1, 1.5, Number.NaN, MAX_PARTITIONS + 1]) {
      expect(() => new KeyRing(partitions)).toThrow(RangeError);
    }
  });
});
