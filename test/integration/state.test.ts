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
