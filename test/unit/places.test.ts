import { expect, it } from 'vitest';
import { Places } from '../../src/core/state/layout.ts';

const rings = (partitions: number) => (): number => partitions - 1;

it('a move that the present change does not have is not learnt', () => {
  const still = new Places({ generation: 1, from: 2, to: 2 }, rings);
  still.learn(1, 1, 0);
  expect(still.partitionOf('a/b')).toBe(1);

  const places = new Places({ generation: 2, from: 2, to: 4 }, rings);
  for (const [generation, from, to] of [
    [1, 1, 3],
    [2, 3, 1],
    [2, 1, 4],
    [2, -1, 3],
    [2, 1, 1],
  ] as const) {
    places.learn(generation, from, to);
    expect(places.partitionOf('a/b')).toBe(1);
  }
  places.learn(2, 1, 3);
  expect(places.partitionOf('a/b')).toBe(3);
});
