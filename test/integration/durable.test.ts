/** Durable events, as their users meet them: kept until handled, effects once, in order by key, retried, set aside. */
import { connect as connectPlain, type NatsConnection } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Mill } from '../../src/client/client.ts';
import { defineFunction } from '../../src/function/define.ts';
import type { FunctionDefinition } from '../../src/function/definition.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const RETRIES = { maxAttempts: 3, minDelayMs: 50, maxDelayMs: 200 };
let runs: string[] = [];
let failing: (id: string, attempt: number) => Error | undefined = () => undefined;

const count = defineFunction({
  name: 'count',
  on: 'count.*',
  handler: async ({ subject, data }, ctx) => {
    const counters = ctx.state<number>('counters');
    await counters.set(subject, ((await counters.get(subject)) ?? 0) + (data as number));
  },
});
const append = defineFunction({
  name: 'append',
  on: 'append.>',
  key: ({ data }) => (data as { key: string }).key,
  retries: RETRIES,
  handler: async ({ data, attempt }, ctx) => {
    const { key, value } = data as { key: string; value: number };
    runs.push(`${key} ${value} ${attempt}`);
    const error = failing(`${key} ${value}`, attempt);
    if (error !== undefined) throw error;
    const lists = ctx.state<number[]>('lists');
    await lists.set(key, [...((await lists.get(key)) ?? []), value]);
  },
});
const first = defineFunction({
  name: 'first',
  on: 'chain.first',
  handler: async ({ data }, ctx) => {
    for (let copy = 0; copy < 3; copy += 1) await ctx.emit('chain.second', data);
  },
});
const second = defineFunction({
  name: 'second',
  on: 'chain.second',
  handler: async ({ data }, ctx) => {
    const sums = ctx.state<number>('sums');
    await sums.set('chain', ((await sums.get('chain')) ?? 0) + (data as number));
  },
});
const functions = [count, append, first, second];

let broker: TestBroker;
let workers: TestWorker[];
let mill: Mill;
let nats: NatsConnection;

beforeAll(async () => {
  broker = await startTestBroker();
  workers = [
    await startTestWorker(broker.url, functions),
    await startTestWorker(broker.url, functions),
  ];
  mill = await connect({ servers: broker.url });
  nats = await connectPlain({ servers: broker.url });
});

afterAll(async () => {
  await nats.close();
  await mill.close();
  for (const worker of workers) await worker.stop();
  await broker.stop();
});

const valueOf = async (collection: string, key: string): Promise<unknown> =>
  mill.inspect.state(collection, key).then(
    ({ value }) => value,
    () => undefined,
  );
const reaches = async (collection: string, key: string, value: unknown): Promise<void> => {
  await until(`${key} is ${JSON.stringify(value)}`, async () => {
    const now = await valueOf(collection, key);
    return JSON.stringify(now) === JSON.stringify(value);
  });
};
const functionNamed = async (name: string) => {
  const found = (await mill.inspect.functions()).find((each) => each.name === name);
  if (found === undefined) throw new Error(`there is no ${name}`);
  return found;
};

describe('a durable event', () => {
  it('is stored when publish resolves, and runs its function', async () => {
    const receipt = await mill.publish('count.a', 5);
    expect(receipt.stream).toBe('millrace-events');
    await reaches('counters', 'count.a', 5);
  });

  it('may come from any NATS client, with no SDK', async () => {
    nats.publish('count.plain', '7');
    await reaches('counters', 'count.plain', 7);
    expect((await functionNamed('count')).errors).toBe(0);
  });

  it('counts once though it is published twice under its id', async () => {
    const before = await mill.publish('count.twice', 1, { id: 'the same' });
    const again = await mill.publish('count.twice', 1, { id: 'the same' });
    expect([before.duplicate, again.duplicate]).toEqual([false, true]);
    await mill.publish('count.twice', 10);
    await reaches('counters', 'count.twice', 11);
  });

  it('counts once, each of a thousand', async () => {
    await Promise.all(Array.from({ length: 1_000 }, async () => mill.publish('count.many', 1)));
    await reaches('counters', 'count.many', 1_000);
    await until('nothing waits', async () => (await functionNamed('count')).pending === 0);
    expect(await valueOf('counters', 'count.many')).toBe(1_000);
  });

  it('causes others, each once', async () => {
    await Promise.all(Array.from({ length: 50 }, async () => mill.publish('chain.first', 1)));
    await reaches('sums', 'chain', 150);
    await until('nothing waits', async () => (await functionNamed('second')).pending === 0);
    expect(await valueOf('sums', 'chain')).toBe(150);
  });

  it('waits for a function that is away, and is handled when it is back', async () => {
    await Promise.all(workers.map(async (worker) => worker.offer([append, first, second])));
    await mill.publish('count.later', 3);
    expect(await valueOf('counters', 'count.later')).toBeUndefined();
    await Promise.all(workers.map(async (worker) => worker.offer(functions)));
    await reaches('counters', 'count.later', 3);
  });
});

describe('events with a key', () => {
  it('run in order', async () => {
    const keys = Array.from({ length: 10 }, (_, index) => `ordered-${index}`);
    for (let value = 0; value < 20; value += 1) {
      await Promise.all(keys.map(async (key) => mill.publish('append.it', { key, value })));
    }
    const wanted = Array.from({ length: 20 }, (_, value) => value);
    for (const key of keys) await reaches('lists', key, wanted);
    expect((await functionNamed('append')).errors).toBe(0);
  });

  it('wait for one of theirs that fails, and others don’t', async () => {
    failing = (id, attempt) => (id === 'slow 0' && attempt < 3 ? new Error('not yet') : undefined);
    runs = [];
    for (let value = 0; value < 3; value += 1) {
      await mill.publish('append.it', { key: 'slow', value });
      await mill.publish('append.it', { key: 'quick', value });
    }
    await reaches('lists', 'quick', [0, 1, 2]);
    expect(await valueOf('lists', 'slow')).toBeUndefined();
    await reaches('lists', 'slow', [0, 1, 2]);
    expect(runs.filter((run) => run.startsWith('slow'))).toEqual([
      'slow 0 1',
      'slow 0 2',
      'slow 0 3',
      'slow 1 1',
      'slow 2 1',
    ]);
  });

  it('go to the dead letters after their attempts, and those behind go on', async () => {
    failing = (id) => (id === 'dead 0' ? new Error('never') : undefined);
    await mill.publish('append.it', { key: 'dead', value: 0 });
    await mill.publish('append.it', { key: 'dead', value: 1 });
    await reaches('lists', 'dead', [1]);
    expect(await valueOf('lists', 'dead')).toEqual([1]);
    await until('it is dead', async () => (await functionNamed('append')).deadLetters === 1);
  });

  it('are not tried again when their error says so', async () => {
    failing = (id) =>
      id === 'final 0' ? Object.assign(new Error('no use'), { retryable: false }) : undefined;
    runs = [];
    await mill.publish('append.it', { key: 'final', value: 0 });
    await until('it is dead', async () => (await functionNamed('append')).deadLetters === 2);
    expect(runs).toEqual(['final 0 1']);
  });

  it('that cannot be read are dead letters at once', async () => {
    nats.publish('append.it', '{ no json');
    nats.publish('append.it', '{}');
    await until('they are dead', async () => (await functionNamed('append')).deadLetters === 4);
    const codes = (await mill.dead.list()).map(({ failures }) => failures[0]?.code);
    expect(codes.slice(-2)).toEqual(['INVALID_INPUT', 'INVALID_INPUT']);
  });
});

describe('dead letters', () => {
  const deadOf = async (id: string) =>
    (await mill.dead.list({ function: 'append' })).find((each) => each.id === id);

  it('say what happened, and are found by function, error and time', async () => {
    failing = (id) => (id === 'told 7' ? new TypeError('the reason') : undefined);
    const since = new Date();
    const { id } = await mill.publish('append.told', { key: 'told', value: 7 });
    await until('it is dead', async () => (await deadOf(id)) !== undefined);
    const event = await deadOf(id);
    expect(event).toMatchObject({
      function: 'append',
      subject: 'append.told',
      stream: 'millrace-events',
      attempts: 3,
      data: { key: 'told', value: 7 },
    });
    expect(event?.failures).toHaveLength(3);
    expect(event?.failures[2]).toMatchObject({
      attempt: 3,
      code: 'FUNCTION_FAILED',
      version: 'v1',
    });
    expect(event?.failures[2]?.stack).toContain('durable.test.ts');
    const numbers = async (filter: Parameters<typeof mill.dead.list>[0]) =>
      (await mill.dead.list(filter)).map(({ number }) => number);
    expect(await numbers({ error: 'the reason' })).toEqual([event?.number]);
    expect(await numbers({ since, function: 'append' })).toEqual([event?.number]);
    expect(await numbers({ function: 'count' })).toEqual([]);
    expect(await numbers({ limit: 1 })).toHaveLength(1);
    expect(await mill.dead.get(event?.number ?? 0)).toEqual(event);
  });

  it('are handled when they are replayed, as the event that they were', async () => {
    const event = (await mill.dead.list({ error: 'the reason' }))[0];
    failing = () => undefined;
    runs = [];
    await mill.dead.replay(event?.number ?? 0);
    await reaches('lists', 'told', [7]);
    expect(runs).toEqual(['told 7 1']);
    await expect(mill.dead.get(event?.number ?? 0)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(mill.dead.replay(event?.number ?? 0)).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
  });

  it('are gone when they are dropped', async () => {
    const before = await mill.dead.list();
    for (const { number } of before) await mill.dead.drop(number);
    expect(await mill.dead.list()).toEqual([]);
    expect((await functionNamed('append')).deadLetters).toBe(0);
    await expect(mill.dead.drop(before[0]?.number ?? 0)).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
  });
});

describe('streams', () => {
  const offered = async (name: string, on: string, more: object = {}): Promise<TestWorker> =>
    startTestWorker(broker.url, [
      defineFunction({
        name,
        on,
        ...more,
        handler: async ({ data, id }, ctx) => ctx.state('seen').set(id, data),
      }),
    ]);

  it('that capture a subject already are used, from the start where the function says so', async () => {
    const manager = await nats.jetstreamManager();
    await manager.streams.add({ name: 'SHOP', subjects: ['shop.>'] });
    const stored = await nats.jetstream().publish('shop.sold', '1');
    const early = await offered('early', 'shop.*', { from: 'start' });
    const late = await offered('late', 'shop.sold');
    workers.push(early, late);
    await reaches('seen', `SHOP-${stored.seq}`, 1);
    expect((await mill.publish('shop.sold', 2, { id: 'second' })).stream).toBe('SHOP');
    await reaches('seen', 'second', 2);
    const calls = async (name: string): Promise<number> => (await functionNamed(name)).calls;
    await until('both have it', async () => (await calls('late')) === 1);
    expect(await calls('early')).toBe(2);
  });

  it('capture what many workers want that start at once, each other things', async () => {
    const names = Array.from({ length: 12 }, (_, index) => `crowd-${index}`);
    workers.push(...(await Promise.all(names.map(async (name) => offered(name, `${name}.*`)))));
    const streams = await Promise.all(
      names.map(async (name) => (await mill.publish(`${name}.one`, 1)).stream),
    );
    expect(new Set(streams)).toEqual(new Set(['millrace-events']));
  });

  it('capture what sixty functions want that come together, and without those that cannot be', async () => {
    const ran: string[] = [];
    const of = (name: string, on: string): FunctionDefinition =>
      defineFunction({ name, on, handler: ({ subject }) => void ran.push(subject) });
    const many = Array.from({ length: 60 }, (_, index) =>
      of(`many-${index}`, `many.${index}.${index % 2 === 0 ? '*' : 'it'}`),
    );
    const overlapping = [of('across', 'odd.*.b'), of('along', 'odd.a.*')];
    const settings = { namespace: 'together' };
    const worker = await startTestWorker(broker.url, [], settings);
    await expect(worker.offer([...many, ...overlapping])).rejects.toMatchObject({
      code: 'STREAM_UNUSABLE',
      message: expect.stringMatching(/The subject odd\.\S+ overlaps with another fun/) as string,
    });
    await worker.offer(many);
    await using client = await connect({ servers: broker.url, settings });
    for (const index of [0, 1, 58, 59]) await client.publish(`many.${index}.it`, index);
    await until('all have run', () => ran.length === 4);
    expect(ran.toSorted()).toEqual(['many.0.it', 'many.1.it', 'many.58.it', 'many.59.it']);
    await worker.stop();
  });

  it('that give each event to one consumer are refused', async () => {
    const manager = await nats.jetstreamManager();
    await manager.streams.add({
      name: 'QUEUE',
      subjects: ['queue.*'],
      retention: 'workqueue' as never,
    });
    await expect(offered('queued', 'queue.one')).rejects.toMatchObject({
      code: 'STREAM_UNUSABLE',
    });
  });

  it('that capture only some of what a function wants are refused', async () => {
    const manager = await nats.jetstreamManager();
    await manager.streams.add({ name: 'PART', subjects: ['part.one'] });
    await expect(offered('parted', 'part.*')).rejects.toMatchObject({ code: 'STREAM_UNUSABLE' });
  });
});
