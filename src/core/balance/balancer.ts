/**
 * Chooses the workers of a process's calls: by the strategy of each function, among those that are not full, silent or failing. Pure:
 * what is heard and how calls end comes in, with its time.
 */
import type { ByName, Candidates, Directory } from '../directory.ts';
import { guarded } from './guarded.ts';
import { STRATEGIES } from './index.ts';
import { began, ended, isOut } from './outliers.ts';
import { random } from './random.ts';
import { DEFAULT_STRATEGY, type Strategy, type StrategyFactory } from './strategy.ts';
import { Track, type Load } from './track.ts';

/** What the end of a call says of its worker: `unknown` for a caller that has not waited, or a mistake of its own. */
export type CallEnd = 'succeeded' | 'failed' | 'unknown';

/** Below it, on all workers, failures are forgotten. */
const FORGOTTEN = 0.01;

interface Balanced {
  name: string;
  strategy: Strategy;
  /** By worker. */
  readonly tracks: Map<string, Track>;
  /** Of the directory, when this was built. */
  version: number;
  candidates: Candidates;
  free: readonly Track[];
  /** Calls are watched for failures since one has failed. */
  failing: boolean;
}

export class Balancer {
  readonly #directory: Directory;
  readonly #random: () => number;
  readonly #warn: (text: string) => void;
  /** Users' own, by the name that functions give. */
  readonly #own = new Map<string, StrategyFactory>();
  readonly #functions = new Map<string, Balanced>();

  constructor(directory: Directory, random: () => number, warn: (text: string) => void = () => {}) {
    this.#directory = directory;
    this.#random = random;
    this.#warn = warn;
  }

  /** A user's own strategy. */
  register(name: string, factory: StrategyFactory): void {
    this.#own.set(name, guarded(name, factory, this.#warn));
    for (const [functionName, balanced] of this.#functions) {
      if (balanced.name === name) this.#functions.delete(functionName);
    }
  }

  /** The worker for a call, another one than `except` if there is another; undefined where none has the function. */
  pick(functionName: string, nowMs: number, except?: string): string | undefined {
    const balanced = this.#of(functionName);
    if (balanced === undefined || !isWatched(balanced)) {
      return this.#directory.pick(functionName, this.#random, except);
    }
    let tracks = balanced.free;
    if (except !== undefined) tracks = tracks.filter(({ id }) => id !== except);
    if (balanced.failing) {
      const inside = tracks.filter(({ failures }) => !isOut(failures, nowMs));
      if (inside.length > 0) tracks = inside;
    }
    if (tracks.length === 0) return this.#directory.pick(functionName, this.#random, except);
    return balanced.strategy.pick(tracks).id;
  }

  /** A call leaves for the worker. What it gives goes to `ended`, once. */
  begun(functionName: string, workerId: string, nowMs: number): Track | undefined {
    const balanced = this.#of(functionName);
    if (balanced === undefined || !isWatched(balanced)) return undefined;
    const track = this.#trackOf(balanced, workerId);
    track.begun();
    if (balanced.failing) began(track.failures, nowMs);
    return track;
  }

  ended(
    functionName: string,
    workerId: string,
    track: Track | undefined,
    end: CallEnd,
    latencyMs: number,
    nowMs: number,
  ): void {
    const failed = end === 'failed';
    track?.ended(end === 'unknown' ? undefined : latencyMs, failed);
    if (end === 'unknown') return;
    const balanced = this.#functions.get(functionName);
    if (balanced === undefined || !(failed || balanced.failing)) return;
    const own = (track ?? this.#trackOf(balanced, workerId)).failures;
    const others = balanced.candidates.free
      .map((id) => this.#trackOf(balanced, id).failures)
      .filter((other) => other !== own);
    ended(own, failed, others, nowMs);
    const failing = [...balanced.tracks.values()].some((each) => each.failures.rate > FORGOTTEN);
    if (failing === balanced.failing) return;
    balanced.failing = failing;
    // It is looked at anew, with accounts or without.
    balanced.version = -1;
  }

  /** With a worker's beat, by function. */
  heard(workerId: string, loads: ByName<Load>): void {
    for (const [functionName, load] of loads) {
      const balanced = this.#of(functionName);
      if (balanced !== undefined) this.#trackOf(balanced, workerId).heard(load);
    }
  }

  #of(functionName: string): Balanced | undefined {
    const { version } = this.#directory;
    const known = this.#functions.get(functionName);
    if (known?.version === version) return known;
    const name = this.#directory.balanceOf(functionName);
    // Names come from callers: only of functions that exist something is kept.
    if (name === undefined) {
      this.#functions.delete(functionName);
      return undefined;
    }
    const balanced = known?.name === name ? known : this.#newBalanced(name);
    this.#functions.set(functionName, balanced);
    balanced.version = version;
    balanced.candidates = this.#directory.candidates(functionName);
    const { free, full, silent } = balanced.candidates;
    const ids = new Set([...free, ...full, ...silent]);
    for (const id of balanced.tracks.keys()) if (!ids.has(id)) balanced.tracks.delete(id);
    balanced.free = isWatched(balanced) ? free.map((id) => this.#trackOf(balanced, id)) : [];
    return balanced;
  }

  #newBalanced(name: string): Balanced {
    // A caller that does not know a user's own strategy chooses at random.
    const factory = STRATEGIES.get(name) ?? this.#own.get(name) ?? random;
    return {
      name,
      strategy: factory(this.#random),
      tracks: new Map(),
      version: -1,
      candidates: { free: [], full: [], silent: [] },
      free: [],
      failing: false,
    };
  }

  #trackOf({ tracks }: Balanced, workerId: string): Track {
    let track = tracks.get(workerId);
    if (track === undefined) {
      track = new Track(workerId, this.#directory.capacityOf(workerId));
      tracks.set(workerId, track);
    }
    return track;
  }
}

/** Calls at random to workers that do not fail need no accounts. */
function isWatched({ name, failing }: Balanced): boolean {
  return failing || name !== DEFAULT_STRATEGY;
}
