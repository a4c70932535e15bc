/**
 * Power cuts of all brokers at once, of one and of three: what was acknowledged is there afterwards. Beside them the same with the
 * default of nats-server, which syncs every two minutes: there the rig has to find the loss. CHAOS_SECONDS and CHAOS_SEED as in chaos.test.ts.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { connect, defineFunction } from 'millrace';
import { afterAll, describe, expect, it } from 'vitest';
import { startTestBroker } from '../support/broker.ts';
import { Disk, whyNoDisk } from '../support/disk.ts';
import { until } from '../support/wait.ts';
import { startTestWorker } from '../support/worker.ts';
import type { Faults } from './faults.ts';
import { run } from './scenario.ts';

const SECONDS = Number(process.env['CHAOS_SECONDS'] ?? 12);
const SEED = Number(process.env['CHAOS_SEED'] ?? 1);
const WRITES = 200;
const CONFIG = new URL('../../config/nats-server.conf', import.meta.url);

const why = await whyNoDisk();
if (why !== undefined) process.stderr.write(`Power is not cut here: ${why}.\n`);
const folder = await mkdtemp(join(tmpdir(), 'millrace-power-'));
afterAll(async () => rm(folder, { recursive: true, force: true }));

const cutAgainAndAgain: Faults = async (cluster, random, forMs) => {
  const endMs = performance.now() + forMs;
  do {
    await delay(random.between(500, 3_000));
    await cluster.cutPower(random.between(0, 1_000));
  } while (performance.now() < endMs);
};

const add = defineFunction({
  name: 'add',
  async handler(_, ctx) {
    const sums = ctx.state<number>('sums');
    await sums.set('all', ((await sums.get('all')) ?? 0) + 1);
  },
});

/** How many of WRITES acknowledged transactions are there after the power was cut. */
async function leftWith(config: string): Promise<number> {
  const disk = await Disk.open();
  const configFile = join(folder, 'nats-server.conf');
  await writeFile(configFile, config);
  const broker = await startTestBroker({ directory: disk.directory, configFile });
  try {
    const worker = await startTestWorker(broker.url, [add]);
    const mill = await connect({ servers: broker.url });
    for (let write = 0; write < WRITES; write += 1) await mill.invoke('add');
    await mill.close();
    await disk.cutPower([broker.pid], async () => broker.kill());
    await worker.bus.close();
    await broker.restart();
    const other = await startTestWorker(broker.url, [add]);
    const reader = await connect({ servers: broker.url });
    const left = await until('the state is served', async () =>
      reader.inspect.list<number>('sums').then(
        ({ items }) => ({ all: items[0]?.value ?? 0 }),
        () => undefined,
      ),
    );
    await reader.close();
    await other.bus.close();
    return left.all;
  } finally {
    await broker.stop();
    await disk.close();
  }
}

describe.skipIf(why !== undefined)('a power cut', () => {
  it.each<[name: string, servers: 1 | 3]>([
    ['one broker', 1],
    ['three brokers', 3],
  ])(
    'loses nothing that was acknowledged: %s',
    async (name, servers) => {
      const of = { seed: SEED, workers: 3, servers, disk: true, through: 0.1 };
      const numbers = await run({
        ...of,
        name: `the power of ${name} is cut`,
        forMs: SECONDS * 1_000,
        faults: cutAgainAndAgain,
      });
      process.stderr.write(`${numbers}\n`);
      expect(numbers).toContain('ok');
    },
    SECONDS * 1_000 + 300_000,
  );

  it('loses nothing with the configuration that is delivered, and all with the default of nats-server', async () => {
    const config = await readFile(CONFIG, 'utf8');
    expect(await leftWith(config)).toBe(WRITES);
    const unsynced = config.replace(/^\s*sync_interval:.*$/m, '');
    expect(unsynced).not.toBe(config);
    expect(await leftWith(unsynced)).toBeLessThan(WRITES);
  }, 120_000);
});
