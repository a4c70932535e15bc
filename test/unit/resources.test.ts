import { expect, it } from 'vitest';
import { verdicts, type Sample } from '../soak/resources.ts';

const samples = (of: (round: number) => Sample): Sample[] =>
  Array.from({ length: 30 }, (_, round) => of(round));

it('what stays about the same is flat, what grows is not, a fence for each worker that was does not count', () => {
  const said = verdicts(
    samples((round) => ({
      'broker MiB': 100 + (round % 5) * 10,
      'worker MiB': 100 + round * 10,
      'worker files': 20 + round * 10,
      journals: round < 20 ? 4 : 300,
      'emptied journals': round * 100,
    })),
  );
  expect(Object.entries(said ?? {}).filter(([, { flat }]) => flat)).toEqual([
    ['broker MiB', { first: 120, last: 120, flat: true }],
    ['emptied journals', { first: 500, last: 2_500, flat: true }],
  ]);
});

it('a few samples say nothing', () => {
  expect(verdicts(samples(() => ({ journals: 1 })).slice(0, 5))).toBeUndefined();
});
