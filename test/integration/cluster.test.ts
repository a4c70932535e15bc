/** Three servers that are one cluster; what happens under load when they fail is in test/chaos/servers.test.ts. */
import { connect as connectNats, type JetStreamManager, type NatsConnection } from 'nats';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openBus } from '../../src/client/client.ts';
import { parseSettings, type SettingsInput } from '../../src/core/settings.ts';
import { DeployStore } from '../../src/deploy/store.ts';
import { examine } from '../../src/doctor/examine.ts';
import { platformStreams, raiseReplicas } from '../../src/doctor/streams.ts';
import { connect, defineFunction } from '../../src/index.ts';
import { TestCluster } from '../support/broker-cluster.ts';
import { until } from '../support/wait.ts';
import { startTestWorker } from '../support/worker.ts';
import { isLong } from '../support/long.ts';

let cluster: TestCluster;
let nats: NatsConnection;
let manager: JetStreamManager;

beforeAll(async () => {
  cluster = await TestCluster.start();
  nats = await connectNats({ servers: cluster.urls });
  manager = await nats.jetstreamManager();
});
afterAll(async () => {
  await nats.close();
  await cluster.stop();
});

const count = defineFunction({
  name: 'count',
  on: 'counted.*',
  async handler(_, ctx) {
    const before = (await ctx.state<number>('counts').get('it')) ?? 0;
    await ctx.state('counts').set('it', before + 1);
    return before + 1;
  },
});

/** Everything that a namespace makes. */
async function useAll(settings: SettingsInput): Promise<() => Promise<void>> {
  const worker = await startTestWorker(cluster.url, [count], settings);
  // Where deployed code lies is made when there is some.
  await (await DeployStore.open(worker.bus, parseSettings(settings))).collect(0);
  return async () => void (await worker.stop());
}

async function replicasOf(namespace: string): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for await (const { config } of manager.streams.list()) {
    if (config.name.includes(namespace)) found.set(config.name, config.num_replicas);
  }
  return found;
}

it('all that is made has as many replicas as the setting says, and the doctor knows all of it', async () => {
  const settings = { namespace: 'thrice', replicas: 3 };
  const stop = await useAll(settings);
  const made = await replicasOf('thrice');
  const known = platformStreams(parseSettings(settings)).map(({ stream }) => stream);
  expect([...made.keys()].sort()).toEqual(known.sort());
  expect(new Set(made.values())).toEqual(new Set([3]));
  await stop();
});

it('the doctor finds what is kept on too few servers, changes nothing, and raises it when told to', async () => {
  const stop = await useAll({ namespace: 'once' });
  const mill = await connect({ servers: cluster.urls, namespace: 'once' });
  const opened = await openBus(
    { servers: cluster.urls, settings: { namespace: 'once', replicas: 3 } },
    'doctor',
  );
  const settings = parseSettings({ namespace: 'once', replicas: 3 });
  const monitors = [0, 1, 2].map((server) => cluster.monitor(server));
  try {
    expect(await mill.invoke('count')).toBe(1);
    const before = await replicasOf('once');
    const found = await examine(opened.bus, settings, monitors);
    const failed = found.filter(({ result }) => result === 'fail');
    expect(failed.map(({ name }) => name).sort()).toEqual(
      [...before.keys()].map((name) => `stream ${name}`).sort(),
    );
    expect(failed[0]?.remedy).toContain('millrace doctor --replicas 3 --fix');
    expect(
      found.filter(({ name }) => name.startsWith('sync of')).map(({ result }) => result),
    ).toEqual(['ok', 'ok', 'ok']);
    expect(await replicasOf('once')).toEqual(before);

    expect((await raiseReplicas(opened.bus, settings)).sort()).toEqual([...before.keys()].sort());
    await until('the doctor is content', async () => {
      const now = await examine(opened.bus, settings, []);
      return now.every(({ result }) => result !== 'fail');
    });
    expect(await mill.invoke('count')).toBe(2);
  } finally {
    await mill.close();
    await opened.bus.close();
    await stop();
  }
});

it.runIf(isLong)('a worker that finds no leader does not start without state', async () => {
  await cluster.kill(1);
  await cluster.kill(2);
  await expect(startTestWorker(cluster.url, [count], { replicas: 3 })).rejects.toMatchObject({
    code: 'UNAVAILABLE',
  });
  await Promise.all([1, 2].map(async (server) => cluster.restart(server)));
  await cluster.ready();
});
