import { connect as connectPlain, headers } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Mill } from '../../src/client/client.ts';
import { defineFunction } from '../../src/function/define.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const open = defineFunction({
  name: 'open',
  handler: async ({ data }, ctx) => {
    const { account, balance } = data as { account: string; balance: number };
    await ctx.state('accounts').set(account, { balance });
  },
});

interface Account {
  balance: number;
}

const transfer = defineFunction({
  name: 'transfer',
  handler: async ({ data }, ctx) => {
    const { from, to, amount } = data as { from: string; to: string; amount: number };
    const accounts = ctx.state<Account>('accounts');
    const source = await accounts.get(from);
    const target = await accounts.get(to);
    if (source === undefined || target === undefined) throw new Error('no such account');
    if (source.balance < amount) throw new Error('insufficient funds');
    await accounts.set(from, { balance: source.balance - amount });
    await accounts.set(to, { balance: target.balance + amount });
    return source.balance - amount;
  },
});

const total = defineFunction({
  name: 'total',
  handler: async ({ data }, ctx) => {
    const accounts = ctx.state<Account>('accounts');
    const all = await Promise.all((data as string[]).map(async (name) => accounts.get(name)));
    return all.reduce((sum, account) => sum + (account?.balance ?? 0), 0);
  },
});

const functions = [open, transfer, total];
const names = Array.from({ length: 100 }, (_, index) => `account-${index}`);

describe('state', () => {
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
    for (const worker of workers) await worker.stop();
    await broker.stop();
  });

  it('keeps what a function has written', async () => {
    await mill.invoke('open', { account: 'alice', balance: 10 });
    await mill.invoke('open', { account: 'bob', balance: 0 });
    expect(await mill.invoke('transfer', { from: 'alice', to: 'bob', amount: 4 })).toBe(6);
    expect(await mill.invoke('total', ['alice', 'bob'])).toBe(10);
  });

  it('conserves the total under many transfers at once', async () => {
    await Promise.all(names.map(async (account) => mill.invoke('open', { account, balance: 100 })));
    const transfers = Array.from({ length: 500 }, async (_, index) => {
      const from = names[(index * 7) % names.length];
      const to = names[(index * 13 + 1) % names.length];
      if (from === to) return;
      await mill.invoke('transfer', { from, to, amount: 1 }).catch((error: Error) => {
        if (!error.message.includes('insufficient')) throw error;
      });
    });
    const totals = Array.from({ length: 5 }, async () => mill.invoke('total', names));
    await Promise.all(transfers);
    expect(await Promise.all(totals)).toEqual([10_000, 10_000, 10_000, 10_000, 10_000]);
    expect(await mill.invoke('total', names)).toBe(10_000);
  });
});

describe('requests that come again', () => {
  let broker: TestBroker;
  let workers: TestWorker[];
  let mill: Mill;
  let runs = 0;

  const count = defineFunction({
    name: 'count',
    on: 'count.me',
    delivery: 'ephemeral',
    handler: async (_, ctx) => {
      runs += 1;
      const counters = ctx.state<number>('counters');
      const value = ((await counters.get('one')) ?? 0) + 1;
      await counters.set('one', value);
      return value;
    },
  });
  const fails = defineFunction({
    name: 'fails',
    handler: async (_, ctx) => {
      await ctx.state('counters').set('failed', 1);
      throw new Error('no');
    },
  });
  const adds = defineFunction({
    name: 'adds',
    handler: async ({ data }, ctx) => {
      const counters = ctx.state<number>('counters');
      await counters.set('sum', ((await counters.get('sum')) ?? 0) + (data as number));
      return counters.get('sum');
    },
  });
  const addsTwice = defineFunction({
    name: 'addsTwice',
    handler: async ({ data }, ctx) => {
      await ctx.state('counters').set('sum', data);
      await ctx.invoke('adds', data);
      await ctx.invoke('adds', data);
      if (data === 13) throw new Error('unlucky');
      return ctx.state('counters').get('sum');
    },
  });
  const writesAndFails = defineFunction({
    name: 'writesAndFails',
    handler: async (_, ctx) => {
      await ctx.state('counters').set('half', 1);
      throw new Error('half done');
    },
  });
  const callsOneThatFails = defineFunction({
    name: 'callsOneThatFails',
    handler: async ({ data }, ctx) => {
      await ctx.state('counters').set('caller', 1);
      const call = ctx.invoke('writesAndFails');
      await (data === 'catches' ? call.catch(() => {}) : call);
    },
  });

  beforeAll(async () => {
    broker = await startTestBroker();
    const settings = { answerKeepMs: 2_000 };
    const all = [count, fails, adds, addsTwice, writesAndFails, callsOneThatFails];
    workers = [
      await startTestWorker(broker.url, all, settings),
      await startTestWorker(broker.url, all, settings),
    ];
    mill = await connect({ servers: broker.url });
  });

  afterAll(async () => {
    await mill.close();
    for (const worker of workers) await worker.stop();
    await broker.stop();
  });

  it('get the first answer, for as long as it is kept', async () => {
    const answers = await Promise.all(
      Array.from({ length: 10 }, async () => mill.invoke('count', null, { id: 'once' })),
    );
    expect(new Set(answers)).toEqual(new Set([1]));
    expect(runs).toBeLessThanOrEqual(10);
    expect(await mill.inspect.state('counters', 'one')).toMatchObject({ value: 1 });
    await expect
      .poll(async () => mill.invoke('count', null, { id: 'once' }), {
        timeout: 10_000,
        interval: 500,
      })
      .toBe(2);
  });

  it('likewise a plain request with a message id, from any client', async () => {
    const plain = await connectPlain({ servers: broker.url });
    const withId = headers();
    withId.set('Nats-Msg-Id', 'plain-1');
    const ask = async (options: object): Promise<unknown> =>
      (await plain.request('count.me', '', { timeout: 5_000, ...options })).json();
    const first = await ask({ headers: withId });
    expect(await ask({ headers: withId })).toBe(first);
    expect(await ask({})).toBe((first as number) + 1);
    await plain.close();
  });

  it('leave nothing when they fail', async () => {
    await expect(mill.invoke('fails', null, { id: 'f' })).rejects.toMatchObject({
      code: 'FUNCTION_FAILED',
    });
    await expect(mill.inspect.state('counters', 'failed')).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
  });

  it('functions that a handler calls take part in its transaction', async () => {
    for (let round = 0; round < 10; round += 1) {
      expect(await mill.invoke('addsTwice', 5)).toBe(15);
    }
    await expect(mill.invoke('addsTwice', 13)).rejects.toMatchObject({ code: 'FUNCTION_FAILED' });
    expect(await mill.inspect.state('counters', 'sum')).toMatchObject({ value: 15 });
    const { active } = await mill.inspect.transactions();
    expect(active).toEqual([]);
  });

  it.each(['catches', 'does not catch'])(
    'one that fails after it has written takes all with it, when its caller %s',
    async (how) => {
      // Several times, so that it runs on its caller's worker and on the other one.
      for (let round = 0; round < 10; round += 1) {
        await expect(mill.invoke('callsOneThatFails', how)).rejects.toMatchObject({
          code: 'FUNCTION_FAILED',
          message: expect.stringContaining('writesAndFails') as string,
        });
      }
      for (const key of ['half', 'caller']) {
        await expect(mill.inspect.state('counters', key)).rejects.toMatchObject({
          code: 'NOT_FOUND',
        });
      }
      expect((await mill.inspect.transactions()).active).toEqual([]);
    },
  );
});
