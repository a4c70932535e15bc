/** Durable events when their stream or its reader is not what it was. */
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectPlain, type NatsConnection } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Mill } from '../../src/client/client.ts';
import { defineFunction } from '../../src/function/define.ts';
import { isLong } from '../support/long.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const STREAM = 'millrace-events';

let broker: TestBroker;
let worker: TestWorker;
let mill: Mill;
let nats: NatsConnection;
let published = 0;

const sum = defineFunction({
  name: 'sum',
  on: 'sum.it',
  handler: async ({ data }, ctx) => {
    const sums = ctx.state<number>('sums');
    await sums.set('all', ((await sums.get('all')) ?? 0) + (data as number));
  },
});

beforeAll(async () => {
  broker = await startTestBroker();
  worker = await startTestWorker(broker.url, [sum]);
  mill = await connect({ servers: broker.url });
  nats = await connectPlain({ servers: broker.url });
});

afterAll(async () => {
  await nats.close();
  await mill.close();
  await worker.stop();
  await broker.stop();
});

const publish = async (count: number): Promise<void> => {
  await Promise.all(Array.from({ length: count }, async () => mill.publish('sum.it', 1)));
  published += count;
};
const allCounted = async (): Promise<void> => {
  const total = async (): Promise<unknown> =>
    mill.inspect.state('sums', 'all').then(
      ({ value }) => value,
      () => 0,
    );
  await until(`${published} are counted`, async () => (await total()) === published, 40_000);
};

const begun: string[] = [];
const slow = defineFunction({
  name: 'slow',
  on: 'slow.it',
  handler: async ({ id }) => {
    begun.push(id);
    await delay(2_500);
  },
});

/** Publishes until one is refused; gives why. */
const fill = async (most: number): Promise<unknown> => {
  for (let count = 0; count < most; count += 1) {
    try {
      await publish(1);
    } catch (error) {
      return error;
    }
  }
  return undefined;
};

describe('durable events', () => {
  it('go on when somebody deletes the consumer that reads them', async () => {
    const manager = await nats.jetstreamManager();
    await publish(20);
    await allCounted();
    for await (const { name } of manager.consumers.list(STREAM)) {
      await manager.consumers.delete(STREAM, name);
    }
    await publish(20);
    await allCounted();
    expect(await mill.inspect.waiting('sum')).toEqual([]);
  }, 60_000);

  it('are refused where their stream is full, and go on when it has room again', async () => {
    const manager = await nats.jetstreamManager();
    await publish(10);
    await allCounted();
    const { config } = await manager.streams.info(STREAM);
    await manager.streams.update(STREAM, { ...config, max_msgs: 15 });
    const refused = await fill(100);
    expect(refused).toMatchObject({ code: 'UNAVAILABLE' });
    expect((refused as Error).message).toContain('maximum messages exceeded');
    await manager.streams.update(STREAM, { ...config, max_msgs: -1 });
    await publish(10);
    await allCounted();
  }, 60_000);

  it('go on behind what somebody has removed from their stream', async () => {
    const manager = await nats.jetstreamManager();
    await publish(5);
    await allCounted();
    await manager.streams.purge(STREAM);
    await publish(20);
    await allCounted();
    const found = (await mill.inspect.functions()).find(({ name }) => name === 'sum');
    expect(found).toMatchObject({ pending: 0, deadLetters: 0, dropped: 0 });
  }, 60_000);

  it.runIf(isLong)(
    'are not run again because the broker was away while they ran elsewhere',
    async () => {
      const workers = [
        await startTestWorker(broker.url, [slow]),
        await startTestWorker(broker.url, [slow]),
      ];
      const ids = Array.from({ length: 12 }, (_, index) => `slow-${index}`);
      for (const id of ids) await mill.publish('slow.it', 1, { id });
      await until('all have begun', async () => begun.length === ids.length);
      await broker.restart();
      await until(
        'all are handled',
        async () =>
          (await mill.inspect.functions().catch(() => [])).some(
            ({ name, pending }) => name === 'slow' && pending === 0,
          ),
        40_000,
      );
      expect(begun.toSorted()).toEqual(ids.toSorted());
      for (const each of workers) await each.stop();
    },
    60_000,
  );
});
