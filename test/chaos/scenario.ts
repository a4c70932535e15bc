/** One run: a cluster at work while things happen to it, then the proof that nothing went wrong. */
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type Mill } from 'millrace';
import { checkHistory } from '../support/serializability.ts';
import { Random } from '../support/random.ts';
import { Cluster } from './cluster.ts';
import type { Faults } from './faults.ts';
import { Workload, type Noted } from './workload.ts';

export interface Scenario {
  name: string;
  seed: number;
  workers: number;
  /** One, or three with replicas of everything. */
  servers?: 1 | 3;
  /** Its power can be cut. */
  disk?: boolean;
  forMs: number;
  faults: Faults;
  /** The share of steps that are done by a call of another function. */
  through: number;
}

/** Answers that are asked for again at the end. */
const REPEATED_AT_END = 100;
const SHOWN_PROBLEMS = 5;
const SHOWN_CHARACTERS = 1_500;
const SHOWN_OPERATIONS = 12;

/** A cluster that commits nothing keeps every promise, too. */
const MIN_OK = 50;

/** Throws with seed and an excerpt when something is not as promised; gives a line of numbers otherwise. */
export async function run(scenario: Scenario): Promise<string> {
  const random = new Random(scenario.seed);
  const cluster = await Cluster.start(scenario.workers, 'chaos', {
    servers: scenario.servers ?? 1,
    disk: scenario.disk,
  });
  let mill: Mill | undefined;
  let workload: Workload | undefined;
  const problems: string[] = [];
  let settledMs = Number.NaN;
  let logs: string[] = [];
  try {
    mill = await connect({ servers: cluster.url.split(',') });
    await cluster.settled(mill);
    const chance = new Random(random.below(2 ** 32));
    workload = new Workload(mill, chance, `${scenario.seed}`, scenario.through);
    await scenario.faults(cluster, random, scenario.forMs);
    await workload.stop();
    settledMs = await cluster.settled(mill);
    await cluster.startAfresh();
    await cluster.settled(mill);
    problems.push(...(await check(workload)), ...cluster.broken);
  } catch (error) {
    problems.push(...cluster.broken, String(error));
  } finally {
    await workload?.stop();
    await mill?.close();
    logs = cluster.logs();
    await cluster.stop();
  }
  const numbers = numbersOf(scenario, cluster, workload, settledMs);
  if (problems.length === 0) return numbers;
  throw new Error(await failureOf(scenario, { cluster, workload, logs }, problems, numbers));
}

async function check(workload: Workload): Promise<string[]> {
  await workload.resolve(0.5);
  const { lists, total } = await workload.readAll();
  await workload.repeatSome(REPEATED_AT_END);
  const again = await workload.readAll();
  const problems = [...workload.problems, ...checkHistory(workload.history, lists)];
  const ok = workload.history.filter(({ status }) => status === 'ok').length;
  if (ok < MIN_OK) problems.push(`No more than ${ok} operations were answered.`);
  if (total !== 0) problems.push(`The accounts have ${total} together instead of 0.`);
  if (JSON.stringify([...again.lists]) !== JSON.stringify([...lists])) {
    problems.push('Lists changed though all requests had been made before.');
  }
  return problems;
}

function numbersOf(
  { name, seed }: Scenario,
  cluster: Cluster,
  workload: Workload | undefined,
  settledMs: number,
): string {
  const history = workload?.history ?? [];
  const count = (status: Noted['status']): number =>
    history.filter((noted) => noted.status === status).length;
  const inFaults = history.filter(
    ({ status, endMs }) =>
      status === 'ok' &&
      cluster.faults.some((fault) => fault.startMs <= endMs && endMs <= fault.endMs),
  );
  return [
    `${name} (seed ${seed}): ${history.length} operations`,
    `${count('ok')} ok (${inFaults.length} during faults)`,
    `${count('failed')} failed`,
    `${count('unknown')} unknown`,
    `${history.filter(({ sent }) => sent > 1).length} sent again`,
    `${workload?.repeated ?? 0} answers repeated`,
    `${workload?.totals ?? 0} totals`,
    `${cluster.faults.length} faults`,
    `a key away for ${Math.round(longestAway(history))} ms at the longest`,
    `settled after ${Math.round(settledMs)} ms`,
  ].join(', ');
}

/** Between two operations on one key alone that were answered, of which there is always one under way. */
function longestAway(history: readonly Noted[]): number {
  const last = new Map<string, number>();
  let longest = 0;
  const probes = history.filter(
    ({ status, request }) => status === 'ok' && request.steps.length === 1,
  );
  for (const { request, endMs } of probes.sort((left, right) => left.endMs - right.endMs)) {
    const [key = ''] = request.steps[0]?.key.split('.') ?? [];
    longest = Math.max(longest, endMs - (last.get(key) ?? endMs));
    last.set(key, endMs);
  }
  return longest;
}

async function failureOf(
  { name, seed, forMs }: Scenario,
  { cluster, workload, logs }: { cluster: Cluster; workload: Workload | undefined; logs: string[] },
  problems: readonly string[],
  numbers: string,
): Promise<string> {
  const history = workload?.history ?? [];
  const file = join(await mkdtemp(join(tmpdir(), 'millrace-chaos-')), 'history.json');
  const whole = { name, seed, problems, faults: cluster.faults, history, logs };
  await writeFile(file, JSON.stringify(whole, undefined, 1));
  const shown = problems.slice(0, SHOWN_PROBLEMS).map((each) => each.slice(0, SHOWN_CHARACTERS));
  const named = new Set(shown.flatMap((each) => each.match(/\b\d+\b/g) ?? []).map(Number));
  const excerpt = history.filter(({ id }) => named.has(id)).slice(0, SHOWN_OPERATIONS);
  return [
    `${problems.length} problems: ${numbers}`,
    ...shown,
    ...excerpt.map((noted) => JSON.stringify(noted).slice(0, SHOWN_CHARACTERS)),
    `The whole history: ${file}`,
    `Again: CHAOS_SEED=${seed} CHAOS_SECONDS=${forMs / 1_000} npm run test:chaos -- -t '${name}'`,
  ].join('\n');
}
