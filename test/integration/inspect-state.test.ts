import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Mill } from '../../src/client/client.ts';
import { defineFunction } from '../../src/function/define.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const put = defineFunction({
  name: 'put',
  handler: async ({ data }, ctx) => {
    const { key, value } = data as { key: string; value: unknown };
    await ctx.state('stock').set(key, value);
  },
});

let release: () => void = () => {};
/** Holds its key until it is released. */
const hold = defineFunction({
  name: 'hold',
  handler: async ({ data }, ctx) => {
    await ctx.state('stock').set(String(data), 'held');
    await ctx.state('stock').get(String(data));
    await new Promise<void>((resolve) => (release = resolve));
  },
});

const calls = defineFunction({
  name: 'calls',
  handler: async (_, ctx) => ctx.invoke('nothing'),
});

const nothing = defineFunction({ name: 'nothing', handler: () => 1 });

const reads = defineFunction({
  name: 'reads',
  handler: async (_, ctx) => {
    await ctx.state('stock').get('coffee');
    throw new Error('No.');
  },
});

describe('inspecting state', () => {
  let broker: TestBroker;
  let worker: TestWorker;
  let mill: Mill;

  beforeAll(async () => {
    broker = await startTestBroker();
    worker = await startTestWorker(broker.url, [put, hold, calls, nothing, reads]);
    mill = await connect({ servers: broker.url });
    await mill.invoke('put', { key: 'tea/green', value: { grams: 1 } });
    await mill.invoke('put', { key: 'tea/green', value: { grams: 2 } });
    await mill.invoke('put', { key: 'tea/black', value: null });
    await mill.invoke('put', { key: 'coffee', value: 7 });
  });

  afterAll(async () => {
    await mill.close();
    await worker.stop();
    await broker.stop();
  });

  it('gives a value with version and partition', async () => {
    const found = await mill.inspect.state<{ grams: number }>('stock', 'tea/green');
    expect(found.value.grams).toBe(2);
    expect(found).toEqual({
      collection: 'stock',
      key: 'tea/green',
      value: { grams: 2 },
      version: expect.any(Number) as number,
      partition: (await mill.inspect.key('stock', 'tea/green')).partition,
    });
  });

  it('rejects with NOT_FOUND where there is no value, and with INVALID_INPUT for what is no key', async () => {
    await expect(mill.inspect.state('stock', 'milk')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(mill.inspect.state('no such/name', 'a')).rejects.toMatchObject({
      code: 'INVALID_INPUT',
    });
    await expect(mill.inspect.state('stock', undefined as never)).rejects.toMatchObject({
      code: 'INVALID_INPUT',
    });
  });

  it('lists a collection page by page, by prefix on demand', async () => {
    const first = await mill.inspect.list('stock', { limit: 2 });
    expect(first.items.map(({ key }) => key)).toEqual(['coffee', 'tea/black']);
    expect(first.cursor).toBe('tea/black');
    const second = await mill.inspect.list('stock', { limit: 2, cursor: first.cursor });
    expect(second.items).toEqual([
      { key: 'tea/green', value: { grams: 2 }, version: expect.any(Number) as number },
    ]);
    expect(second.cursor).toBeNull();
    const teas = await mill.inspect.list('stock', { prefix: 'tea/' });
    expect(teas.items.map(({ key }) => key)).toEqual(['tea/black', 'tea/green']);
    expect(await mill.inspect.list('other')).toEqual({ items: [], cursor: null });
    await expect(mill.inspect.list('stock', { limit: 0 })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
    });
  });

  it('says which worker owns which partition', async () => {
    const partitions = await mill.inspect.partitions();
    expect(partitions.map(({ id }) => id)).toEqual(partitions.map((_, index) => index));
    expect(new Set(partitions.map(({ owner }) => owner))).toEqual(new Set([worker.id]));
    expect(partitions.reduce((sum, { keys }) => sum + keys, 0)).toBeGreaterThanOrEqual(3);
  });

  it('says which transactions are under way, and who has a key locked', async () => {
    const { partition } = await mill.inspect.key('stock', 'coffee');
    expect(await mill.inspect.key('stock', 'coffee')).toEqual({
      collection: 'stock',
      key: 'coffee',
      partition,
      owner: worker.id,
      lockedBy: null,
    });
    const call = mill.invoke('hold', 'coffee');
    await expect
      .poll(async () => (await mill.inspect.transactions()).active)
      .toMatchObject([{ coordinator: worker.id, waitsFor: [] }]);
    release();
    await call;
    const { active, counters } = await mill.inspect.transactions();
    expect(active).toEqual([]);
    expect(counters.committed).toBeGreaterThanOrEqual(5);
  });

  it('counts no transaction for a handler that touches no state', async () => {
    const before = (await mill.inspect.transactions()).counters;
    await mill.invoke('calls');
    expect((await mill.inspect.transactions()).counters).toEqual(before);
    await expect(mill.invoke('reads')).rejects.toMatchObject({ code: 'FUNCTION_FAILED' });
    const { committed, aborted } = (await mill.inspect.transactions()).counters;
    expect(committed + aborted).toBe(before.committed + before.aborted + 1);
  });
});
