/** One run of a plan: build a cluster, disturb it, let it settle, check everything. */
import { splitItemKey } from '../../src/core/state/keys.ts';
import type { PartitionOwner } from '../../src/core/state/owner.ts';
import { Accidents } from './accidents.ts';
import { Cluster } from './cluster.ts';
import { checkHistory, type Operation } from '../support/serializability.ts';
import { CALM, isCalm, type Plan } from './plan.ts';
import { Workload } from './workload.ts';

export interface RunResult {
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
const MAX_REPLAY_TRIES = 30;
const SETTLE_MS = 16_000;
const MAX_VIRTUAL_MS = 600_000;

/** `onTrace` is told, line by line, what happens. */
export async function run(plan: Plan, onTrace?: (line: string) => void): Promise<RunResult> {
  const cluster = new Cluster(plan.seed, plan.partitions, onTrace);
  const { clock, store } = cluster;
  for (let count = 0; count < plan.nodes; count += 1) cluster.addNode();
  for (let partition = 0; partition < cluster.partitions; partition += 1) {
    cluster.ensureOwner(partition);
  }
  await clock.run(200);

  cluster.faults = plan;
  store.faults = plan;
  const accidents = new Accidents(cluster, plan);
  const workload = new Workload(cluster, plan);
  workload.start();
  while (!workload.done && clock.nowMs < MAX_VIRTUAL_MS) {
    await clock.run(clock.nowMs + 1_000);
    cluster.violations.push(...leakedLocks(cluster, plan.keys), ...servedTwice(cluster, plan.keys));
    if (cluster.violations.length > 0) break;
  }

  const problems: string[] = [...cluster.violations];
  if (!workload.done) problems.push('operations did not end');
  if (isCalm(plan)) problems.push(...slowOnes(workload.history));
  cluster.faults = CALM;
  store.faults = CALM;
  accidents.stopped = true;
  await clock.run(clock.nowMs + WAKE_MS);
  // A former owner that has had nothing to do need not know yet that it is one.
  for (let partition = 0; partition < cluster.partitions; partition += 1) {
    cluster.take(cluster.addNode(), partition);
  }
  await clock.run(clock.nowMs + SETTLE_MS);
  if (cluster.layout.from !== cluster.layout.to) problems.push('a change does not end');
  // Before the logs are replayed: whoever does that takes the partition over.
  const final = finalLists(cluster);
  problems.push(...(await checkRest(cluster)));
  problems.push(...checkHistory(workload.history, final));
  return {
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

/** Who holds a lock has a session, with an owner or a former one. */
function leakedLocks({ nodes }: Cluster, keys: number): string[] {
  const problems: string[] = [];
  for (const { id, owners } of nodes) {
    for (const [partition, { machine }] of owners) {
      for (let index = 0; index < keys; index += 1) {
        const tx = machine.sessions.holderOf(`list/${index}`);
        if (tx === undefined || machine.sessions.get(tx) !== undefined) continue;
        problems.push(`${id} keeps list/${index} of partition ${partition} locked for ${tx}`);
      }
    }
  }
  return problems;
}

/** I8: who has the last claim of a partition, and serves a key, is alone in it. */
function servedTwice(cluster: Cluster, keys: number): string[] {
  const problems: string[] = [];
  for (let index = 0; index < keys; index += 1) {
    const item = `list/${index}`;
    const serving: number[] = [];
    for (let partition = 0; partition < cluster.partitions; partition += 1) {
      const owner = servingOwner(cluster, partition);
      if (owner?.machine.moves.serves(item) === true) serving.push(partition);
    }
    if (serving.length > 1) problems.push(`${item} is served by partitions ${serving.join()}`);
  }
  return problems;
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
    if (!machine.moves.settled || machine.moves.layout?.generation !== cluster.layout.generation) {
      problems.push(`partition ${partition} has not settled`);
    }
    for (const item of machine.items.keys()) {
      if (!machine.moves.serves(item)) {
        problems.push(`partition ${partition} keeps ${item}, which lies elsewhere`);
      }
    }
    const replayed = await replay(cluster, partition);
    if (replayed === undefined) problems.push(`the log of partition ${partition} cannot be read`);
    else if (JSON.stringify(sorted(replayed)) !== JSON.stringify(sorted(owner)))
      problems.push(`the log of partition ${partition} gives another state`);
  }
  return problems;
}

function sorted({ machine }: PartitionOwner): unknown[] {
  return [...machine.items].sort(([left], [right]) => (left < right ? -1 : 1));
}

/** A former one may not know yet that it is one. */
function servingOwner(cluster: Cluster, partition: number): PartitionOwner | undefined {
  const claimed = cluster.claimedEpoch(partition);
  return cluster.nodes
    .flatMap(({ owners }) => owners.get(partition) ?? [])
    .find(({ epoch }) => epoch === claimed);
}

async function replay(cluster: Cluster, partition: number): Promise<PartitionOwner | undefined> {
  const node = cluster.addNode();
  cluster.retakes = false;
  cluster.nodes = cluster.nodes.filter((other) => other !== node);
  // The present owner is there, and may not let go the first time.
  for (let tries = 0; tries < MAX_REPLAY_TRIES && !node.owners.has(partition); tries += 1) {
    cluster.take(node, partition);
    await cluster.clock.run(cluster.clock.nowMs + 1_000);
  }
  node.alive = false;
  cluster.retakes = true;
  return node.owners.get(partition);
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
