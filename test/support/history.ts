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
  /** Lists as they were before its own appends. */
  reads: { key: string; list: readonly number[] }[];
  appends: readonly string[];
}

/** What is wrong with the history, in words; empty when it is strictly serializable. `final`: the lists at the end. */
export function checkHistory(
  history: readonly Operation[],
  final: ReadonlyMap<string, readonly number[]>,
): string[] {
  const byId = new Map(history.map((operation) => [operation.id, operation]));
  const problems = [...checkElements(byId, final), ...checkReads(history, final)];
  if (problems.length > 0) return problems;
  return checkCycles(history, byId, final);
}

function* checkElements(
  byId: ReadonlyMap<number, Operation>,
  final: ReadonlyMap<string, readonly number[]>,
): Generator<string> {
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
  for (const { id, status, appends } of byId.values()) {
    const there = appends.filter((key) => final.get(key)?.includes(id));
    if (status === 'ok' && there.length < appends.length) yield `${id} was committed and is lost`;
    if (there.length > 0 && there.length < appends.length) yield `${id} was committed by half`;
  }
}

function* checkReads(
  history: readonly Operation[],
  final: ReadonlyMap<string, readonly number[]>,
): Generator<string> {
  for (const { id, status, reads } of history) {
    if (status !== 'ok') continue;
    for (const { key, list } of reads) {
      const whole = final.get(key) ?? [];
      if (list.some((element, index) => whole[index] !== element)) {
        yield `${id} read ${key} as [${list.join()}], which it never was`;
      }
    }
  }
}

function checkCycles(
  history: readonly Operation[],
  byId: ReadonlyMap<number, Operation>,
  final: ReadonlyMap<string, readonly number[]>,
): string[] {
  const visible = history.filter(
    ({ id, status, appends }) =>
      status === 'ok' || (appends[0] !== undefined && final.get(appends[0])?.includes(id) === true),
  );
  const nodes = new Set(visible.map(({ id }) => id));
  const edges = new Map<number, Set<number>>();
  const add = (from: number | undefined, to: number | undefined): void => {
    if (from === undefined || to === undefined || from === to) return;
    if (!edges.has(from)) edges.set(from, new Set());
    edges.get(from)?.add(to);
  };
  for (const list of final.values()) {
    // ww
    list.forEach((id, index) => add(list[index - 1], id));
  }
  for (const { id, status, reads } of visible) {
    if (status !== 'ok') continue;
    for (const { key, list } of reads) {
      // wr, rw
      add(list.at(-1), id);
      add(id, final.get(key)?.[list.length]);
    }
  }
  addRealTime(visible, add);
  return cyclesIn([...nodes], edges).map(
    (cycle) =>
      `no serial order explains ${cycle
        .filter((id) => byId.has(id))
        .map((id) => `${id} ${JSON.stringify(byId.get(id))}`)
        .join('; ')}`,
  );
}

/** By way of nodes that stand for moments: n edges instead of n². */
function addRealTime(
  operations: readonly Operation[],
  add: (from: number, to: number) => void,
): void {
  const ends = operations.filter(({ endMs }) => endMs < Number.POSITIVE_INFINITY);
  ends.sort((left, right) => left.endMs - right.endMs);
  const moment = (index: number): number => -1 - index;
  ends.forEach(({ id }, index) => {
    add(id, moment(index));
    if (index > 0) add(moment(index - 1), moment(index));
  });
  for (const { id, startMs } of operations) {
    let low = 0;
    let high = ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((ends[middle] as Operation).endMs < startMs) low = middle + 1;
      else high = middle;
    }
    if (low > 0) add(moment(low - 1), id);
  }
}

/** Strongly connected components of more than one node (Tarjan, without recursion). */
function cyclesIn(starts: readonly number[], edges: ReadonlyMap<number, Set<number>>): number[][] {
  const index = new Map<number, number>();
  const low = new Map<number, number>();
  const onStack = new Set<number>();
  const stack: number[] = [];
  const found: number[][] = [];
  for (const start of starts) {
    if (index.has(start)) continue;
    const work: { node: number; next: Iterator<number> }[] = [];
    const enter = (node: number): void => {
      index.set(node, index.size);
      low.set(node, index.size - 1);
      stack.push(node);
      onStack.add(node);
      work.push({ node, next: (edges.get(node) ?? new Set<number>()).values() });
    };
    enter(start);
    for (let frame = work.at(-1); frame !== undefined; frame = work.at(-1)) {
      const { node, next } = frame;
      const step = next.next();
      if (step.done !== true) {
        const to = step.value;
        if (!index.has(to)) enter(to);
        else if (onStack.has(to)) low.set(node, Math.min(low.get(node) ?? 0, index.get(to) ?? 0));
        continue;
      }
      work.pop();
      const above = work.at(-1)?.node;
      if (above !== undefined) low.set(above, Math.min(low.get(above) ?? 0, low.get(node) ?? 0));
      if (low.get(node) !== index.get(node)) continue;
      const component: number[] = [];
      for (let member = stack.pop(); member !== undefined; member = stack.pop()) {
        onStack.delete(member);
        component.push(member);
        if (member === node) break;
      }
      if (component.length > 1) found.push(component);
    }
  }
  return found;
}
