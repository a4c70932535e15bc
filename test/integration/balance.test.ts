/** Balancing as its users meet it: workers that differ, calls, plain requests and events. */
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectPlain, headers as newHeaders, type NatsConnection } from 'nats';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connect, type Mill } from '../../src/client/client.ts';
import { defineFunction } from '../../src/function/define.ts';
import type { FunctionDefinition } from '../../src/function/definition.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const STRATEGIES = ['random', 'round-robin', 'weighted', 'least-loaded'] as const;

let broker: TestBroker;
let workers: TestWorker[];
let mill: Mill;
let nats: NatsConnection;
/** What ran where. */
let ran: string[] = [];
/** Milliseconds of a run, by worker; others take `FAST_MS`. */
const slow = new Map<string, number>();
const FAST_MS = 5;
const failing = new Set<string>();
/** What handlers were told of events. */
const told: string[] = [];
let hops = 0;

const handler: FunctionDefinition['handler'] = async ({ subject, headers }, ctx) => {
  const { worker } = ctx.invocation;
  await delay(slow.get(worker) ?? FAST_MS);
  ran.push(worker);
  if (failing.has(worker)) throw new Error('this worker fails');
  return { worker, subject, color: headers['color'] ?? '' };
};
const functions = [
  ...STRATEGIES.map((balance) =>
    defineFunction({
      name: balance,
      on: `plain.${balance}`,
      delivery: 'ephemeral',
      balance,
      handler,
    }),
  ),
  ...STRATEGIES.map((balance) =>
    defineFunction({ name: `kept-${balance}`, on: `kept.${balance}`, balance, handler }),
  ),
  defineFunction({
    name: 'clumsy',
    delivery: 'ephemeral',
    balance: {
      name: 'throws',
      strategy: () => ({
        pick: () => {
          throw new Error('no idea');
        },
      }),
    },
    handler,
  }),
  defineFunction({
    name: 'told',
    on: 'told',
    delivery: 'ephemeral',
    balance: 'round-robin',
    handler: ({ id, headers }) => {
      told.push(JSON.stringify({ id, headers }));
    },
  }),
  defineFunction({
    name: 'picky',
    delivery: 'ephemeral',
    balance: { name: 'lowest-id', strategy: () => ({ pick: ([first]) => first as never }) },
    handler,
  }),
];

beforeAll(async () => {
  broker = await startTestBroker();
  nats = await connectPlain({ servers: broker.url });
  workers = [];
  for (let index = 0; index < 3; index += 1) {
    workers.push(await startTestWorker(broker.url, functions));
  }
  mill = await connect({ servers: broker.url });
  await until('all are known', async () => (await mill.inspect.workers()).length === 3);
});

afterAll(async () => {
  await mill.close();
  for (const worker of workers) await worker.stop();
  await nats.close();
  await broker.stop();
});

beforeEach(() => {
  [ran, hops] = [[], 0];
  slow.clear();
  failing.clear();
});

const idOf = (index: number): string => (workers[index] as TestWorker).worker.id;
const share = (id: string): number => ran.filter((each) => each === id).length / ran.length;
async function inFlight(count: number, many: number, run: () => Promise<unknown>): Promise<void> {
  let left = count;
  const loop = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      await run().catch(() => {});
    }
  };
  await Promise.all(Array.from({ length: many }, loop));
}

describe('calls', () => {
  it('go around in turn', async () => {
    await inFlight(300, 8, () => mill.invoke('round-robin', {}));
    for (const { worker } of workers) expect(Math.abs(share(worker.id) * 3 - 1)).toBeLessThan(0.05);
  });

  it('go to a worker that is half as fast half as often', async () => {
    for (const [index, { worker }] of workers.entries()) slow.set(worker.id, index === 0 ? 80 : 40);
    await inFlight(400, 16, () => mill.invoke('weighted', {}));
    // By then each has said how fast it is.
    await delay(1_200);
    ran = [];
    await inFlight(600, 16, () => mill.invoke('weighted', {}));
    expect(share(idOf(1)) / share(idOf(0))).toBeGreaterThan(1.5);
    expect(share(idOf(1)) / share(idOf(0))).toBeLessThan(2.5);
  });

  it('pass a slow worker by', async () => {
    slow.set(idOf(0), 100);
    await inFlight(600, 8, () => mill.invoke('least-loaded', {}));
    expect(share(idOf(0))).toBeLessThan(0.2);
  });

  it.each(STRATEGIES)(
    'leave out a worker that fails everything: %s',
    async (balance) => {
      failing.add(idOf(1));
      await inFlight(150, 4, () => mill.invoke(balance, {}));
      ran = [];
      await inFlight(300, 8, () => mill.invoke(balance, {}));
      expect(share(idOf(1))).toBeLessThan(0.1);
      failing.clear();
      await until(
        'it is back',
        async () => {
          await inFlight(20, 4, () => mill.invoke(balance, {}));
          return ran.slice(-20).includes(idOf(1));
        },
        20_000,
      );
    },
    40_000,
  );

  it("go where a function's own strategy says, if the caller has it", async () => {
    const strategies = {
      'lowest-id': () => ({ pick: ([first]: readonly never[]) => first as never }),
    };
    await using knowing = await connect({ servers: broker.url, strategies });
    // Its workers tell it of themselves one after the other.
    await inFlight(10, 1, () => knowing.invoke('picky', {}));
    await delay(300);
    ran = [];
    const lowest = workers.map(({ worker }) => worker.id).sort()[0] as string;
    await inFlight(60, 4, () => knowing.invoke('picky', {}));
    expect(share(lowest)).toBe(1);
    ran = [];
    await inFlight(60, 4, () => mill.invoke('picky', {}));
    expect(share(lowest)).toBeLessThan(0.8);
  });
});

describe('plain requests', () => {
  const ask = async (subject: string): Promise<Record<string, string>> => {
    const headers = newHeaders();
    headers.set('color', 'red');
    headers.set('Millrace-Subject', 'forged');
    hops += 1;
    const reply = await nats.request(subject, '{}', { timeout: 5_000, headers });
    return reply.json();
  };

  it('go around in turn, and arrive as they were sent', async () => {
    const answers: Record<string, string>[] = [];
    await inFlight(300, 8, async () => answers.push(await ask('plain.round-robin')));
    for (const { worker } of workers) expect(Math.abs(share(worker.id) * 3 - 1)).toBeLessThan(0.1);
    expect(
      answers.every(({ subject, color }) => subject === 'plain.round-robin' && color === 'red'),
    ).toBe(true);
    expect(answers).toHaveLength(hops);
  });

  it('pass a slow worker by', async () => {
    slow.set(idOf(0), 100);
    await inFlight(600, 8, () => ask('plain.least-loaded'));
    expect(share(idOf(0))).toBeLessThan(0.2);
  });

  it('answer what the function refuses', async () => {
    failing.add(idOf(0)).add(idOf(1)).add(idOf(2));
    const reply = await nats.request('plain.round-robin', '{}', { timeout: 5_000 });
    expect(reply.headers?.get('Nats-Service-Error-Code')).toBe('500');
    expect(reply.json()).toMatchObject({ error: { code: 'FUNCTION_FAILED' } });
  });
});

describe('events', () => {
  it.each([
    ['round-robin', 0.28, 0.39],
    ['least-loaded', 0, 0.2],
  ])(
    'are run by %s, too',
    async (balance, least, most) => {
      if (balance === 'least-loaded') slow.set(idOf(0), 100);
      for (let index = 0; index < 300; index += 1) {
        nats.publish(`kept.${balance}`, '{}');
        if (index % 4 === 0) await delay(4);
      }
      await until('all have run', () => ran.length === 300, 20_000);
      expect(share(idOf(0))).toBeGreaterThanOrEqual(least);
      expect(share(idOf(0))).toBeLessThan(most);
    },
    30_000,
  );
});

describe('a strategy of a user’s own that throws', () => {
  it('costs no call', async () => {
    const clumsy = functions.find(({ name }) => name === 'clumsy') as FunctionDefinition;
    const caller = await connect({ servers: broker.url, settings: { maxCallsInFlight: 16 } });
    for (let index = 0; index < 40; index += 1) {
      expect(await caller.invoke(clumsy, {})).toHaveProperty('worker');
    }
    await caller.close();
  });
});

describe('an event that is handed on', () => {
  it('has the id and the headers that it came with', async () => {
    const headers = newHeaders();
    headers.set('Nats-Msg-Id', 'mine');
    headers.set('color', 'red');
    for (let index = 0; index < 9; index += 1) nats.publish('told', '1', { headers });
    await until('all have run', async () => told.length === 9);
    const given = new Set(told.map((text) => (JSON.parse(text) as { id: string }).id));
    expect([...given]).toEqual(['mine']);
    expect(told.filter((text) => /millrace/i.test(text))).toEqual([]);
  });
});

describe('a worker that leaves', () => {
  it('answers what it has handed on', async () => {
    const leaving = await startTestWorker(broker.url, functions);
    for (const { id } of [...workers, leaving]) slow.set(id, 700);
    await until('it is known', async () =>
      (await mill.inspect.workers()).some(({ id }) => id === leaving.id),
    );
    const asked = Array.from({ length: 40 }, async () =>
      nats.request('plain.round-robin', '1', { timeout: 10_000 }),
    );
    await nats.flush();
    await delay(100);
    expect(await leaving.stop()).toBe(true);
    for (const { headers } of await Promise.all(asked)) {
      expect(headers?.get('Nats-Service-Error') ?? '').toBe('');
    }
    slow.clear();
  });
});
