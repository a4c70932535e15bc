/** A transaction's place in the order of those that wait: all attempts of an invocation keep it. */
export interface Age {
  /** Wall clock of the coordinator at the first attempt, in ms: clocks that differ cost fairness, never safety. */
  readonly startMs: number;
  /** The first attempt's id: no two invocations have the same age. */
  readonly first: string;
}

export function isOlder(left: Age, right: Age): boolean {
  if (left.startMs !== right.startMs) return left.startMs < right.startMs;
  return left.first < right.first;
}
