import { afterEach, beforeEach, expect, it } from 'vitest';
import { defineFunction } from 'millrace';
import { connect, type Mill } from '../../src/client/client.ts';
import type { SettingsInput } from '../../src/core/settings.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const put = defineFunction({
  name: 'put',
  handler: async (_, ctx) => {
    await ctx.state('orders').set('one', 'shown');
    await ctx.state('patients').set('one', 'hidden');
  },
});

let broker: TestBroker;
let workers: TestWorker[] = [];
let mill: Mill;

beforeEach(async () => {
  broker = await startTestBroker();
  mill = await connect({ servers: broker.url });
});

afterEach(async () => {
  await mill.close();
  for (const worker of workers) await worker.stop();
  await broker.stop();
});

async function start(inspectState: SettingsInput['inspectState']): Promise<void> {
  const settings = { partitions: 4, inspectState };
  workers = [
    await startTestWorker(broker.url, [put], settings),
    await startTestWorker(broker.url, [put], settings),
  ];
  await mill.invoke('put');
}

it('inspect shows the collections that the workers open, and of others neither values nor keys', async () => {
  await start({ collections: ['orders'] });
  expect((await mill.inspect.state('orders', 'one')).value).toBe('shown');
  expect((await mill.inspect.list('orders')).items).toHaveLength(1);
  const closed = { code: 'FORBIDDEN' };
  await expect(mill.inspect.state('patients', 'one')).rejects.toMatchObject(closed);
  await expect(mill.inspect.list('patients')).rejects.toMatchObject(closed);
  await expect(mill.inspect.key('patients', 'one')).rejects.toMatchObject(closed);
  // That there is none of this name is not said either.
  await expect(mill.inspect.state('nothing', 'one')).rejects.toMatchObject(closed);
});

it('inspect of all state can be closed; workers and partitions are still shown', async () => {
  await start('closed');
  await expect(mill.inspect.state('orders', 'one')).rejects.toMatchObject({ code: 'FORBIDDEN' });
  await expect(mill.inspect.list('orders')).rejects.toMatchObject({ code: 'FORBIDDEN' });
  expect(await mill.inspect.partitions()).toHaveLength(4);
});
