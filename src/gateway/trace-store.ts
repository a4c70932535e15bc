/** The last traces, put together from runs: collected while somebody looks at them, and not otherwise. */
import type { Run } from '../bus/run-traces.ts';
import type { TraceRow } from './live-parts.ts';

/** What is kept, the oldest going first. */
const MAX_TRACES = 200;
const MAX_RUNS = 200;
/** After the last question the gateway goes on following for so long. */
const IDLE_MS = 10_000;

export interface KeptTrace {
  id: string;
  /** In the order of their start. */
  runs: Run[];
  /** Beyond those. */
  more: number;
}

type Follow = (onRuns: (runs: readonly Run[], dropped: number) => void) => () => void;

export class TraceStore {
  readonly #follow: Follow;
  readonly #idleMs: number;
  readonly #traces = new Map<string, KeptTrace>();
  #stop: (() => void) | undefined;
  #idle: NodeJS.Timeout | undefined;
  /** Runs that workers have left out. */
  dropped = 0;

  constructor(follow: Follow, idleMs = IDLE_MS) {
    this.#follow = follow;
    this.#idleMs = idleMs;
  }

  /** Asking keeps it following. The newest first. */
  list(): TraceRow[] {
    this.#asked();
    return [...this.#traces.values()]
      .map((trace) => rowOf(trace))
      .sort((a, b) => b.startedAtMs - a.startedAtMs);
  }

  get(id: string): KeptTrace | undefined {
    this.#asked();
    const found = this.#traces.get(id);
    return (
      found && { ...found, runs: found.runs.toSorted((a, b) => a.startedAtMs - b.startedAtMs) }
    );
  }

  get isFollowing(): boolean {
    return this.#stop !== undefined;
  }

  close(): void {
    clearTimeout(this.#idle);
    this.#stop?.();
    this.#stop = undefined;
  }

  #asked(): void {
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => this.close(), this.#idleMs);
    this.#idle.unref();
    this.#stop ??= this.#follow((runs, dropped) => {
      this.dropped += dropped;
      for (const run of runs) this.#add(run);
    });
  }

  #add(run: Run): void {
    const known = this.#traces.get(run.trace);
    if (known === undefined) {
      this.#traces.set(run.trace, { id: run.trace, runs: [run], more: 0 });
      const [oldest] = this.#traces.keys();
      if (this.#traces.size > MAX_TRACES && oldest !== undefined) this.#traces.delete(oldest);
    } else if (known.runs.length < MAX_RUNS) known.runs.push(run);
    else known.more += 1;
  }
}

function rowOf({ id, runs, more }: KeptTrace): TraceRow {
  const began = ({ storedAtMs = Infinity, startedAtMs }: Run): number =>
    Math.min(storedAtMs, startedAtMs);
  const roots = runs.filter(({ parent }) => parent === undefined);
  const first = (roots.length === 0 ? runs : roots).reduce((one, other) =>
    began(other) < began(one) ? other : one,
  );
  const startedAtMs = Math.min(...runs.map(began));
  const endedAtMs = Math.max(...runs.map((run) => run.startedAtMs + run.durationMs));
  return {
    id,
    function: first.function,
    subject: first.subject,
    startedAtMs,
    durationMs: endedAtMs - startedAtMs,
    runs: runs.length + more,
    errors: runs.filter(({ error }) => error !== undefined).length,
  };
}
