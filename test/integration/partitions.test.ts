/** The number of partitions is changed while transactions go on. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect, type Mill } from '../../src/client/client.ts';
import type { InspectedPage } from '../../src/client/inspect.ts';
import { KeyRing } from '../../src/core/key-ring.ts';
import { defineFunction } from '../../src/function/define.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { Random } from '../support/random.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const ACCOUNTS = 200;
const START = 100;

const open = defineFunction({
  name: 'open',
  handler: async (_, ctx) => {
    for (let index = 0; index < ACCOUNTS; index += 1) {
      await ctx.state('accounts').set(`a${index}`, START);
    }
  },
});
const transfer = defineFunction({
  name: 'transfer',
  handler: async ({ data }, ctx) => {
    const { from, to } = data as { from: string; to: string };
    const accounts = ctx.state<number>('accounts');
    const one = (await accounts.get(from)) ?? 0;
    const other = (await accounts.get(to)) ?? 0;
    await accounts.set(from, one - 1);
    await accounts.set(to, other + 1);
  },
});

let broker: TestBroker;
let workers: TestWorker[];
let mill: Mill;

beforeEach(async () => {
  broker = await startTestBroker();
  mill = await connect({ servers: broker.url });
  workers = [];
  for (let count = 0; count < 2; count += 1) {
    workers.push(await startTestWorker(broker.url, [open, transfer]));
  }
  await mill.invoke('open', {});
});

afterEach(async () => {
  await mill.close();
  for (const worker of workers) await worker.stop();
  await broker.stop();
});

async function balances(): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  let cursor: string | null = null;
  do {
    const page: InspectedPage<number> = await mill.inspect.list('accounts', {
      cursor,
      limit: 150,
    });
    for (const { key, value } of page.items) found.set(key, value);
    ({ cursor } = page);
  } while (cursor !== null);
  return found;
}

async function change(partitions: number): Promise<void> {
  const { generation } = await mill.partitions.set(partitions);
  await until(
    'all keys have moved',
    async () => {
      const layout = await mill.partitions.layout();
      return layout.generation === generation && layout.from === partitions;
    },
    30_000,
  );
}

/** Moves one from one account to another, over and over; resolves with what each should have gained. */
function load(random: Random): { stop(): Promise<Map<string, number>> } {
  const gained = new Map<string, number>();
  const end = new AbortController();
  const add = (key: string, amount: number): void => {
    gained.set(key, (gained.get(key) ?? 0) + amount);
  };
  const clients = Array.from({ length: 8 }, async () => {
    while (!end.signal.aborted) {
      const from = random.below(ACCOUNTS);
      const to = (from + 1 + random.below(ACCOUNTS - 1)) % ACCOUNTS;
      await mill.invoke('transfer', { from: `a${from}`, to: `a${to}` });
      add(`a${from}`, -1);
      add(`a${to}`, 1);
    }
  });
  return {
    stop: async () => {
      end.abort();
      await Promise.all(clients);
      return gained;
    },
  };
}

describe('another number of partitions', () => {
  it('is reached under load: no call fails, nothing is lost or done twice', async () => {
    const running = load(new Random(7));
    for (const partitions of [16, 5, 1, 12]) await change(partitions);
    const gained = await running.stop();
    const now = await balances();
    expect(now.size).toBe(ACCOUNTS);
    for (const [key, balance] of now) {
      expect([key, balance]).toEqual([key, START + (gained.get(key) ?? 0)]);
    }
  }, 90_000);

  it('moves only the keys whose place changes, and each lies where the ring says', async () => {
    const versions = new Map<string, number>();
    for (const { key, version } of (await mill.inspect.list('accounts', { limit: 1_000 })).items) {
      versions.set(key, version);
    }
    await change(11);
    const ring = new KeyRing(11);
    for (let index = 0; index < ACCOUNTS; index += 1) {
      const { partition } = await mill.inspect.key('accounts', `a${index}`);
      expect(partition).toBe(ring.partitionOf(`a${index}`));
    }
    const rows = await mill.inspect.partitions();
    expect(rows.length).toBe(11);
    expect(rows.every(({ owner, moves }) => owner !== null && moves === 0)).toBe(true);
    // A key takes its version along, and goes on from there.
    const page = await mill.inspect.list('accounts', { limit: 1_000 });
    expect(new Map(page.items.map(({ key, version }) => [key, version]))).toEqual(versions);
    await mill.invoke('transfer', { from: 'a1', to: 'a2' });
    const { version } = await mill.inspect.state('accounts', 'a1');
    expect(version).toBeGreaterThan(versions.get('a1') as number);
  }, 60_000);

  it('is what workers find that start later, and partitions without keys answer on', async () => {
    await change(3);
    workers.push(await startTestWorker(broker.url, [open, transfer]));
    await workers.shift()?.stop();
    await workers.shift()?.stop();
    expect((await mill.partitions.layout()).from).toBe(3);
    expect((await mill.inspect.partitions()).map(({ id }) => id)).toEqual([0, 1, 2]);
    const [worker] = await mill.inspect.workers();
    expect(worker?.partitions).toEqual([0, 1, 2]);
    await mill.invoke('transfer', { from: 'a1', to: 'a2' });
    await change(8);
    expect((await balances()).get('a2')).toBe(START + 1);
  }, 60_000);

  it('is refused where it makes no sense, and changes nothing', async () => {
    for (const wrong of [0, 257, 1.5, Number.NaN]) {
      await expect(mill.partitions.set(wrong)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    }
    await mill.partitions.set(8);
    expect(await mill.partitions.layout()).toMatchObject({ from: 8, to: 8, generation: 0 });
    await mill.partitions.set(64);
    await expect(mill.partitions.set(32)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    // The same once more is the same change.
    await mill.partitions.set(64);
    await until('it is over', async () => (await mill.partitions.layout()).from === 64, 30_000);
    expect((await mill.partitions.layout()).generation).toBe(1);
  }, 60_000);
});

describe('fewer partitions', () => {
  it('are refused when one could not hold what it would get, and nothing moves', async () => {
    const fill = defineFunction({
      name: 'fill',
      handler: async ({ data: index }, ctx) => {
        await ctx.state('large').set(`k${String(index)}`, 'x'.repeat(100_000));
      },
    });
    const settings = { maxPartitionBytes: 1024 * 1024 };
    const small = await startTestWorker(broker.url, [fill], settings);
    while (workers.length > 0) await workers.pop()?.stop();
    workers.push(small);
    for (let index = 0; index < 14; index += 1) await mill.invoke('fill', index);
    await expect(mill.partitions.set(1)).rejects.toMatchObject({ code: 'STATE_FULL' });
    expect(await mill.partitions.layout()).toMatchObject({ from: 8, to: 8, generation: 0 });
  }, 30_000);
});
