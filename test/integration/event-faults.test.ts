/** Durable events when their stream or its reader is not what it was. */
import { connect as connectPlain, type NatsConnection } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Mill } from '../../src/client/client.ts';
import { defineFunction } from '../../src/function/define.ts';
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
    let refused: unknown;
    for (let count = 0; count < 100 && refused === undefined; count += 1) {
      await mill.publish('sum.it', 1).then(
        () => {
          published += 1;
        },
        (error: unknown) => {
          refused = error;
        },
      );
    }
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
});
