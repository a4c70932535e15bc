/** Flow control as its users meet it: over all workers, by function and by key, seen by inspect. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Mill } from '../../src/client/client.ts';
import { defineFunction } from '../../src/function/define.ts';
import type { FunctionDefinition } from '../../src/function/definition.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

interface Task {
  tenant: string;
  number: number;
}
interface Run {
  name: string;
  tenants: string[];
  numbers: number[];
  beganMs: number;
  endedMs: number;
  worker: string;
}

let broker: TestBroker;
let workers: TestWorker[];
let mill: Mill;
let runs: Run[] = [];
let failFirst = false;

const tenantOf = ({ data }: { data: unknown }): string => (data as Task).tenant;
const work =
  (ms: number): FunctionDefinition['handler'] =>
  async (event, ctx) => {
    const tasks = (event.batch ?? [event]).map(({ data }) => data as Task);
    const run: Run = {
      name: ctx.invocation.function,
      tenants: tasks.map(({ tenant }) => tenant),
      numbers: tasks.map(({ number }) => number),
      beganMs: performance.now(),
      endedMs: Infinity,
      worker: ctx.invocation.worker,
    };
    runs.push(run);
    await delay(ms);
    run.endedMs = performance.now();
    if (failFirst && event.attempt === 1) throw new Error('not at first');
    const done = ctx.state<number>('done');
    for (const { tenant, number } of tasks) {
      const key = `${run.name} ${tenant} ${number}`;
      await done.set(key, ((await done.get(key)) ?? 0) + 1);
    }
  };
const RETRIES = { minDelayMs: 20, maxDelayMs: 20 };
const functions = [
  defineFunction({ name: 'two', on: 'two', concurrency: 2, handler: work(30) }),
  defineFunction({
    name: 'each',
    on: 'each',
    concurrency: { limit: 1, key: tenantOf },
    handler: work(20),
  }),
  defineFunction({
    name: 'slow',
    on: 'slow',
    rateLimit: { limit: 5, periodMs: 500 },
    handler: work(0),
  }),
  defineFunction({
    name: 'refusing',
    on: 'refusing',
    rateLimit: { limit: 2, periodMs: 60_000, key: tenantOf, exceeded: 'refuse' },
    handler: work(0),
  }),
  defineFunction({
    name: 'last',
    on: 'last',
    debounce: { waitMs: 300, key: tenantOf },
    handler: work(0),
  }),
  defineFunction({
    name: 'many',
    on: 'many',
    batch: { maxSize: 10, waitMs: 200 },
    retries: RETRIES,
    handler: work(5),
  }),
  defineFunction({
    name: 'ordered',
    on: 'ordered',
    key: tenantOf,
    batch: { maxSize: 4, waitMs: 50 },
    retries: RETRIES,
    handler: work(5),
  }),
  defineFunction({ name: 'single', on: 'single', singleton: true, handler: work(300) }),
  defineFunction({
    name: 'urgent',
    on: 'urgent',
    concurrency: 1,
    priority: ({ data }) => ((data as Task).tenant === 'urgent' ? 1 : 0),
    handler: work(20),
  }),
  defineFunction({ name: 'fair', on: 'fair', concurrency: 1, fair: tenantOf, handler: work(5) }),
];

beforeAll(async () => {
  broker = await startTestBroker();
  workers = [
    await startTestWorker(broker.url, functions),
    await startTestWorker(broker.url, functions),
  ];
  mill = await connect({ servers: broker.url });
  await until('all are dispatched', async () => {
    await mill.publish('two', { tenant: 'warm', number: 0 });
    return runs.length > 3;
  });
});

afterAll(async () => {
  await mill.close();
  for (const worker of workers) await worker.stop();
  await broker.stop();
});

const publish = async (subject: string, tasks: Task[]): Promise<void> => {
  runs = [];
  for (const task of tasks) await mill.publish(subject, task);
};
const tasksOf = (tenants: string[], count: number): Task[] =>
  Array.from({ length: count }, (_, number) => ({
    tenant: tenants[number % tenants.length] as string,
    number,
  }));
const of = (name: string): Run[] => runs.filter((run) => run.name === name);
const ended = async (name: string, count: number): Promise<Run[]> => {
  await until(`${count} of ${name} have run`, async () => {
    const tasks = of(name).filter(({ endedMs }) => endedMs < Infinity);
    return tasks.flatMap(({ numbers }) => numbers).length >= count;
  });
  return of(name);
};
const atOnce = (some: readonly Run[]): number =>
  Math.max(
    ...some.map(
      ({ beganMs }) =>
        some.filter((other) => other.beganMs <= beganMs && other.endedMs > beganMs).length,
    ),
  );
const timesDone = async (name: string, { tenant, number }: Task): Promise<unknown> =>
  (await mill.inspect.state('done', `${name} ${tenant} ${number}`)).value;

describe('concurrency', () => {
  it('bounds the runs of all workers together', async () => {
    await publish('two', tasksOf(['a', 'b'], 20));
    await until('some are seen to wait', async () =>
      (await mill.inspect.waiting('two')).some(
        ({ why, count }) => why === 'concurrency' && count > 0,
      ),
    );
    const all = await ended('two', 20);
    expect(atOnce(all)).toBe(2);
    expect(new Set(all.map(({ worker }) => worker)).size).toBe(2);
    await until('nothing waits', async () => (await mill.inspect.waiting('two')).length === 0);
  });

  it('counts by key', async () => {
    await publish('each', tasksOf(['a', 'b', 'c'], 15));
    const all = await ended('each', 15);
    for (const tenant of ['a', 'b', 'c']) {
      expect(atOnce(all.filter(({ tenants }) => tenants[0] === tenant))).toBe(1);
    }
    expect(atOnce(all)).toBeGreaterThan(1);
  });
});

describe('a rate', () => {
  it('is never exceeded in any period, and delays what is more', async () => {
    await publish('slow', tasksOf(['a'], 16));
    await until('they are seen to wait', async () =>
      (await mill.inspect.waiting('slow')).some(({ why }) => why === 'rate'),
    );
    const all = await ended('slow', 16);
    const began = all.map(({ beganMs }) => beganMs).toSorted((left, right) => left - right);
    for (let index = 5; index < began.length; index += 1) {
      // It was begun by the dispatcher; the way to the handler takes a moment more or less.
      expect((began[index] as number) - (began[index - 5] as number)).toBeGreaterThan(450);
    }
  });

  it('makes dead letters of what is more where it refuses', async () => {
    await publish('refusing', tasksOf(['a', 'b'], 8));
    await until('four are refused', async () => {
      const letters = await mill.dead.list({ function: 'refusing' });
      return letters.length === 4;
    });
    expect(of('refusing')).toHaveLength(4);
    const [letter] = await mill.dead.list({ function: 'refusing' });
    expect(letter?.failures).toMatchObject([{ code: 'RATE_LIMITED' }]);
  });
});

describe('debounce', () => {
  it('runs the last event of a key, when none comes any more', async () => {
    await publish('last', tasksOf(['a', 'b'], 12));
    await until('both have run', async () => of('last').length >= 2);
    await delay(400);
    expect(
      of('last')
        .map(({ numbers }) => numbers[0])
        .toSorted((a, b) => (a ?? 0) - (b ?? 0)),
    ).toEqual([10, 11]);
    const found = (await mill.inspect.functions()).find(({ name }) => name === 'last');
    expect(found).toMatchObject({ dropped: 10, pending: 0 });
  });
});

describe('batches', () => {
  it('run together, each event once, also where the run fails at first', async () => {
    failFirst = true;
    const tasks = tasksOf(['a'], 25);
    await publish('many', tasks);
    await until('all are done', async () => {
      const page = await mill.inspect.list('done', { prefix: 'many ', limit: 100 });
      return page.items.length === 25;
    });
    failFirst = false;
    for (const task of tasks) expect(await timesDone('many', task)).toBe(1);
    expect(Math.max(...of('many').map(({ numbers }) => numbers.length))).toBeGreaterThan(4);
    expect(Math.max(...of('many').map(({ numbers }) => numbers.length))).toBeLessThanOrEqual(10);
  });

  it('are made by key and run in order where the function has a key', async () => {
    const tasks = tasksOf(['a', 'b', 'c'], 30);
    await publish('ordered', tasks);
    const all = await ended('ordered', 30);
    for (const tenant of ['a', 'b', 'c']) {
      const own = all.filter(({ tenants }) => tenants[0] === tenant);
      expect(atOnce(own)).toBe(1);
      const numbers = own.flatMap((run) => run.numbers);
      expect(numbers).toEqual(
        tasks.filter((task) => task.tenant === tenant).map((task) => task.number),
      );
      expect(own.every(({ tenants }) => tenants.every((each) => each === tenant))).toBe(true);
    }
  });
});

describe('a singleton', () => {
  it('drops what comes while one runs', async () => {
    await publish('single', tasksOf(['a'], 5));
    await ended('single', 1);
    await delay(200);
    expect(of('single').map(({ numbers }) => numbers)).toEqual([[0]]);
    await publish('single', tasksOf(['a'], 1));
    await ended('single', 1);
  });
});

describe('turns', () => {
  it('go to higher priorities first', async () => {
    await publish('urgent', [...tasksOf(['later'], 8), ...tasksOf(['urgent'], 3)]);
    const all = await ended('urgent', 11);
    const order = all.map(({ tenants }) => tenants[0]);
    expect(order.lastIndexOf('urgent')).toBeLessThan(8);
  });

  it('are taken by tenants, however much one of them has', async () => {
    await publish('fair', [...tasksOf(['busy'], 40), ...tasksOf(['rare'], 3)]);
    const all = await ended('fair', 43);
    const order = all.map(({ tenants }) => tenants[0]);
    expect(order.lastIndexOf('rare')).toBeLessThan(40);
  });
});
