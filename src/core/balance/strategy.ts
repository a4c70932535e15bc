/** How a worker is chosen for a call: one interface, which a user's own strategies implement, too. */

/** A worker that may be chosen, as a strategy sees it. */
export interface Candidate {
  readonly id: string;
  /** Declared by its worker (`--capacity`): one with twice as much is meant for twice the work. */
  readonly capacity: number;
  /** Calls of this caller that are under way there. */
  readonly inFlight: number;
  /** Runs of other callers there, waiting ones included, by the worker's last beat. */
  readonly others: number;
  /** The share of its runs that wait for others to end, from 0 to 1, by the same. */
  readonly waiting: number;
  /** How long a run takes there in milliseconds, by the worker's last beats; undefined where it has said nothing. */
  readonly serviceMs: number | undefined;
  /** From call to answer in milliseconds, lately, as this caller has seen it; undefined where it has not. */
  readonly latencyMs: number | undefined;
}

export interface Strategy {
  /** One of the candidates. `candidates`: at least one, by their ids. Where it throws, or gives another, one is chosen at random, with a warning. */
  pick(candidates: readonly Candidate[]): Candidate;
}

export const DEFAULT_STRATEGY = 'random';

/** Made once for each function in each process that calls it. `random` gives [0, 1). */
export type StrategyFactory = (random: () => number) => Strategy;
