/** What state is refused, as its user meets it: by code, before anything is written, and without harm to what comes next. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Mill } from '../../src/client/client.ts';
import { defineFunction } from '../../src/function/define.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const KIB = 1024;
const SETTINGS = {
  partitions: 1,
  maxPartitionBytes: KIB * KIB,
  maxValueBytes: 64 * KIB,
  maxTransactionBytes: 128 * KIB,
  maxTransactionKeys: 10,
  maxTransactionAttempts: 3,
  maxSessions: 2,
  // In the first second so many are refused that a call is refused in the end, not made to wait for ever.
  callTimeoutMs: 5_000,
};

const put = defineFunction({
  name: 'put',
  handler: async ({ data }, ctx) => {
    const { keys, bytes } = data as { keys: string[]; bytes: number };
    for (const key of keys) await ctx.state('blobs').set(key, 'x'.repeat(bytes));
  },
});
const read = defineFunction({
  name: 'read',
  handler: async ({ data }, ctx) =>
    ((await ctx.state<string>('blobs').get(data as string)) ?? '').length,
});
const tell = defineFunction({
  name: 'tell',
  handler: async ({ data }, ctx) => {
    const { written, emits, bytes } = data as { written: number; emits: number; bytes: number };
    if (written > 0) await ctx.state('blobs').set('told', 'x'.repeat(written));
    for (let count = 0; count < emits; count += 1) await ctx.emit('told', 'x'.repeat(bytes));
  },
});
const remove = defineFunction({
  name: 'remove',
  handler: async ({ data }, ctx) => ctx.state('blobs').delete(data as string),
});
let letGo = (): void => {};
const held = new Promise<void>((resolve) => {
  letGo = resolve;
});
const hold = defineFunction({
  name: 'hold',
  handler: async ({ data }, ctx) => {
    await ctx.state('held').set(data as string, 1);
    await ctx.state('held').get(data as string);
    await held;
  },
});

describe('state', () => {
  let broker: TestBroker;
  let worker: TestWorker;
  let mill: Mill;

  beforeAll(async () => {
    broker = await startTestBroker();
    worker = await startTestWorker(broker.url, [put, read, remove, hold, tell], SETTINGS);
    mill = await connect({ servers: broker.url });
  });

  afterAll(async () => {
    letGo();
    await mill.close();
    await worker.stop();
    await broker.stop();
  });

  it('refuses a value that is too large, and leaves nothing of its transaction', async () => {
    const tooLarge = mill.invoke('put', { keys: ['large'], bytes: 64 * KIB });
    await expect(tooLarge).rejects.toMatchObject({
      code: 'PAYLOAD_TOO_LARGE',
      details: { limitBytes: 64 * KIB },
    });
    expect(await mill.invoke('read', 'large')).toBe(0);
  });

  it('refuses a transaction that writes too much', async () => {
    const keys = ['a', 'b', 'c'];
    await expect(mill.invoke('put', { keys, bytes: 50 * KIB })).rejects.toMatchObject({
      code: 'PAYLOAD_TOO_LARGE',
      details: { limitBytes: 128 * KIB },
    });
    for (const key of keys) expect(await mill.invoke('read', key)).toBe(0);
  });

  it('counts bytes, not characters', async () => {
    const wide = defineFunction({
      name: 'wide',
      handler: async (_, ctx) => {
        for (const key of ['w1', 'w2', 'w3'])
          await ctx.state('blobs').set(key, '\u6c34'.repeat(20 * KIB));
      },
    });
    const other = await startTestWorker(broker.url, [wide], SETTINGS);
    await expect(mill.invoke('wide', null)).rejects.toMatchObject({ code: 'PAYLOAD_TOO_LARGE' });
    await other.stop();
  });

  it('refuses a transaction whose events are too large together with what it writes', async () => {
    const large = mill.invoke('tell', { written: 50 * KIB, emits: 2, bytes: 50 * KIB });
    await expect(large).rejects.toMatchObject({
      code: 'PAYLOAD_TOO_LARGE',
      details: { limitBytes: 128 * KIB },
    });
    expect(await mill.invoke('read', 'told')).toBe(0);
    await mill.invoke('tell', { written: 50 * KIB, emits: 1, bytes: 50 * KIB });
    expect(await mill.invoke('read', 'told')).toBe(50 * KIB);
  });

  it('refuses a transaction of too many keys', async () => {
    const keys = Array.from({ length: 11 }, (_, index) => `key-${index}`);
    await expect(mill.invoke('put', { keys, bytes: 1 })).rejects.toMatchObject({
      code: 'PAYLOAD_TOO_LARGE',
      details: { limitKeys: 10 },
    });
    expect(await mill.invoke('read', 'key-0')).toBe(0);
  });

  it('refuses what outgrows the partition, and takes it again once there is room', async () => {
    const bytes = 60 * KIB;
    let count = 0;
    const full = async (): Promise<void> => {
      for (; count < 100; count += 1) await mill.invoke('put', { keys: [`full-${count}`], bytes });
    };
    await expect(full()).rejects.toMatchObject({ code: 'STATE_FULL', details: { partition: 0 } });
    expect(count).toBeGreaterThan(10);
    expect(await mill.invoke('read', `full-${count}`)).toBe(0);
    expect(await mill.invoke('read', `full-${count - 1}`)).toBe(bytes);
    await mill.invoke('remove', 'full-0');
    await mill.invoke('put', { keys: [`full-${count}`], bytes });
    expect(await mill.invoke('read', `full-${count}`)).toBe(bytes);
  });

  it('refuses more transactions at once than a partition has room for, until others have ended', async () => {
    const holding = ['one', 'two'].map(async (key) =>
      mill.invoke('hold', key, { timeoutMs: 20_000 }),
    );
    await delay(200);
    await expect(mill.invoke('read', 'key-0')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    letGo();
    await Promise.all(holding);
    expect(await mill.invoke('read', 'key-0')).toBe(0);
  });
});
