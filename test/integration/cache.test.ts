/** Kept answers as their users meet them: at the caller, on workers, and dropped by what changes. */
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectPlain, type NatsConnection } from 'nats';
import { z } from 'zod';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connect, type Mill } from '../../src/client/client.ts';
import { defineFunction } from '../../src/function/define.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const TTL_MS = 60_000;
/** Much less than that; most often it takes milliseconds. */
const SOON_MS = 5_000;
let runs: Record<string, number> = {};
const count = (name: string): number => (runs[name] = (runs[name] ?? 0) + 1);
let failing = false;

const product = z.object({ id: z.string().toLowerCase(), noise: z.number().optional() });
const price = defineFunction({
  name: 'price',
  on: 'price.of',
  delivery: 'ephemeral',
  input: product,
  cache: { ttlMs: TTL_MS, key: ({ data }) => data.id, state: ['prices'] },
  async handler({ data: { id } }, ctx) {
    count('price');
    return (await ctx.state<number>('prices').get(id)) ?? 0;
  },
});
const total = defineFunction({
  name: 'total',
  cache: { ttlMs: TTL_MS, state: ['prices'] },
  async handler({ data }, ctx) {
    count('total');
    const prices = ctx.state<number>('prices');
    let sum = 0;
    for (const id of (data as { ids: string[] }).ids) sum += (await prices.get(id)) ?? 0;
    return sum;
  },
});
const reprice = defineFunction({
  name: 'reprice',
  async handler({ data }, ctx) {
    const { id, value, fail } = data as { id: string; value: number; fail?: boolean };
    await ctx.state<number>('prices').set(id, value);
    if (fail === true) throw new Error('no');
  },
});
const weather = defineFunction({
  name: 'weather',
  cache: { ttlMs: TTL_MS, errorMs: TTL_MS },
  handler: ({ data }) => {
    if (failing) throw new Error('no weather');
    return { place: data, count: count('weather') };
  },
});
const storm = defineFunction({
  name: 'storm',
  on: 'storm',
  invalidates: ['weather', { function: 'price', key: ({ data }) => (data as { id: string }).id }],
  handler: () => {},
});
const quick = defineFunction({
  name: 'quick',
  cache: { ttlMs: 100, staleMs: TTL_MS },
  handler: () => count('quick'),
});
const slow = defineFunction({
  name: 'slow',
  cache: { ttlMs: TTL_MS },
  handler: async () => {
    await delay(300);
    return count('slow');
  },
});
const wrong = defineFunction({
  name: 'wrong',
  cache: { ttlMs: TTL_MS },
  handler: async (_, ctx) => ctx.state('prices').set('x', 1),
});
const calling = defineFunction({
  name: 'calling',
  async handler({ data }, ctx) {
    const { id, value, cache } = data as { id: string; value?: number; cache?: boolean };
    if (value !== undefined) await ctx.state('prices').set(id, value);
    return ctx.invoke('price', { id }, cache === undefined ? {} : { cache });
  },
});
const rate = defineFunction({
  name: 'rate',
  on: 'rate.of',
  delivery: 'ephemeral',
  balance: 'round-robin',
  cache: { ttlMs: TTL_MS },
  handler: () => count('rate'),
});
const hang = defineFunction({
  name: 'hang',
  timeoutMs: 400,
  cache: { ttlMs: TTL_MS },
  handler: async () => {
    count('hang');
    await delay(2_000);
  },
});
const where = defineFunction({
  name: 'where',
  on: 'where.*',
  delivery: 'ephemeral',
  cache: { ttlMs: TTL_MS },
  handler: ({ subject }) => subject,
});
const hail = defineFunction({
  name: 'hail',
  invalidates: [{ function: 'weather', key: () => 'anything' }],
  handler: () => {},
});
const functions = [
  hang,
  where,
  hail,
  rate,
  price,
  total,
  reprice,
  weather,
  storm,
  quick,
  slow,
  wrong,
  calling,
];

let broker: TestBroker;
let workers: TestWorker[];
let mill: Mill;
let other: Mill;
let nats: NatsConnection;
let next = 0;
const newId = (): string => `p${(next += 1)}`;

beforeAll(async () => {
  broker = await startTestBroker();
  nats = await connectPlain({
    servers: broker.url,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 50,
  });
  workers = [
    await startTestWorker(broker.url, functions),
    await startTestWorker(broker.url, functions),
  ];
  mill = await connect({ servers: broker.url });
  other = await connect({ servers: broker.url });
  // A client's first call is made before it has heard what may be kept.
  for (const each of [mill, other]) await each.invoke('price', { id: newId(), noise: 0 });
});

afterAll(async () => {
  await mill.close();
  await other.close();
  for (const worker of workers) await worker.stop();
  await nats.close();
  await broker.stop();
});

beforeEach(() => {
  runs = {};
  failing = false;
});

const ask = async (id: string): Promise<unknown> =>
  (await nats.request('price.of', JSON.stringify({ id }), { timeout: 5_000 })).json();

describe('an answer', () => {
  it('is given again without a message where the key is known, by whoever has asked before', async () => {
    const id = newId();
    const { hits = 0, misses = 0 } = mill.caches['price'] ?? {};
    for (let index = 0; index < 10; index += 1) await mill.invoke(price, { id, noise: index });
    expect(runs['price']).toBe(1);
    expect(mill.caches['price']).toMatchObject({ hits: hits + 9, misses: misses + 1 });
    // By name the key is not known: a worker knows it, and then the answer.
    for (let index = 0; index < 10; index += 1) await other.invoke('price', { id, noise: index });
    for (let index = 0; index < 10; index += 1) await ask(id);
    expect(runs['price']).toBeLessThanOrEqual(3);
    const [report] = (await mill.inspect.functions()).filter(({ name }) => name === 'price');
    expect(report?.cache?.hits).toBeGreaterThanOrEqual(17);
    expect((await mill.inspect.functions()).find(({ name }) => name === 'storm')?.cache).toBeNull();
  });

  it('is given to plain requests that are handed on to another worker, too', async () => {
    for (let index = 0; index < 12; index += 1)
      await nats.request('rate.of', '1', { timeout: 5_000 });
    // Once on each worker at most.
    expect(runs['rate']).toBeLessThanOrEqual(workers.length);
  });

  it('is another object each time, and of its own for another input', async () => {
    const one = (await mill.invoke('weather', 'here')) as { place: string };
    one.place = 'changed';
    expect(await mill.invoke('weather', 'here')).toMatchObject({ place: 'here', count: 1 });
    expect(await mill.invoke('weather', 'there')).toMatchObject({ place: 'there', count: 2 });
  });

  it('is fetched once for many who ask at the same time, each with a deadline of its own', async () => {
    const asked = Array.from({ length: 50 }, async () => mill.invoke('slow', 1));
    const impatient = mill.invoke('slow', 1, { timeoutMs: 50 });
    const aborted = mill.invoke('slow', 1, { signal: AbortSignal.timeout(50) });
    await expect(impatient).rejects.toMatchObject({ code: 'TIMEOUT' });
    await expect(aborted).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(new Set(await Promise.all(asked))).toEqual(new Set([1]));
  });

  it('of a caller with little time is no answer for those with more', async () => {
    const first = mill.invoke('slow', 2, { timeoutMs: 100 });
    const second = mill.invoke('slow', 2);
    await expect(first).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(await second).toBeGreaterThan(0);
  });

  it('nor on a worker, where callers of several processes wait for one run', async () => {
    const inputs = Array.from({ length: 6 }, (_, index) => `several ${index}`);
    const hasty = inputs.map(async (input) => mill.invoke('slow', input, { timeoutMs: 150 }));
    const patient = inputs.map(async (input) => other.invoke('slow', input));
    const outcomes = await Promise.allSettled(hasty);
    expect(outcomes.map(({ status }) => status)).toEqual(inputs.map(() => 'rejected'));
    expect((await Promise.all(patient)).every((count) => Number(count) > 0)).toBe(true);
  });

  it('may be a failure, where the function says so', async () => {
    failing = true;
    await expect(mill.invoke('weather', 'bad')).rejects.toMatchObject({ code: 'FUNCTION_FAILED' });
    failing = false;
    await expect(mill.invoke('weather', 'bad')).rejects.toMatchObject({ message: /no weather/ });
    expect(await mill.invoke('weather', 'bad', { cache: false })).toMatchObject({ place: 'bad' });
  });

  it('is given out of date while a new one is fetched', async () => {
    expect(await mill.invoke('quick', 1)).toBe(1);
    await delay(150);
    expect(await mill.invoke('quick', 1)).toBe(1);
    await until('it was fetched', () => runs['quick'] === 2);
    await until('it is new', async () => (await mill.invoke('quick', 1)) !== 1);
  });

  it('is never kept of a call with an id, nor of a function that changes something', async () => {
    for (let index = 0; index < 3; index += 1)
      await mill.invoke('weather', 'id', { id: `w${index}` });
    expect(runs['weather']).toBe(3);
    await expect(mill.invoke('wrong', 1)).rejects.toMatchObject({
      code: 'FUNCTION_FAILED',
      message: /must not write or emit/,
    });
    await expect(mill.inspect.state('prices', 'x')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('what is asked', () => {
  it('has the key that the function sees, after its schema', async () => {
    const id = newId();
    expect(await mill.invoke(price, { id: id.toUpperCase() })).toBe(0);
    await mill.invoke(reprice, { id, value: 7 });
    await until(
      'the answer is dropped',
      async () => (await mill.invoke(price, { id: id.toUpperCase() })) === 7,
      SOON_MS,
    );
  });

  it('is asked anew by a caller that will keep the answer: a worker’s would be kept for longer than it may', async () => {
    const id = newId();
    await nats.request('millrace.fn.weather', JSON.stringify(id));
    const before = runs['weather'];
    await mill.invoke(weather, id);
    expect(runs['weather']).toBe(Number(before) + 1);
  });

  it('includes the subject, where there is no key', async () => {
    for (const place of ['rome', 'paris', 'rome']) {
      const answer = await nats.request(`where.${place}`, '1', { timeout: 5_000 });
      expect(answer.json()).toBe(`where.${place}`);
    }
  });

  it('and does not end in time is not run again for each who has waited', async () => {
    const asked = Array.from({ length: 20 }, async () =>
      nats.request('millrace.fn.hang', '1', { timeout: 5_000 }),
    );
    for (const { headers } of await Promise.all(asked)) {
      expect(headers?.get('Nats-Service-Error-Code')).toBe('504');
    }
    // On each of the two workers; one more where somebody has come a moment later.
    expect(runs['hang']).toBeLessThanOrEqual(4);
  });
});

describe('what changes', () => {
  it('drops all answers of a function without keys, whichever are named', async () => {
    const id = newId();
    const first = await mill.invoke(weather, id);
    expect(await mill.invoke(weather, id)).toEqual(first);
    await mill.invoke(hail, {});
    await until(
      'the answer is dropped',
      async () => JSON.stringify(await mill.invoke(weather, id)) !== JSON.stringify(first),
      SOON_MS,
    );
  });

  it('in the state of its key drops an answer everywhere, and no other key’s', async () => {
    const [id, same] = [newId(), newId()];
    for (const client of [mill, other]) {
      await client.invoke(price, { id });
      await client.invoke(price, { id: same });
    }
    const before = runs['price'] ?? 0;
    await mill.invoke('reprice', { id, value: 7 });
    for (const client of [mill, other]) {
      await until('it is dropped', async () => (await client.invoke(price, { id })) === 7, SOON_MS);
    }
    await until('plain, too', async () => (await ask(id)) === 7, SOON_MS);
    for (const client of [mill, other]) await client.invoke(price, { id: same });
    expect((runs['price'] ?? 0) - before).toBeLessThanOrEqual(3);
  });

  it('drops all where the function has no key', async () => {
    const id = newId();
    expect(await mill.invoke('total', { ids: [id] })).toBe(0);
    await other.invoke('reprice', { id, value: 3 });
    await until(
      'it is dropped',
      async () => (await mill.invoke('total', { ids: [id] })) === 3,
      SOON_MS,
    );
  });

  it('and is not committed drops nothing', async () => {
    const id = newId();
    await mill.invoke(price, { id });
    const before = runs['price'];
    await expect(mill.invoke('reprice', { id, value: 9, fail: true })).rejects.toThrow('no');
    await delay(200);
    expect(await mill.invoke(price, { id })).toBe(0);
    expect(runs['price']).toBe(before);
  });

  it('is said by a function, of all answers or of a key, also where an event runs it', async () => {
    const [id, same] = [newId(), newId()];
    await mill.invoke('weather', 'home');
    await mill.invoke(price, { id });
    await mill.invoke(price, { id: same });
    const before = { ...runs };
    await mill.publish('storm', { id });
    await until('it is dropped', async () => {
      const { count: now } = (await mill.invoke('weather', 'home')) as { count: number };
      return now > (before['weather'] ?? 0);
    });
    await mill.invoke(price, { id });
    await mill.invoke(price, { id: same });
    expect(runs['price']).toBe((before['price'] ?? 0) + 1);
  });

  it('while a caller was away has dropped all that it had', async () => {
    const id = newId();
    await mill.invoke(price, { id });
    const before = runs['price'] ?? 0;
    expect(mill.caches['price']?.entries).toBeGreaterThan(1);
    await broker.kill();
    await broker.restart();
    await until(
      'it is asked again',
      async () => {
        await mill.invoke(price, { id }).catch(() => {});
        return (runs['price'] ?? 0) > before;
      },
      20_000,
    );
  }, 30_000);
});

describe('a call of a handler', () => {
  it('reads what its transaction has written, and nothing that is kept, unless it says so', async () => {
    const id = newId();
    await mill.invoke('reprice', { id, value: 1 });
    await until('known', async () => (await mill.invoke('calling', { id })) === 1);
    expect(await mill.invoke('calling', { id, value: 2 })).toBe(2);
    expect(await mill.invoke('calling', { id })).toBe(2);
    const before = runs['price'] ?? 0;
    for (let index = 0; index < 10; index += 1) {
      expect(await mill.invoke('calling', { id, cache: true })).toBe(2);
    }
    expect((runs['price'] ?? 0) - before).toBeLessThanOrEqual(2);
    expect(await mill.invoke('calling', { id, value: 5, cache: true })).toBe(2);
  });
});

describe('a function that has changed', () => {
  it('is asked anew', async () => {
    const version = (text: string): ReturnType<typeof defineFunction> =>
      defineFunction({ name: 'versioned', cache: { ttlMs: TTL_MS }, handler: () => text });
    const worker = await startTestWorker(broker.url, [version('one')]);
    await until('it is there', async () => (await mill.invoke('versioned', 1)) === 'one');
    await worker.offer([version('two')], 'v2');
    await until('it is new', async () => (await mill.invoke('versioned', 1)) === 'two', SOON_MS);
    expect(await mill.invoke('versioned', 1)).toBe('two');
    await worker.stop();
  });
});

describe('two versions', () => {
  const version = (text: string): ReturnType<typeof defineFunction> =>
    defineFunction({ name: 'versioned', cache: { ttlMs: TTL_MS }, handler: () => text });

  it.each(['stops', 'dies'])('answers of one that %s are not given any more', async (how) => {
    const former = await startTestWorker(broker.url, [version('former')]);
    const present = await startTestWorker(broker.url, []);
    await present.offer([version('present')], 'v2');
    const ask20 = async (): Promise<unknown[]> =>
      Promise.all(Array.from({ length: 20 }, async (_, at) => mill.invoke('versioned', at)));
    await until('both answer', async () => new Set(await ask20()).size === 2, SOON_MS);
    if (how === 'stops') await former.stop();
    else await former.bus.close();
    await until('only one is left', async () => !(await ask20()).includes('former'), SOON_MS);
    expect(new Set(await ask20())).toEqual(new Set(['present']));
    await present.stop();
  });
});
