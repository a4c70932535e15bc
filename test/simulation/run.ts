/** One run under one seed: build a cluster, disturb it, let it settle, check everything. */
import { splitItemKey } from '../../src/core/state/keys.ts';
import type { PartitionOwner } from '../../src/core/state/owner.ts';
import { CALM, Cluster, type Faults } from './cluster.ts';
import { checkHistory, type Operation } from '../support/history.ts';
import { Workload } from './workload.ts';

export interface RunResult {
  seed: number;
  problems: string[];
  history: Operation[];
  committed: number;
  events: number;
  virtualMs: number;
}

/** The longest pause, and more. */
const WAKE_MS = 6_000;
/** Less than the deadline of an attempt. */
const SLOW_MS = 2_000;
const SETTLE_MS = 16_000;
const MAX_VIRTUAL_MS = 600_000;

export async function run(seed: number, operations = 60): Promise<RunResult> {
  const cluster = new Cluster(seed, 2 + (seed % 4));
  const { clock, random, store } = cluster;
  const nodes = 2 + random.below(3);
  for (let count = 0; count < nodes; count += 1) cluster.addNode();
  for (let partition = 0; partition < cluster.partitions; partition += 1) {
    cluster.ensureOwner(partition);
  }
  await clock.run(200);

  const disturbed = random.chance(0.85);
  if (disturbed) {
    cluster.faults = faultsFrom(cluster);
    store.faults = {
      lostRequest: random.pick([0, 0.01, 0.05]),
      lostAnswer: random.pick([0, 0.01, 0.1]),
      maxDelayMs: random.pick([3, 20, 60]),
    };
    scheduleAccidents(cluster);
  }
  const workload = new Workload(cluster, { clients: 2 + random.below(6), operations, keys: 8 });
  workload.start();
  while (!workload.done && clock.nowMs < MAX_VIRTUAL_MS) await clock.run(clock.nowMs + 1_000);

  const problems: string[] = [...cluster.violations];
  if (!workload.done) problems.push('operations did not end');
  if (!disturbed) problems.push(...slowOnes(workload.history));
  cluster.faults = CALM;
  store.faults = { lostRequest: 0, lostAnswer: 0, maxDelayMs: 3 };
  stopAccidents(cluster);
  await clock.run(clock.nowMs + WAKE_MS);
  // A former owner that has had nothing to do need not know yet that it is one.
  for (let partition = 0; partition < cluster.partitions; partition += 1) {
    cluster.take(cluster.addNode(), partition);
  }
  await clock.run(clock.nowMs + SETTLE_MS);
  problems.push(...(await checkRest(cluster)));
  const final = finalLists(cluster);
  problems.push(...checkHistory(workload.history, final));
  return {
    seed,
    problems,
    history: workload.history,
    committed: workload.history.filter(({ status }) => status === 'ok').length,
    events: clock.events,
    virtualMs: clock.nowMs,
  };
}

/** Where nothing goes wrong nobody waits for a deadline: those that did were in each other's way (I6). */
function slowOnes(history: readonly Operation[]): string[] {
  return history
    .filter(({ status, startMs, endMs }) => status !== 'ok' || endMs - startMs > SLOW_MS)
    .map(
      ({ id, status }) =>
        `${id} ended late or not at all (${status}), though nothing was disturbed`,
    );
}

function faultsFrom({ random }: Cluster): Faults {
  return {
    dropped: random.pick([0, 0.01, 0.1]),
    repeated: random.pick([0, 0.05, 0.3]),
    veryLate: random.pick([0, 0, 0.02, 0.1]),
    misled: 0.01,
    maxDelayMs: random.pick([2, 10, 50]),
  };
}

const stopped = new WeakSet<Cluster>();

function stopAccidents(cluster: Cluster): void {
  stopped.add(cluster);
}

function scheduleAccidents(cluster: Cluster): void {
  const { clock, random } = cluster;
  const everyMs = random.pick([100, 400, 2_000]);
  const next = (): void => {
    clock.after(random.between(0, 2 * everyMs), undefined, () => {
      if (stopped.has(cluster)) return;
      accident(cluster);
      next();
    });
  };
  next();
}

function accident(cluster: Cluster): void {
  const { random, clock, nodes, partitions } = cluster;
  const node = random.pick(nodes);
  const partition = random.below(partitions);
  const what = random.next();
  if (what < 0.3) {
    cluster.crash(node);
    cluster.addNode();
    for (let each = 0; each < partitions; each += 1) {
      clock.after(random.between(1, 300), undefined, () => cluster.ensureOwner(each));
    }
  } else if (what < 0.5) {
    cluster.pause(node, random.pick([50, 500, 5_000]));
    clock.after(random.between(1, 300), undefined, () => {
      for (let each = 0; each < partitions; each += 1) cluster.ensureOwner(each);
    });
  } else {
    // Moved for no reason: two may believe to own it for a while.
    cluster.take(node, partition);
  }
}

/** At rest nothing is locked, in doubt or remembered, and the log alone gives the same partition. */
async function checkRest(cluster: Cluster): Promise<string[]> {
  const problems: string[] = [];
  for (let partition = 0; partition < cluster.partitions; partition += 1) {
    const owner = servingOwner(cluster, partition);
    if (owner === undefined) {
      problems.push(`partition ${partition} has no owner`);
      continue;
    }
    const { machine } = owner;
    if (machine.sessions.size > 0) {
      const left = [...machine.sessions.values()].map(({ tx, state }) => `${tx} ${state}`);
      problems.push(`partition ${partition} has sessions left: ${left.join()}`);
    }
    if (machine.decisions.size > 0) problems.push(`partition ${partition} has decisions left`);
    if (machine.sessions.lockedKeys > 0) problems.push(`partition ${partition} has locks left`);
    const replayed = await replay(cluster, partition);
    const same = JSON.stringify(sorted(replayed)) === JSON.stringify(sorted(owner));
    if (!same) problems.push(`the log of partition ${partition} gives another state`);
  }
  return problems;
}

function sorted({ machine }: PartitionOwner): unknown[] {
  return [...machine.items].sort(([left], [right]) => (left < right ? -1 : 1));
}

/** The owner under the highest epoch: a former one may not know yet that it is one. */
function servingOwner(cluster: Cluster, partition: number): PartitionOwner | undefined {
  return cluster.nodes
    .flatMap(({ owners }) => owners.get(partition) ?? [])
    .sort((left, right) => right.epoch - left.epoch)[0];
}

async function replay(cluster: Cluster, partition: number): Promise<PartitionOwner> {
  const node = cluster.addNode();
  cluster.nodes = cluster.nodes.filter((other) => other !== node);
  cluster.take(node, partition);
  await cluster.clock.run(cluster.clock.nowMs + 1_000);
  node.alive = false;
  return node.owners.get(partition) as PartitionOwner;
}

function finalLists(cluster: Cluster): Map<string, number[]> {
  const lists = new Map<string, number[]>();
  for (let partition = 0; partition < cluster.partitions; partition += 1) {
    for (const [item, { value }] of servingOwner(cluster, partition)?.machine.items ?? []) {
      if (splitItemKey(item).collection === 'list') lists.set(item, JSON.parse(value) as number[]);
    }
  }
  return lists;
}
