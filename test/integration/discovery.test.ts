import { connect as connectNats, type NatsConnection, type ServiceIdentity } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, defineFunction, type Mill } from 'millrace';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const add = defineFunction({
  name: 'add',
  on: 'math.add',
  delivery: 'ephemeral',
  handler: ({ data }) => {
    const { a, b } = data as { a: number; b: number };
    if (Number.isNaN(a + b)) throw new Error('not numbers');
    return a + b;
  },
});

let broker: TestBroker;
let nats: NatsConnection;
let mill: Mill;
const workers: TestWorker[] = [];

beforeAll(async () => {
  broker = await startTestBroker();
  nats = await connectNats({ servers: broker.url });
  mill = await connect({ servers: broker.url });
  workers.push(await startTestWorker(broker.url, [add]), await startTestWorker(broker.url, [add]));
});
afterAll(async () => {
  await mill.close();
  await Promise.all(workers.map((worker) => worker.stop()));
  await nats.close();
  await broker.stop();
});

async function all<Item>(items: Promise<AsyncIterable<Item>>): Promise<Item[]> {
  const list: Item[] = [];
  for await (const item of await items) list.push(item);
  return list;
}

describe('NATS service discovery, as the nats package’s own client sees it,', () => {
  const byId = (left: ServiceIdentity, right: ServiceIdentity): number =>
    left.id < right.id ? -1 : 1;

  it('finds every worker by ping, by name and by id', async () => {
    const client = nats.services.client();
    const expected = workers.map(({ id }) => id).sort();
    for (const found of [await all(client.ping()), await all(client.ping('millrace'))]) {
      expect(found.sort(byId).map(({ id }) => id)).toEqual(expected);
    }
    const [one] = expected;
    expect(await all(client.ping('millrace', one))).toMatchObject([{ id: one, name: 'millrace' }]);
  });

  it('shows functions as endpoints that can be called', async () => {
    const [info] = await all(nats.services.client().info());
    const [endpoint] = info?.endpoints ?? [];
    expect(endpoint).toMatchObject({
      name: 'add',
      subject: 'millrace.fn.add',
      queue_group: 'millrace-add',
      metadata: { on: 'math.add' },
    });
    const answer = await nats.request(endpoint?.subject ?? '', '{"a":1,"b":2}');
    expect(answer.string()).toBe('3');
  });

  it('counts requests, errors and time', async () => {
    const before = await totals();
    await mill.invoke('add', { a: 1, b: 2 });
    await mill.invoke('add', { a: 1 }).catch(() => {});
    const after = await totals();
    expect(after.requests - before.requests).toBe(2);
    expect(after.errors - before.errors).toBe(1);
    expect(after.time).toBeGreaterThan(before.time);
    expect(after.lastErrors).toContain('add failed: not numbers');
  });

  async function totals(): Promise<{
    requests: number;
    errors: number;
    time: number;
    lastErrors: (string | undefined)[];
  }> {
    const stats = await all(nats.services.client().stats());
    const endpoints = stats.flatMap((each) => each.endpoints ?? []);
    const sum = (numbers: number[]): number => numbers.reduce((left, right) => left + right, 0);
    return {
      requests: sum(endpoints.map((endpoint) => endpoint.num_requests)),
      errors: sum(endpoints.map((endpoint) => endpoint.num_errors)),
      time: sum(endpoints.map((endpoint) => endpoint.processing_time)),
      lastErrors: endpoints.map((endpoint) => endpoint.last_error),
    };
  }
});

describe('inspection by plain NATS requests', () => {
  it('lists workers and functions as the contract has them', async () => {
    const { workers: list } = (await nats.request('millrace.inspect.workers')).json<{
      workers: Record<string, unknown>[];
    }>();
    expect(list).toHaveLength(2);
    expect(Object.keys(list[0] ?? {})).toEqual(
      expect.arrayContaining([
        'id',
        'pid',
        'host',
        'startedAt',
        'state',
        'functions',
        'partitions',
        'inFlight',
        'capacity',
      ]),
    );
    const { functions } = (await nats.request('millrace.inspect.functions')).json<{
      functions: Record<string, unknown>[];
    }>();
    expect(functions).toHaveLength(1);
    expect(functions[0]).toMatchObject({
      name: 'add',
      version: 'v1',
      on: ['math.add'],
      delivery: 'ephemeral',
      balance: 'random',
      workers: 2,
      pending: 0,
      deadLetters: 0,
    });
  });

  it('answers NOT_FOUND for what does not exist', async () => {
    const answer = await nats.request('millrace.inspect.nonsense');
    expect(answer.json()).toMatchObject({ error: { code: 'NOT_FOUND' } });
    expect(answer.headers?.get('Nats-Service-Error-Code')).toBe('404');
  });
});

describe('namespaces', () => {
  it('keep two installations on one server apart', async () => {
    const other = await startTestWorker(broker.url, [add], { namespace: 'other' });
    await using mine = await connect({ servers: broker.url, namespace: 'other' });
    expect((await mine.inspect.workers()).map(({ id }) => id)).toEqual([other.id]);
    expect((await mill.inspect.workers()).map(({ id }) => id)).not.toContain(other.id);
    await other.stop();
    await expect(mine.inspect.workers()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });
});
