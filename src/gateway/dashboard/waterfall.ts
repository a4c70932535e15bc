/** Runs of one trace as rows of a waterfall. Pure. */
import type { Run } from '../../bus/run-traces.ts';

export interface WaterfallRow {
  run: Run;
  depth: number;
  /** From the trace's beginning: when its event was stored, where it had to wait. */
  fromMs: number;
  /** Until it began; 0 for what was called. */
  waitedMs: number;
  handlerMs: number;
  commitMs: number;
  /** From the trace's beginning. */
  endMs: number;
}

export interface Waterfall {
  rows: WaterfallRow[];
  beganMs: number;
  durationMs: number;
}

/** What a run has caused comes below it, in the order of its start; runs whose cause is not known stand by themselves. */
export function waterfallOf(runs: readonly Run[]): Waterfall {
  const ids = new Set(runs.map(({ run }) => run));
  const children = new Map<string, Run[]>();
  for (const run of runs.toSorted((a, b) => a.startedAtMs - b.startedAtMs)) {
    const { parent } = run;
    const known = parent !== undefined && parent !== run.run && ids.has(parent) ? parent : '';
    children.set(known, [...(children.get(known) ?? []), run]);
  }
  const began = ({ storedAtMs = Infinity, startedAtMs }: Run): number =>
    Math.min(storedAtMs, startedAtMs);
  const beganMs = runs.length === 0 ? 0 : Math.min(...runs.map(began));
  const rows: WaterfallRow[] = [];
  const seen = new Set<string>();
  const add = (run: Run, depth: number): void => {
    // From outside: what names itself as its cause must not go on for ever.
    if (seen.has(run.run)) return;
    seen.add(run.run);
    const startMs = run.startedAtMs - beganMs;
    const fromMs = began(run) - beganMs;
    rows.push({
      run,
      depth,
      fromMs,
      waitedMs: startMs - fromMs,
      handlerMs: run.handlerMs,
      commitMs: Math.max(0, run.durationMs - run.handlerMs),
      endMs: startMs + run.durationMs,
    });
    for (const child of children.get(run.run) ?? []) add(child, depth + 1);
  };
  for (const run of children.get('') ?? []) add(run, 0);
  return { rows, beganMs, durationMs: Math.max(0, ...rows.map(({ endMs }) => endMs)) };
}
