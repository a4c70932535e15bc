import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Histogram } from '../../src/core/histogram.ts';

/** Log-uniform from a microsecond to a little under the histogram's end, as durations are. */
const durationMs = fc
  .double({ min: Math.log(0.001), max: Math.log(1.6e7), noNaN: true })
  .map((logarithm) => Math.exp(logarithm));
const durations = fc.array(durationMs, { minLength: 1, maxLength: 300, size: 'max' });

function histogramOf(samples: readonly number[]): Histogram {
  const histogram = new Histogram();
  for (const sample of samples) histogram.recordMs(sample);
  return histogram;
}

describe('a histogram', () => {
  it('gives every percentile within 5 % of the sorted samples', () => {
    const share = fc.double({ min: 0.001, max: 1, noNaN: true });
    fc.assert(
      fc.property(durations, share, (samples, share) => {
        const sorted = [...samples].sort((left, right) => left - right);
        const exact = sorted[Math.ceil(share * sorted.length) - 1] as number;
        const given = histogramOf(samples).percentileMs(share);
        expect(Math.abs(given - exact) / exact).toBeLessThanOrEqual(0.05);
      }),
    );
  });

  it('merged from two is the same as recorded in one', () => {
    fc.assert(
      fc.property(durations, durations, (left, right) => {
        const merged = histogramOf(left);
        merged.merge(histogramOf(right).toSparse());
        const one = histogramOf([...left, ...right]);
        expect(merged.toSparse()).toEqual(one.toSparse());
        expect(merged.count).toBe(left.length + right.length);
        expect(merged.percentileMs(0.9)).toBe(one.percentileMs(0.9));
      }),
    );
  });

  it('says 0 while it is empty', () => {
    expect(new Histogram().percentileMs(0.5)).toBe(0);
    expect(new Histogram().toSparse()).toEqual([]);
  });

  it('counts durations beyond both its ends in its first and last bucket', () => {
    const histogram = histogramOf([0, -5, 1e-9, 1e12, Number.POSITIVE_INFINITY]);
    expect(histogram.toSparse()).toEqual([
      [0, 3],
      [543, 2],
    ]);
  });

  it('ignores merged buckets that it does not have', () => {
    const histogram = new Histogram();
    histogram.merge([
      [-1, 5],
      [0.5, 5],
      [544, 5],
      [7, 2],
    ]);
    expect(histogram.toSparse()).toEqual([[7, 2]]);
    expect(histogram.count).toBe(2);
  });
});
