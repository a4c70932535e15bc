/** Runs that are followed over NATS, by real workers. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, defineFunction, type Mill } from 'millrace';
import { RUN_HEADER, type Run } from '../../src/bus/run-traces.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const seen: Record<string, string>[] = [];

const functions = [
  defineFunction({
    name: 'order',
    on: 'shop.order',
    handler: async ({ data }, ctx) => {
      await ctx.invoke('price', {});
      await ctx.state('orders').set('last', data);
      await ctx.emit('shop.mail', {});
      await ctx.emit('shop.note', {});
    },
  }),
  defineFunction({
    name: 'price',
    handler: ({ headers }) => {
      seen.push({ ...headers });
      return 7;
    },
  }),
  defineFunction({ name: 'mail', on: 'shop.mail', handler: () => undefined }),
  defineFunction({
    name: 'note',
    on: 'shop.note',
    delivery: 'ephemeral',
    handler: () => undefined,
  }),
  defineFunction({
    name: 'fails',
    handler: () => {
      throw new Error('a secret');
    },
  }),
];

let broker: TestBroker;
let workers: TestWorker[];
let mill: Mill;

beforeAll(async () => {
  broker = await startTestBroker();
  workers = [
    await startTestWorker(broker.url, functions),
    await startTestWorker(broker.url, functions),
  ];
  mill = await connect({ servers: broker.url });
});
afterAll(async () => {
  await mill.close();
  await Promise.all(workers.map(async (worker) => worker.stop()));
  await broker.stop();
});

describe('runs', () => {
  it('are not told of, and carry nothing, while nobody follows', async () => {
    const [{ bus } = workers[0] as TestWorker] = workers;
    const told: unknown[] = [];
    const subscription = bus.subscribe('millrace.runs.*', (message) => told.push(message));
    let header: string | undefined;
    const events = bus.subscribe('shop.mail', ({ headers }) => (header = headers?.get(RUN_HEADER)));
    await mill.publish('shop.order', { id: 0 });
    await until('the event is emitted', () => header !== undefined);
    expect(header).toBe('');
    expect(told).toEqual([]);
    subscription.unsubscribe();
    events.unsubscribe();
  });

  it('are told of with what caused them, across workers, calls, and events of both kinds', async () => {
    const runs: Run[] = [];
    const stop = mill.traces.follow((more) => runs.push(...more));
    await until('an order was followed whole', async () => {
      await mill.publish('shop.order', { id: 1, card: 'secret' });
      const order = runs.find(({ function: name }) => name === 'order');
      return runs.filter(({ trace }) => trace === order?.trace).length >= 4;
    });
    stop();
    const order = runs.find(({ function: name }) => name === 'order') as Run;
    const same = runs.filter(({ trace }) => trace === order.trace);
    expect(same.map(({ function: name }) => name).sort()).toEqual([
      'mail',
      'note',
      'order',
      'price',
    ]);
    for (const each of same) expect(each.parent).toBe(each === order ? undefined : order.run);
    expect(order.emitted.map(({ subject }) => subject)).toEqual(['shop.mail', 'shop.note']);
    expect(order.calls).toMatchObject([
      { function: 'price', durationMs: expect.any(Number) as number },
    ]);
    expect(order.storedAtMs).toBeLessThanOrEqual(order.startedAtMs + 1);
    expect(order.handlerMs).toBeGreaterThan(0);
    expect(order.durationMs).toBeGreaterThan(order.handlerMs);
    expect(JSON.stringify(runs)).not.toContain('secret');
    // A handler that passes its headers on must not fail because somebody looks.
    expect(
      seen.flatMap((headers) => Object.keys(headers)).filter((name) => name === RUN_HEADER),
    ).toEqual([]);
  });

  it('that fail are told of by their code alone', async () => {
    const runs: Run[] = [];
    const stop = mill.traces.follow((more) => runs.push(...more));
    await until('a failure was followed', async () => {
      await mill.invoke('fails', {}).catch(() => {});
      return runs.some(({ function: name }) => name === 'fails');
    });
    stop();
    expect(runs.find(({ function: name }) => name === 'fails')).toMatchObject({
      error: 'FUNCTION_FAILED',
    });
    expect(JSON.stringify(runs)).not.toContain('secret');
  });

  it('are a bounded number in a second, however many there are', async () => {
    const traces = new Map<string, Set<string>>();
    const windows = new Set<number>();
    const stop = mill.traces.follow((more) => {
      for (const { trace, worker, startedAtMs } of more) {
        const of = traces.get(worker) ?? new Set();
        traces.set(worker, of.add(trace));
        windows.add(Math.floor(startedAtMs / 1_000));
      }
    });
    await until('both workers tell', async () => {
      await Promise.all(Array.from({ length: 200 }, async () => mill.invoke('price', {})));
      return traces.size === 2;
    });
    stop();
    for (const of of traces.values()) expect(of.size).toBeLessThanOrEqual(20 * (windows.size + 1));
  });
});
