/** Events that a transaction has emitted, where their stream has forgotten that it has them: its duplicate window is over. */
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectNats, nanos, type NatsConnection } from 'nats';
import { defineFunction } from 'millrace';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect, type Mill } from '../../src/client/client.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker } from '../support/worker.ts';

/** The shortest that JetStream takes. */
const WINDOW_MS = 100;
const STREAM = 'REPORTS';

let broker: TestBroker;
let nats: NatsConnection;
let mill: Mill;

beforeEach(async () => {
  broker = await startTestBroker();
  nats = await connectNats({ servers: broker.url });
  mill = await connect({ servers: broker.url });
  const manager = await nats.jetstreamManager();
  await manager.streams.add({
    name: STREAM,
    subjects: ['reports.>'],
    duplicate_window: nanos(WINDOW_MS),
  });
});

afterEach(async () => {
  await mill.close();
  await nats.close();
  await broker.stop();
});

const reporter = defineFunction({
  name: 'reporter',
  async handler(_event, ctx) {
    await ctx.state('reports').set('last', 'new');
    await ctx.emit('reports.new', { hello: 'world' });
  },
});

const billed: string[] = [];
const orders = defineFunction({
  name: 'orders',
  on: 'orders.placed',
  async handler({ id }, ctx) {
    await ctx.state('orders').set(id, 'placed');
    await ctx.emit('orders.billed', null, { id });
  },
});
const bills = defineFunction({
  name: 'bills',
  on: 'orders.billed',
  handler: ({ id }) => void billed.push(id),
});

describe('an event that a transaction has emitted', () => {
  it('is not lost because it has the id of the event that caused it', async () => {
    const worker = await startTestWorker(broker.url, [orders, bills]);
    const first = await mill.publish('orders.placed', null, { id: 'order-7' });
    await until('it is billed', () => billed.length > 0);
    // Published again on the same subject both are the same event.
    expect(await mill.publish('orders.placed', null, { id: 'order-7' })).toEqual({
      ...first,
      duplicate: true,
    });
    const again = await mill.publish('orders.billed', null, { id: 'order-7' });
    expect(again.duplicate).toBe(true);
    await worker.stop();
    expect(billed).toEqual(['order-7']);
  });

  it('is not published again by the next owner, though its stream has forgotten the id', async () => {
    const first = await startTestWorker(broker.url, [reporter]);
    const stored = nats.subscribe('reports.>', {
      max: 1,
      // As a kill would: before anything says in the log that it is published.
      callback: () => void first.bus.close(),
    });
    await mill.invoke('reporter', null, { retry: false, timeoutMs: 1_000 }).catch(() => {});
    await stored.closed;
    // The outage: longer than the stream remembers ids.
    await delay(5 * WINDOW_MS);
    const second = await startTestWorker(broker.url, [reporter]);
    await until('the second worker owns all', async () => {
      const partitions = await mill.inspect.partitions();
      return partitions.every(({ owner }) => owner === second.id);
    });
    await mill.invoke('reporter');
    const manager = await nats.jetstreamManager();
    const { state } = await manager.streams.info(STREAM);
    await second.stop();
    expect(state.messages).toBe(2);
  });
});
