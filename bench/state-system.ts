/** A broker and workers with functions that use state, for as long as a measurement lasts. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { connect, type Mill, type SettingsInput } from '../src/index.ts';
import { WorkerProcess } from '../src/dev/worker-process.ts';
import type { BrokerCluster } from '../src/broker/index.ts';
import { startBenchBroker, startBenchCluster, type Sync } from './broker.ts';

const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));

export interface System {
  brokerVersion: string;
  url: string;
  /** Those that are started meanwhile are to be put here: they are stopped at the end. */
  processes: WorkerProcess[];
  /** Another worker like those, that is stopped at the end. */
  startWorker(): Promise<void>;
  /** Where there are three servers. */
  cluster: BrokerCluster | undefined;
}

interface SystemOptions {
  /** A folder beside this file. */
  functions?: string;
  /** What is to happen before there are workers. */
  before?: (url: string) => Promise<void>;
  sync?: Sync;
  /** Of the workers. */
  settings?: SettingsInput;
  args?: readonly string[];
  /** One, or three with replicas of everything. */
  servers?: 1 | 3;
}

/** Throws when transactions are left open at the end. */
export async function withSystem(
  workers: number,
  partitions: number,
  run: (mill: Mill, system: System) => Promise<void>,
  {
    functions = 'state-functions',
    before,
    sync,
    settings,
    args = [],
    servers = 1,
  }: SystemOptions = {},
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
  const config = join(folder, 'config.json');
  await writeFile(config, JSON.stringify({ replicas: servers, ...settings, partitions }));
  const clustered = servers === 3 ? await startBenchCluster() : undefined;
  const broker = clustered ?? (await startBenchBroker(sync));
  const folderOf = fileURLToPath(new URL(`./${functions}`, import.meta.url));
  const command = ['worker', '--server', broker.url, '--functions', folderOf, ...args];
  await before?.(broker.url);
  const newWorker = (): WorkerProcess =>
    new WorkerProcess([...command, '--config', config, '--log-level', 'error'], MAIN);
  const processes = Array.from({ length: workers }, newWorker);
  const startWorker = async (): Promise<void> => {
    const worker = newWorker();
    processes.push(worker);
    await worker.ready;
  };
  try {
    await Promise.all(processes.map(async (worker) => worker.ready));
    const mill = await connect({ servers: broker.url.split(',') });
    await allServed(mill, Math.min(workers, partitions));
    const { version: brokerVersion, url } = broker;
    const cluster = clustered?.cluster;
    await run(mill, { brokerVersion, url, processes, startWorker, cluster });
    const { active } = await mill.inspect.transactions();
    if (active.length > 0) throw new Error('transactions are left open');
    await mill.close();
  } finally {
    await Promise.all(processes.map(async (worker) => worker.stop()));
    await broker.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Every partition has an owner, and every worker its share. */
export async function allServed(mill: Mill, owners: number): Promise<void> {
  for (;;) {
    const partitions = await mill.inspect.partitions().catch(() => []);
    const serving = partitions.filter(({ state }) => state === 'serving');
    const all = partitions.length > 0 && serving.length === partitions.length;
    if (all && new Set(serving.map(({ owner }) => owner)).size >= owners) return;
    await delay(50);
  }
}
