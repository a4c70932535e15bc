/** A broker and workers with functions that use state, for as long as a measurement lasts. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { connect, type Mill, type SettingsInput } from '../src/index.ts';
import { WorkerProcess } from '../src/dev/worker-process.ts';
import { startBenchBroker, type Sync } from './broker.ts';

const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));

export interface System {
  brokerVersion: string;
  url: string;
  /** Those that are started meanwhile are to be put here: they are stopped at the end. */
  processes: WorkerProcess[];
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
}

/** Throws when transactions are left open at the end. */
export async function withSystem(
  workers: number,
  partitions: number,
  run: (mill: Mill, system: System) => Promise<void>,
  { functions = 'state-functions', before, sync, settings, args = [] }: SystemOptions = {},
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
  const config = join(folder, 'config.json');
  await writeFile(config, JSON.stringify({ ...settings, partitions }));
  const broker = await startBenchBroker(sync);
  const folderOf = fileURLToPath(new URL(`./${functions}`, import.meta.url));
  const command = ['worker', '--server', broker.url, '--functions', folderOf, ...args];
  await before?.(broker.url);
  const processes = Array.from(
    { length: workers },
    () => new WorkerProcess([...command, '--config', config, '--log-level', 'error'], MAIN),
  );
  try {
    await Promise.all(processes.map(async (worker) => worker.ready));
    const mill = await connect({ servers: broker.url });
    await allServed(mill, Math.min(workers, partitions));
    await run(mill, { brokerVersion: broker.version, url: broker.url, processes });
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
async function allServed(mill: Mill, owners: number): Promise<void> {
  for (;;) {
    const partitions = await mill.inspect.partitions().catch(() => []);
    const serving = partitions.filter(({ state }) => state === 'serving');
    const all = partitions.length > 0 && serving.length === partitions.length;
    if (all && new Set(serving.map(({ owner }) => owner)).size >= owners) return;
    await delay(50);
  }
}
