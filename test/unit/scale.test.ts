import { describe, expect, it } from 'vitest';
import { scaleOf, wantedOf } from '../../src/core/scale.ts';

describe('how many processes the load wants', () => {
  const load = { workers: 4, utilization: 0.7, waiting: 0, perSecond: 100, queued: 0 };

  it.each([
    ['as many as there are at 70 %', {}, 4],
    ['no more for a little more', { utilization: 0.75 }, 4],
    ['more where they are used fully', { utilization: 1 }, 6],
    ['fewer where little is done', { utilization: 0.1 }, 1],
    ['one at least', { workers: 1, utilization: 0 }, 1],
    ['no more for what waits and is soon done', { utilization: 0.7, waiting: 5_000 }, 4],
    ['twice as many for what waits for long', { utilization: 0.3, waiting: 7_000 }, 8],
    ['no fewer while calls wait for a slot', { utilization: 0.1, queued: 3 }, 4],
    ['never more than twice as many', { utilization: 10, waiting: 1_000_000 }, 8],
  ])('%s', (_, change, wanted) => {
    expect(wantedOf({ ...load, ...change })).toBe(wanted);
  });

  it('counts workers that compute for so long that they do not answer as busy', () => {
    const silent = Array.from({ length: 4 }, () => ({ functions: ['f'] }));
    expect(scaleOf([], silent)).toMatchObject([{ workers: 4, utilization: 1, wanted: 6 }]);
    expect(scaleOf([], silent, 'g')).toEqual([]);
  });
});
