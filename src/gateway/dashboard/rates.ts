/** What counters have grown by, in a second. Pure. */
import type { LiveParts, FunctionRow } from '../live-parts.ts';

export interface Rates {
  calls: number;
  errors: number;
}

/** Counters begin anew with a worker, so a sum can shrink: then nothing is known. */
export function growth(now: number, before: number, elapsedMs: number): number {
  return elapsedMs <= 0 || now < before ? 0 : ((now - before) * 1_000) / elapsedMs;
}

export function functionRates(
  now: readonly FunctionRow[],
  before: readonly FunctionRow[],
  elapsedMs: number,
): Map<string, Rates> {
  const known = new Map(before.map((row) => [row.name, row]));
  return new Map(
    now.map((row) => {
      const was = known.get(row.name) ?? row;
      const calls = growth(row.calls, was.calls, elapsedMs);
      return [row.name, { calls, errors: growth(row.errors, was.errors, elapsedMs) }];
    }),
  );
}

/** The last values of something, the newest at the end. */
export class History {
  readonly values: number[] = [];
  readonly #length: number;

  constructor(length = 60) {
    this.#length = length;
  }

  add(value: number): void {
    this.values.push(value);
    if (this.values.length > this.#length) this.values.shift();
  }

  get last(): number {
    return this.values.at(-1) ?? 0;
  }
}

export function totals(functions: readonly FunctionRow[], rates: ReadonlyMap<string, Rates>) {
  let [calls, errors, waiting, dead] = [0, 0, 0, 0];
  for (const { name, pending, deadLetters } of functions) {
    calls += rates.get(name)?.calls ?? 0;
    errors += rates.get(name)?.errors ?? 0;
    waiting += pending;
    dead += deadLetters;
  }
  return { calls, errors, waiting, dead };
}

export interface Move {
  atMs: number;
  partition: number;
  from: string | null;
  to: string | null;
}

/** Partitions whose owner is another one now. */
export function movesBetween(
  now: LiveParts['partitions'],
  before: LiveParts['partitions'],
  atMs: number,
): Move[] {
  return now.flatMap(({ id, owner }) => {
    const was = before[id];
    if (was === undefined || was.owner === owner) return [];
    return [{ atMs, partition: id, from: was.owner, to: owner }];
  });
}
