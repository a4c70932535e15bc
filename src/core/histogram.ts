/**
 * Counts durations in buckets that grow by about 4.4 %, from a microsecond to some hours: percentiles within that error,
 * in bounded memory, and histograms of several workers can be added, which percentiles cannot.
 */
const BUCKETS_PER_DOUBLING = 16;
const SMALLEST_MS = 0.001;
const BUCKET_COUNT = 34 * BUCKETS_PER_DOUBLING;

/** Pairs of bucket and count, empty buckets left out: what travels between processes. */
export type SparseHistogram = [bucket: number, count: number][];

export class Histogram {
  private readonly counts = new Float64Array(BUCKET_COUNT);
  private total = 0;

  get count(): number {
    return this.total;
  }

  recordMs(durationMs: number): void {
    const doublings = Math.log2(Math.max(durationMs, SMALLEST_MS) / SMALLEST_MS);
    this.add(Math.min(BUCKET_COUNT - 1, Math.floor(doublings * BUCKETS_PER_DOUBLING)), 1);
  }

  /** Adds what another process counted; buckets out of range are ignored. */
  merge(other: SparseHistogram): void {
    for (const [bucket, count] of other) {
      if (Number.isInteger(bucket) && bucket >= 0 && bucket < BUCKET_COUNT) this.add(bucket, count);
    }
  }

  /** The duration in milliseconds that `share` (0 to 1) of all stay below; 0 when nothing was recorded. */
  percentileMs(share: number): number {
    const wanted = share * this.total;
    let seen = 0;
    for (const [bucket, count] of this.counts.entries()) {
      seen += count;
      if (count > 0 && seen >= wanted) {
        return SMALLEST_MS * 2 ** ((bucket + 0.5) / BUCKETS_PER_DOUBLING);
      }
    }
    return 0;
  }

  /** What is counted in the bucket lasted less than so many doublings of a microsecond; the last one has no bound. */
  static doublingsOf(bucket: number): number {
    return (bucket + 1) / BUCKETS_PER_DOUBLING;
  }

  toSparse(): SparseHistogram {
    const sparse: SparseHistogram = [];
    for (const [bucket, count] of this.counts.entries())
      if (count > 0) sparse.push([bucket, count]);
    return sparse;
  }

  private add(bucket: number, count: number): void {
    this.counts[bucket] = (this.counts[bucket] ?? 0) + count;
    this.total += count;
  }
}
