/**
 * Serializable transactions: each adds one to some of 10,000 counters, wherever they lie. Broker (every append fsynced),
 * workers and one client on this machine. It does not measure: several machines or replicas, values larger than a
 * number, handlers that do anything else, other systems beside it.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { connect, type Mill } from '../src/index.ts';
import { WorkerProcess } from '../src/dev/worker-process.ts';
import { startBenchBroker } from './broker.ts';
import { describeMachine, printMachine } from './machine.ts';
import { note, print } from './print.ts';

const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const FUNCTIONS = fileURLToPath(new URL('./state-functions', import.meta.url));
const COUNTERS = 10_000;
const ZIPF = 0.99;
const WARM_UP_MS = 2_000;

export interface TransferOptions {
  workers: number;
  concurrency: number;
  seconds: number;
  partitions: readonly number[];
  keys: readonly number[];
  jsonFile: string | undefined;
}

interface Row {
  partitions: number;
  keys: number;
  skew: 'uniform' | 'zipf 0.99';
  /** `false`: the call is sent once; otherwise its answer is kept, as one more write. */
  exactlyOnce: boolean;
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  refused: number;
}

export async function benchTransfer(options: TransferOptions): Promise<void> {
  const rows: Row[] = [];
  const broker = await startBenchBroker();
  const machine = await describeMachine(broker.version);
  await broker.stop();
  printMachine(machine);
  print(`${options.workers} workers, ${options.concurrency} in flight, ${COUNTERS} counters`);
  print('PARTITIONS  KEYS  SKEW       ANSWERS KEPT   PER SECOND   P50 MS   P99 MS   REFUSED');
  for (const partitions of options.partitions) {
    await withSystem(options.workers, partitions, async (mill) => {
      for (const keys of options.keys) {
        rows.push(await measure(mill, options, partitions, keys, 'uniform', false));
      }
      rows.push(await measure(mill, options, partitions, 2, 'uniform', true));
      rows.push(await measure(mill, options, partitions, 2, 'zipf 0.99', false));
    });
  }
  if (options.jsonFile !== undefined) {
    await writeFile(options.jsonFile, `${JSON.stringify({ machine, options, rows }, null, 2)}\n`);
    note(`written to ${options.jsonFile}`);
  }
}

async function withSystem(
  count: number,
  partitions: number,
  run: (mill: Mill) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
  const config = join(folder, 'config.json');
  await writeFile(config, JSON.stringify({ partitions }));
  const broker = await startBenchBroker();
  const command = ['worker', '--server', broker.url, '--functions', FUNCTIONS];
  const workers = Array.from(
    { length: count },
    () => new WorkerProcess([...command, '--config', config, '--log-level', 'error'], MAIN),
  );
  try {
    await Promise.all(workers.map(async (worker) => worker.ready));
    const mill = await connect({ servers: broker.url });
    await allServed(mill);
    await run(mill);
    const expected = await mill.inspect.transactions();
    if (expected.active.length > 0) throw new Error('transactions are left open');
    await mill.close();
  } finally {
    await Promise.all(workers.map(async (worker) => worker.stop()));
    await broker.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

async function allServed(mill: Mill): Promise<void> {
  for (;;) {
    const partitions = await mill.inspect.partitions().catch(() => []);
    if (partitions.length > 0 && partitions.every(({ state }) => state === 'serving')) return;
    await delay(50);
  }
}

async function measure(
  mill: Mill,
  { concurrency, seconds }: TransferOptions,
  partitions: number,
  keys: number,
  skew: Row['skew'],
  exactlyOnce: boolean,
): Promise<Row> {
  const pick = skew === 'uniform' ? () => Math.floor(Math.random() * COUNTERS) : zipf();
  const latencies: number[] = [];
  let refused = 0;
  const phase = { measuring: false, stopped: false };
  const loop = async (): Promise<void> => {
    while (!phase.stopped) {
      const chosen = new Set<string>();
      while (chosen.size < keys) chosen.add(`counter-${pick()}`);
      const startMs = performance.now();
      const failed = await mill.invoke('bump', { keys: [...chosen] }, { retry: exactlyOnce }).then(
        () => false,
        () => true,
      );
      if (!phase.measuring) continue;
      if (failed) refused += 1;
      else latencies.push(performance.now() - startMs);
    }
  };
  const loops = Array.from({ length: concurrency }, loop);
  await delay(WARM_UP_MS);
  phase.measuring = true;
  const startMs = performance.now();
  await delay(seconds * 1_000);
  phase.measuring = false;
  const elapsedMs = performance.now() - startMs;
  phase.stopped = true;
  await Promise.all(loops);
  latencies.sort((left, right) => left - right);
  const at = (share: number): number => latencies[Math.floor(latencies.length * share)] ?? 0;
  const row: Row = {
    partitions,
    keys,
    skew,
    exactlyOnce,
    perSecond: Math.round((latencies.length * 1_000) / elapsedMs),
    p50Ms: Math.round(at(0.5) * 10) / 10,
    p99Ms: Math.round(at(0.99) * 10) / 10,
    refused,
  };
  print(
    [
      String(partitions).padStart(10),
      String(keys).padStart(6),
      `  ${skew.padEnd(10)}`,
      (exactlyOnce ? 'yes' : 'no').padStart(13),
      String(row.perSecond).padStart(13),
      row.p50Ms.toFixed(1).padStart(9),
      row.p99Ms.toFixed(1).padStart(9),
      String(refused).padStart(10),
    ].join(''),
  );
  return row;
}

/** Ranks are spread over the counters, so that the hot ones do not lie side by side. */
function zipf(): () => number {
  const cumulative: number[] = [];
  let sum = 0;
  for (let rank = 1; rank <= COUNTERS; rank += 1) {
    sum += 1 / rank ** ZIPF;
    cumulative.push(sum);
  }
  return () => {
    const wanted = Math.random() * sum;
    let low = 0;
    let high = COUNTERS - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((cumulative[middle] as number) < wanted) low = middle + 1;
      else high = middle;
    }
    return (low * 7_919) % COUNTERS;
  };
}
