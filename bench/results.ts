import { BASES } from './peers/index.ts';
import type { Measured } from './protocol.ts';

/** One round of one peer at one concurrency. */
export interface Sample extends Measured {
  readonly peer: string;
  readonly concurrency: number;
  readonly round: number;
  readonly workerCpuMs: number;
  readonly brokerCpuMs: number | undefined;
}

/** Medians over the rounds. Ratios are taken within a round and then their median, so that a slow minute of the
 *  machine weighs on both sides. */
export interface Row {
  readonly peer: string;
  readonly concurrency: number;
  readonly rounds: number;
  readonly errors: number;
  readonly callsPerSecond: number;
  readonly slowestRound: number;
  readonly fastestRound: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Caller and worker together. */
  readonly cpuUsPerCall: number;
  readonly brokerCpuUsPerCall: number | undefined;
  readonly ratios: Readonly<Record<keyof typeof BASES, number | undefined>>;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

export function callsPerSecond(sample: Measured): number {
  return (sample.calls * 1_000) / sample.elapsedMs;
}

export function toRow(peer: string, concurrency: number, all: readonly Sample[]): Row | undefined {
  const here = all.filter((sample) => sample.concurrency === concurrency);
  const mine = here.filter((sample) => sample.peer === peer);
  if (mine.length === 0) return undefined;
  const of = (value: (sample: Sample) => number): number => median(mine.map(value));
  const rates = mine.map(callsPerSecond);

  const ratioTo = (base: string): number | undefined => {
    const ratios = mine.flatMap((sample) => {
      const other = here.find(({ peer, round }) => peer === base && round === sample.round);
      return other === undefined ? [] : [callsPerSecond(sample) / callsPerSecond(other)];
    });
    return ratios.length === 0 ? undefined : median(ratios);
  };

  return {
    peer,
    concurrency,
    rounds: mine.length,
    errors: mine.reduce((sum, { errors }) => sum + errors, 0),
    callsPerSecond: median(rates),
    slowestRound: Math.min(...rates),
    fastestRound: Math.max(...rates),
    p50Ms: of(({ p50Ms }) => p50Ms),
    p99Ms: of(({ p99Ms }) => p99Ms),
    cpuUsPerCall: of(({ cpuMs, workerCpuMs, calls }) => ((cpuMs + workerCpuMs) * 1_000) / calls),
    brokerCpuUsPerCall: mine.every(({ brokerCpuMs }) => brokerCpuMs !== undefined)
      ? of(({ brokerCpuMs, calls }) => ((brokerCpuMs ?? Number.NaN) * 1_000) / calls)
      : undefined,
    ratios: {
      request: ratioTo(BASES.request),
      moleculer: ratioTo(BASES.moleculer),
      mux: ratioTo(BASES.mux),
    },
  };
}
