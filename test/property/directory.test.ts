import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Directory } from '../../src/core/directory.ts';

/** mulberry32: numbers in [0, 1) from a seed, so that a failure can be run again. */
function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function directoryOf(workers: number): Directory {
  const directory = new Directory();
  for (let index = 0; index < workers; index += 1) {
    const id = `w${index}`;
    directory.announced(
      { id, connectionEpoch: 1, state: 'running', functions: ['f'], revision: 1 },
      0,
    );
  }
  return directory;
}

/** Pearson's statistic of the picks against "each of `ids` equally likely"; picks outside of `ids` make it infinite. */
function chiSquare(picks: readonly (string | undefined)[], ids: readonly string[]): number {
  const counts = new Map(ids.map((id) => [id, 0]));
  for (const pick of picks) {
    const count = counts.get(pick ?? '');
    if (count === undefined) return Number.POSITIVE_INFINITY;
    counts.set(pick ?? '', count + 1);
  }
  const expected = picks.length / ids.length;
  return [...counts.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
}

/** Six standard deviations above the mean of a chi-square distribution: passed by chance about never. */
const bound = (ids: number): number => ids - 1 + 6 * Math.sqrt(2 * (ids - 1)) + 20;

describe('pick', () => {
  it('is uniform over the workers', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 2, max: 12 }), (seed, count) => {
        const directory = directoryOf(count);
        const random = seeded(seed);
        const picks = Array.from({ length: 4_000 }, () => directory.pick('f', random));
        const ids = directory.workers().map(({ id }) => id);
        expect(chiSquare(picks, ids)).toBeLessThan(bound(count));
      }),
      { numRuns: 50 },
    );
  });
  it('is uniform over the others where one worker is excepted', () => {
    const directory = directoryOf(4);
    const random = seeded(1);
    const picks = Array.from({ length: 4_000 }, () => directory.pick('f', random, 'w0'));
    expect(chiSquare(picks, ['w1', 'w2', 'w3'])).toBeLessThan(bound(3));
  });

  it('gives exactly the workers that a plain model holds to be running with the function', () => {
    const id = fc.constantFrom('a', 'b', 'c', 'd');
    const functions = fc.uniqueArray(fc.constantFrom('f', 'g'), { maxLength: 2 });
    const state = fc.constantFrom('running' as const, 'draining' as const);
    const step = fc.oneof(
      fc.record({ kind: fc.constant('announce' as const), id, functions, state }),
      fc.record({ kind: fc.constant('beat' as const), id, state }),
      fc.record({ kind: fc.constant('remove' as const), id }),
      fc.record({ kind: fc.constant('silence' as const) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60, size: 'max' }), (steps) => {
        const directory = new Directory();
        const model = new Map<
          string,
          { functions: string[]; state: string; heard: number; silent: boolean }
        >();
        for (const [now, one] of steps.entries()) {
          let given: unknown;
          let wanted: unknown;
          if (one.kind === 'announce') {
            const { functions: offered, state: said } = one;
            model.set(one.id, { functions: offered, state: said, heard: now, silent: false });
            directory.announced({ ...one, connectionEpoch: 1, revision: 1 }, now);
          } else if (one.kind === 'beat') {
            const known = model.get(one.id);
            if (known !== undefined) {
              Object.assign(known, { state: one.state, heard: now, silent: false });
            }
            const beat = { id: one.id, state: one.state, connectionEpoch: 1, revision: 1 };
            given = directory.beat(beat, now);
            wanted = known === undefined ? 'unknown' : 'known';
          } else if (one.kind === 'remove') {
            given = directory.remove(one.id);
            wanted = model.delete(one.id);
          } else {
            const missed = [...model.values()].filter(({ heard }) => now - heard > 5);
            for (const known of missed) known.silent = true;
            given = directory.silence(now, 5).length;
            wanted = missed.length;
          }
          expect(given).toBe(wanted);
          for (const name of ['f', 'g']) {
            const running = [...model].filter(
              ([, known]) => known.state === 'running' && known.functions.includes(name),
            );
            const heard = running.filter(([, { silent }]) => !silent);
            const able = (heard.length > 0 ? heard : running).map(([known]) => known).sort();
            const picked = [0, 0.2, 0.4, 0.6, 0.8, 0.99].map((r) => directory.pick(name, () => r));
            expect(new Set(picked)).toEqual(new Set(able.length === 0 ? [undefined] : able));
          }
        }
      }),
      { numRuns: 200 },
    );
  });
});
