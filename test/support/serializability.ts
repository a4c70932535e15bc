/**
 * Checks histories of transactions that read lists and append to them, as Elle does: a list that was read tells in which
 * order all its elements were appended, so that who depended on whom is known, not guessed. A cycle among these and the
 * real-time order means that no serial order explains what was seen.
 */
export interface Operation {
  /** The element that it appends; unique. */
  id: number;
  startMs: number;
  /** Infinity for one whose end nobody has heard of. */
  endMs: number;
  status: 'ok' | 'failed' | 'unknown';
  /** Lists as they were before its own appends; of an unknown one, as far as they are known. */
  reads: { key: string; list: readonly number[] }[];
  appends: readonly string[];
}

type Lists = ReadonlyMap<string, readonly number[]>;
type EdgeKind = 'ww' | 'wr' | 'rw' | 'time';
type Edges = Map<number, Map<number, { kind: EdgeKind; key: string }>>;
type Step = { from: number; kind: EdgeKind; key: string };

/** What is wrong with the history, in words; empty when it is strictly serializable. `final`: the lists at the end. */
export function checkHistory(history: readonly Operation[], final: Lists): string[] {
  const byId = new Map(history.map((operation) => [operation.id, operation]));
  // What is in the lists has happened, whether somebody was told of it or not.
  const committed = history.filter(
    ({ id, status, appends }) =>
      status === 'ok' || appends.some((key) => final.get(key)?.includes(id)),
  );
  const problems = [
    ...checkElements(byId, final),
    ...checkOutcomes(history, final),
    ...checkReads(committed, final),
  ];
  if (byId.size < history.length) problems.push('two operations append the same element');
  if (problems.length > 0) return problems;
  const edges: Edges = new Map();
  addDependencies(edges, committed, final);
  let cycle = shortestCycle(edges);
  if (cycle === undefined) {
    addRealTime(edges, committed);
    cycle = shortestCycle(edges);
  }
  return cycle === undefined ? [] : [describe(cycle, byId)];
}

function* checkElements(byId: ReadonlyMap<number, Operation>, final: Lists): Generator<string> {
  for (const [key, list] of final) {
    const seen = new Set<number>();
    for (const id of list) {
      const writer = byId.get(id);
      if (seen.has(id)) yield `${key} has ${id} twice`;
      seen.add(id);
      if (writer === undefined || !writer.appends.includes(key))
        yield `${key} has ${id}, which nobody appended`;
      else if (writer.status === 'failed') yield `${key} has ${id}, which was aborted`;
    }
  }
}

function* checkOutcomes(history: readonly Operation[], final: Lists): Generator<string> {
  for (const { id, status, appends } of history) {
    const there = appends.filter((key) => final.get(key)?.includes(id));
    if (status === 'ok' && there.length < appends.length) yield `${id} was committed and is lost`;
    if (there.length > 0 && there.length < appends.length) yield `${id} was committed by half`;
  }
}

function* checkReads(committed: readonly Operation[], final: Lists): Generator<string> {
  for (const { id, reads } of committed) {
    for (const { key, list } of reads) {
      const whole = final.get(key) ?? [];
      if (list.some((element, index) => whole[index] !== element)) {
        yield `${id} read ${key} as [${list.join()}], which it never was`;
      }
    }
  }
}

function addDependencies(edges: Edges, committed: readonly Operation[], final: Lists): void {
  for (const [key, list] of final) {
    list.forEach((id, index) => link(edges, list[index - 1], id, 'ww', key));
  }
  for (const { id, reads } of committed) {
    for (const { key, list } of reads) {
      link(edges, list.at(-1), id, 'wr', key);
      link(edges, id, final.get(key)?.[list.length], 'rw', key);
    }
  }
}

/**
 * Who had ended before another began comes before it. By way of nodes that stand for moments: n edges instead of n².
 * One that is reported as unknown may still come to its end afterwards.
 */
function addRealTime(edges: Edges, committed: readonly Operation[]): void {
  const ended = committed
    .filter(({ status }) => status === 'ok')
    .sort((left, right) => left.endMs - right.endMs);
  const moment = (index: number): number => -1 - index;
  ended.forEach(({ id }, index) => {
    link(edges, id, moment(index), 'time', '');
    if (index > 0) link(edges, moment(index - 1), moment(index), 'time', '');
  });
  for (const { id, startMs } of committed) {
    let low = 0;
    let high = ended.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((ended[middle] as Operation).endMs < startMs) low = middle + 1;
      else high = middle;
    }
    if (low > 0) link(edges, moment(low - 1), id, 'time', '');
  }
}

function link(
  edges: Edges,
  from: number | undefined,
  to: number | undefined,
  kind: EdgeKind,
  key: string,
): void {
  if (from === undefined || to === undefined || from === to) return;
  const out = edges.get(from) ?? new Map<number, { kind: EdgeKind; key: string }>();
  // The first kind is the strongest statement about the two: ww and wr come before rw, time comes last.
  if (!out.has(to)) out.set(to, { kind, key });
  edges.set(from, out);
}

function shortestCycle(edges: Edges): Step[] | undefined {
  let best: number[] | undefined;
  for (const start of onCycles(edges)) {
    const path = pathBack(edges, start);
    if (path !== undefined && (best === undefined || path.length < best.length)) best = path;
  }
  return best?.map((from, at, cycle) => {
    const to = cycle[(at + 1) % cycle.length] as number;
    return { from, ...(edges.get(from)?.get(to) as { kind: EdgeKind; key: string }) };
  });
}

function pathBack(edges: Edges, start: number): number[] | undefined {
  const cameFrom = new Map<number, number>();
  const queue = [start];
  for (const node of queue) {
    for (const next of edges.get(node)?.keys() ?? []) {
      if (next === start) {
        const path = [node];
        for (let at = node; at !== start; path.push(at)) at = cameFrom.get(at) as number;
        return path.toReversed();
      }
      if (cameFrom.has(next)) continue;
      cameFrom.set(next, node);
      queue.push(next);
    }
  }
  return undefined;
}

/** Takes away what has no way in, again and again; what is left lies on a cycle, or behind one. */
function onCycles(edges: Edges): Set<number> {
  const waysIn = new Map<number, number>();
  for (const out of edges.values()) {
    for (const to of out.keys()) waysIn.set(to, (waysIn.get(to) ?? 0) + 1);
  }
  const left = new Set([...edges.keys(), ...waysIn.keys()]);
  const free = [...left].filter((node) => !waysIn.has(node));
  for (const node of free) {
    left.delete(node);
    for (const to of edges.get(node)?.keys() ?? []) {
      const count = (waysIn.get(to) as number) - 1;
      waysIn.set(to, count);
      if (count === 0) free.push(to);
    }
  }
  return left;
}

/** With Adya's names of what such a cycle is. */
function describe(cycle: readonly Step[], byId: ReadonlyMap<number, Operation>): string {
  const count = (wanted: EdgeKind): number => cycle.filter(({ kind }) => kind === wanted).length;
  const name =
    count('time') > 0
      ? 'against real time'
      : count('rw') > 1
        ? 'G2'
        : count('rw') === 1
          ? 'G-single'
          : count('wr') > 0
            ? 'G1c'
            : 'G0';
  // Moments are left out: a step by way of them is one step of time.
  const real = cycle.filter(({ from }) => byId.has(from));
  const first = real.findIndex(({ from }) => real.every((other) => from <= other.from));
  const steps = [...real.slice(first), ...real.slice(0, first)];
  const arrows = steps.map(({ from, kind, key }) => `${from} -${kind}${key && ` ${key}`}-> `);
  const members = steps.map(({ from }) => JSON.stringify(byId.get(from)));
  return `no serial order explains (${name}) ${arrows.join('')}${steps[0]?.from}: ${members.join('; ')}`;
}
