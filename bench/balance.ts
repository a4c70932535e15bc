/**
 * What balance, kept answers and more processes cost and bring: one client, the sum of two numbers in 128 bytes of JSON, strategies one
 * after the other in each round. It does not measure: several clients or machines, handlers that take their time (what strategies are for is tested in
 * simulated time, test/property/balance.test.ts), plain NATS requests.
 *
 * - Strategies: calls with 512 in flight, against random in the same round; beside them Moleculer's of the same names, with two workers of its own.
 * - Kept answers: the same calls with so many different inputs that a share of them hits, and with one in flight.
 * - Processes: 1, 2 and 4 workers; where cores are shared CPU time for a call says more than the rate.
 * - Join and leave: the same steady load as a roll while a worker comes and one goes: what moves, how long until it has, what callers feel.
 * - Partitions: likewise while their number is doubled and halved.
 * - Roll: 500 transactions a second at a steady pace while each of three workers is replaced.
 */
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { setTimeout as delay } from 'node:timers/promises';
import type { Mill } from '../src/index.ts';
import { WorkerProcess } from '../src/dev/worker-process.ts';
import { startBenchBroker } from './broker.ts';
import { closedLoop } from './loop.ts';
import { describeMachine, printMachine } from './machine.ts';
import { MoleculerStrategies, type PeerSample } from './moleculer-strategies.ts';
import { Paced, type Felt } from './paced.ts';
import { note, print } from './print.ts';
import { processCpuMs } from './proc.ts';
import type { Measured } from './protocol.ts';
import { callsPerSecond, median } from './results.ts';
import { withSystem } from './state-system.ts';
import { sumRequest, type SumReply } from './work.ts';

const STRATEGIES = ['random', 'round-robin', 'weighted', 'least-loaded'];
const WORKERS = [1, 2, 4];
const IN_FLIGHT = 512;
const PARTITIONS = 8;
const ROLL_PER_SECOND = 500;
const ROLL_WORKERS = 3;
const WARM_MS = 3_000;
const BEFORE_ROLL_MS = 5_000;
const SETTLE_MS = 1_000;
const ALL_KEYS_MS = 21_000;
const FUNCTIONS = 'balance-functions';
const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));

export interface BalanceOptions {
  seconds: number;
  rounds: number;
  /** Parts of it; undefined for all. */
  only: readonly string[] | undefined;
  jsonFile: string | undefined;
}

interface Sample {
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  /** Of caller and workers. */
  cpuUsPerCall: number;
  errors: number;
}

export async function benchBalance(options: BalanceOptions): Promise<void> {
  const { seconds, rounds, only, jsonFile } = options;
  const broker = await startBenchBroker();
  const machine = await describeMachine(broker.version);
  await broker.stop();
  printMachine(machine);
  const parts: Record<string, () => Promise<object>> = {
    strategies: async () => strategies(seconds, rounds),
    cache: async () => cache(seconds),
    processes: async () => processes(seconds),
    join,
    partitions,
    roll,
  };
  const results: Record<string, object> = {};
  for (const [name, part] of Object.entries(parts)) {
    if (only === undefined || only.includes(name)) results[name] = await part();
  }
  if (jsonFile === undefined) return;
  await writeFile(
    jsonFile,
    `${JSON.stringify({ machine, seconds, rounds, ...results }, null, 2)}\n`,
  );
  note(`written to ${jsonFile}`);
}

async function measured(
  mill: Mill,
  name: string,
  seconds: number,
  concurrency = IN_FLIGHT,
  inputs = Infinity,
): Promise<Sample> {
  const pids = (await mill.inspect.workers()).flatMap(({ pid }) => pid ?? []);
  const cpuOf = (): number => pids.reduce((sum, pid) => sum + (processCpuMs(pid) ?? 0), 0);
  const before = cpuOf();
  const call = async (a: number, b: number): Promise<number> => {
    const { sum } = (await mill.invoke(name, sumRequest(a % inputs, b % inputs))) as SumReply;
    return sum + (a - (a % inputs)) + (b - (b % inputs));
  };
  const result: Measured = await closedLoop(
    { call, close: async () => {} },
    { concurrency, seconds },
  );
  return {
    perSecond: Math.round(callsPerSecond(result)),
    p50Ms: round(result.p50Ms),
    p99Ms: round(result.p99Ms),
    cpuUsPerCall: round(((result.cpuMs + cpuOf() - before) * 1_000) / result.calls),
    errors: result.errors,
  };
}

async function strategies(seconds: number, rounds: number): Promise<Record<string, object>> {
  const samples = new Map<string, Sample[]>(STRATEGIES.map((name) => [name, []]));
  await withSystem(
    2,
    PARTITIONS,
    async (mill, { url }) => {
      const moleculer = await MoleculerStrategies.start(url);
      // Warm, and workers have said how fast they are.
      for (const name of STRATEGIES) await measured(mill, name, 1);
      for (const name of moleculer?.names ?? []) {
        await moleculer?.measure(name, { concurrency: IN_FLIGHT, seconds: 1 });
      }
      for (let index = 0; index < rounds; index += 1) {
        for (const name of STRATEGIES) {
          samples.get(name)?.push(await measured(mill, name, seconds));
          if (moleculer?.names.includes(name) !== true) continue;
          const load = { concurrency: IN_FLIGHT, seconds };
          const own = samples.get(`moleculer ${name}`) ?? [];
          samples.set(`moleculer ${name}`, [...own, ofPeer(await moleculer.measure(name, load))]);
        }
      }
      await moleculer?.stop();
    },
    { functions: FUNCTIONS },
  );
  const randoms = samples.get('random') ?? [];
  const rows: Record<string, object> = {};
  for (const [name, own] of samples) {
    const of = (key: keyof Sample): number => median(own.map((each) => each[key]));
    const ratio = round(
      median(own.map((each, at) => each.perSecond / (randoms[at]?.perSecond ?? 1))),
    );
    rows[name] = {
      perSecond: of('perSecond'),
      ratio,
      p50Ms: of('p50Ms'),
      p99Ms: of('p99Ms'),
      cpuUsPerCall: of('cpuUsPerCall'),
    };
    print(
      `${name.padEnd(24)} ${String(of('perSecond')).padStart(7)}/s  ${ratio.toFixed(2)} × random  p50 ${of('p50Ms')} ms  p99 ${of('p99Ms')} ms  ${of('cpuUsPerCall')} µs CPU a call`,
    );
  }
  return rows;
}

function ofPeer(result: PeerSample): Sample {
  return {
    perSecond: Math.round(callsPerSecond(result)),
    p50Ms: round(result.p50Ms),
    p99Ms: round(result.p99Ms),
    cpuUsPerCall: round(((result.cpuMs + result.workerCpuMs) * 1_000) / result.calls),
    errors: result.errors,
  };
}

async function cache(seconds: number): Promise<object[]> {
  const rows: object[] = [];
  await withSystem(
    2,
    PARTITIONS,
    async (mill) => {
      const show = async (
        what: string,
        name: string,
        inFlight: number,
        inputs: number,
      ): Promise<void> => {
        const before = mill.caches[name] ?? { hits: 0, misses: 0, collapsed: 0 };
        const sample = await measured(mill, name, seconds, inFlight, inputs);
        const now = mill.caches[name] ?? before;
        const asked =
          now.hits + now.misses + now.collapsed - before.hits - before.misses - before.collapsed;
        const hitRate = asked === 0 ? 0 : round((now.hits - before.hits) / asked);
        rows.push({ what, ...sample, hitRate });
        print(
          `${what.padEnd(44)} ${String(sample.perSecond).padStart(8)}/s  p50 ${sample.p50Ms} ms  p99 ${sample.p99Ms} ms  hits ${Math.round(hitRate * 100)} %`,
        );
      };
      await show('no cache, one in flight', 'random', 1, 1_000);
      await show('kept answers, one in flight', 'cached', 1, 1_000);
      await show('no cache, 64 in flight', 'random', 64, 1_000);
      await show('kept answers, 64 in flight', 'cached', 64, 1_000);
      await show('kept answers, 64 in flight, all new', 'cached', 64, Infinity);
    },
    { functions: FUNCTIONS },
  );
  return rows;
}

async function processes(seconds: number): Promise<object[]> {
  const rows: object[] = [];
  for (const workers of WORKERS) {
    await withSystem(
      workers,
      PARTITIONS,
      async (mill) => {
        await measured(mill, 'random', 1);
        const sample = await measured(mill, 'random', seconds);
        rows.push({ workers, ...sample });
        print(
          `${workers} workers  ${String(sample.perSecond).padStart(8)}/s  ${sample.cpuUsPerCall} µs CPU a call (caller and workers)`,
        );
      },
      { functions: FUNCTIONS },
    );
  }
  return rows;
}

/** Who owns which partition. */
async function ownersOf(mill: Mill): Promise<(string | null)[]> {
  return (await mill.inspect.partitions()).map(({ owner }) => owner);
}

async function join(): Promise<object> {
  let result = {};
  await withSystem(
    2,
    PARTITIONS,
    async (mill, { url, processes: all }) => {
      const load = new Paced(mill, ROLL_PER_SECOND);
      await delay(WARM_MS);
      load.take();
      await delay(BEFORE_ROLL_MS);
      const before = load.take();
      const first = await ownersOf(mill);
      const folder = fileURLToPath(new URL(`./${FUNCTIONS}`, import.meta.url));
      const command = ['worker', '--server', url, '--functions', folder, '--log-level', 'error'];
      const worker = new WorkerProcess(command, MAIN);
      all.push(worker);
      await worker.ready;
      const readyMs = performance.now();
      const known = new Set(first);
      const share = Math.floor(PARTITIONS / 3);
      let second = first;
      while (second.filter((owner) => owner !== null && !known.has(owner)).length < share) {
        await delay(20);
        second = await ownersOf(mill);
      }
      const joinMs = Math.round(performance.now() - readyMs);
      await delay(SETTLE_MS);
      const joining = load.take();
      const joined = movedBetween(first, await ownersOf(mill));
      const beforeLeave = await ownersOf(mill);
      const leaveStartMs = performance.now();
      await worker.stop();
      const leaveMs = Math.round(performance.now() - leaveStartMs);
      await delay(SETTLE_MS);
      const leaving = load.take();
      const left = movedBetween(beforeLeave, await ownersOf(mill));
      await load.stop();
      const { failures } = load;
      result = { before, joinMs, joined, joining, leaveMs, left, leaving, failures };
      print(
        `a third worker joins: ${joined} of ${PARTITIONS} partitions move, in ${joinMs} ms from ready: ${felt(joining, before)}; it leaves: ${left} move, gone after ${leaveMs} ms: ${felt(leaving, before)}; ${failures} failed`,
      );
    },
    { functions: FUNCTIONS },
  );
  return result;
}

function movedBetween(
  before: readonly (string | null)[],
  after: readonly (string | null)[],
): number {
  return after.filter((owner, partition) => owner !== before[partition]).length;
}

function felt(during: Felt, before: Felt): string {
  return `p99 ${during.p99Ms} ms (before ${before.p99Ms}), the longest ${during.maxMs} ms`;
}

async function partitions(): Promise<object> {
  const rows: object[] = [];
  await withSystem(
    2,
    PARTITIONS,
    async (mill) => {
      const load = new Paced(mill, ROLL_PER_SECOND);
      // Long enough that all keys are there.
      await delay(ALL_KEYS_MS);
      load.take();
      await delay(BEFORE_ROLL_MS);
      const before = load.take();
      for (const to of [PARTITIONS * 2, PARTITIONS]) {
        const startMs = performance.now();
        const { generation } = await mill.partitions.set(to);
        for (;;) {
          const layout = await mill.partitions.layout();
          if (layout.generation === generation && layout.from === to) break;
          await delay(20);
        }
        const changeMs = Math.round(performance.now() - startMs);
        await delay(SETTLE_MS);
        const during = load.take();
        rows.push({ to, changeMs, before, during });
        print(`to ${to} partitions in ${changeMs} ms: ${felt(during, before)}`);
      }
      await load.stop();
      rows.push({ failures: load.failures });
      print(`${load.failures} failed`);
    },
    { functions: FUNCTIONS },
  );
  return rows;
}

async function roll(): Promise<object> {
  let result = {};
  await withSystem(
    ROLL_WORKERS,
    PARTITIONS,
    async (mill, { url, processes: all }) => {
      const load = new Paced(mill, ROLL_PER_SECOND);
      await delay(WARM_MS);
      load.take();
      await delay(BEFORE_ROLL_MS);
      const before = load.take();
      const startMs = performance.now();
      const folder = fileURLToPath(new URL(`./${FUNCTIONS}`, import.meta.url));
      const old = (await mill.inspect.workers()).flatMap(({ pid }) => pid ?? []);
      for (const pid of old) {
        const command = ['worker', '--server', url, '--functions', folder, '--log-level', 'error'];
        const worker = new WorkerProcess(command, MAIN);
        all.push(worker);
        await worker.ready;
        process.kill(pid, 'SIGTERM');
        while (alive(pid)) await delay(20);
      }
      const rollMs = Math.round(performance.now() - startMs);
      const during = load.take();
      await delay(BEFORE_ROLL_MS);
      const after = load.take();
      await load.stop();
      result = {
        rollMs,
        perSecond: ROLL_PER_SECOND,
        before,
        during,
        after,
        failures: load.failures,
      };
      print(
        `roll of ${ROLL_WORKERS} workers in ${rollMs} ms at ${ROLL_PER_SECOND}/s: p99 ${before.p99Ms} ms before, ${during.p99Ms} ms meanwhile (the longest ${during.maxMs} ms), ${after.p99Ms} ms after; ${load.failures} failed`,
      );
    },
    { functions: FUNCTIONS },
  );
  return result;
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
