/** A backup that is taken and restored: what is in it, what is refused, and that nothing happens twice for it. */
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { connect as connectNats } from 'nats';
import { defineFunction } from 'millrace';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkBackup } from '../../src/backup/check.ts';
import { restoreBackup } from '../../src/backup/restore.ts';
import { takeBackup } from '../../src/backup/take.ts';
import { connect, openBus, type Mill } from '../../src/client/client.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

let folder: string;
let file: string;
let here: TestBroker;
let there: TestBroker;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-backup-'));
  file = join(folder, 'monday.backup');
  [here, there] = await Promise.all([startTestBroker(), startTestBroker()]);
});

afterEach(async () => {
  await Promise.all([here.stop(), there.stop()]);
  await rm(folder, { recursive: true, force: true });
});

/** What happens to events while `gate` is closed is up to the test. */
let gate: Promise<void> | undefined;
const deposit = defineFunction({
  name: 'deposit',
  on: 'bank.deposit',
  key: ({ data }) => (data as { to: string }).to,
  async handler({ data }, ctx) {
    await gate;
    const { to, amount } = data as { to: string; amount: number };
    const accounts = ctx.state<number>('accounts');
    await accounts.set(to, ((await accounts.get(to)) ?? 0) + amount);
    await ctx.emit('bank.deposited', { to, amount });
  },
});
const audit = defineFunction({
  name: 'audit',
  on: 'bank.deposited',
  async handler({ data }, ctx) {
    const { to, amount } = data as { to: string; amount: number };
    const totals = ctx.state<number>('audited');
    await totals.set(to, ((await totals.get(to)) ?? 0) + amount);
  },
});
const broken = defineFunction({
  name: 'broken',
  on: 'bank.broken',
  retries: { maxAttempts: 1, minDelayMs: 1 },
  handler: () => {
    throw new Error('No.');
  },
});
const remind = defineFunction({
  name: 'remind',
  on: 'bank.remind',
  async handler({ data }, ctx) {
    await ctx.state('reminded').set(data as string, true);
  },
});
const nightly = defineFunction({ name: 'nightly', cron: '0 3 * * *', handler: () => {} });
/** The id of what it emits is that of its event, as many do it. */
const forward = defineFunction({
  name: 'forward',
  on: 'orders.placed',
  async handler({ id }, ctx) {
    await gate;
    await ctx.emit('orders.billed', { order: id }, { id });
  },
});
const billed = defineFunction({
  name: 'billed',
  on: 'orders.billed',
  async handler({ data }, ctx) {
    const bills = ctx.state<number>('bills');
    const { order } = data as { order: string };
    await bills.set(order, ((await bills.get(order)) ?? 0) + 1);
  },
});
const all = [deposit, audit, broken, remind, nightly, forward, billed];

async function backUp(broker: TestBroker, to = file): ReturnType<typeof takeBackup> {
  const { bus, settings } = await openBus({ servers: broker.url }, 'backup');
  try {
    return await takeBackup({ bus, settings, file: to });
  } finally {
    await bus.close();
  }
}

async function restore(broker: TestBroker, from = file): ReturnType<typeof restoreBackup> {
  const { bus, settings } = await openBus({ servers: broker.url }, 'restore');
  try {
    return await restoreBackup({ bus, settings, file: from });
  } finally {
    await bus.close();
  }
}

async function with_<Result>(
  broker: TestBroker,
  work: (mill: Mill, worker: TestWorker) => Promise<Result>,
): Promise<Result> {
  const worker = await startTestWorker(broker.url, all);
  const mill = await connect({ servers: broker.url });
  try {
    return await work(mill, worker);
  } finally {
    await mill.close();
    await worker.stop();
  }
}

async function valueOf(mill: Mill, collection: string, key: string): Promise<unknown> {
  return mill.inspect.state(collection, key).then(
    ({ value }) => value,
    () => undefined,
  );
}

describe('a backup', () => {
  it('has the state, the events that wait, those that come later, and the dead letters', async () => {
    await with_(here, async (mill) => {
      for (const to of ['ann', 'bob', 'ann']) await mill.publish('bank.deposit', { to, amount: 5 });
      await mill.publish('bank.broken', 1);
      await mill.publish('bank.remind', 'later', { delayMs: 2_000 });
      await until('all are audited', async () => (await valueOf(mill, 'audited', 'ann')) === 10);
      await until('there is a dead letter', async () => (await mill.dead.list()).length === 1);
      let open = (): void => {};
      gate = new Promise((resolve) => (open = resolve));
      await mill.publish('bank.deposit', { to: 'ann', amount: 100 });
      const report = await backUp(here);
      expect(report).toMatchObject({ partitions: 8, events: { 'millrace-dead': 1 } });
      expect(report.keys).toBeGreaterThan(4);
      // What happens after it is not in it.
      gate = undefined;
      open();
      await until(
        'that is handled, too',
        async () => (await valueOf(mill, 'accounts', 'ann')) === 110,
      );
      await mill.publish('bank.deposit', { to: 'ann', amount: 1_000 });
    });
    expect(await restore(there)).toMatchObject({ partitions: 8 });
    await with_(there, async (mill) => {
      await until(
        'the waiting one is handled',
        async () => (await valueOf(mill, 'audited', 'ann')) === 110,
      );
      await until('it is later', async () => valueOf(mill, 'reminded', 'later'));
      expect(await valueOf(mill, 'accounts', 'ann')).toBe(110);
      expect(await valueOf(mill, 'accounts', 'bob')).toBe(5);
      expect(await valueOf(mill, 'audited', 'bob')).toBe(5);
      expect(await mill.dead.list()).toHaveLength(1);
      const functions = await mill.inspect.functions();
      expect(functions.map(({ name, pending }) => [name, pending])).toEqual(
        all
          .map(({ name = '' }) => name)
          .toSorted()
          .map((name) => [name, 0]),
      );
    });
  });

  it('has nothing of what a transaction emitted that committed while it was taken', async () => {
    await with_(here, async (mill) => {
      let open = (): void => {};
      gate = new Promise((resolve) => (open = resolve));
      await mill.publish('bank.deposit', { to: 'ann', amount: 5 });
      await mill.publish('orders.placed', {}, { id: 'order-7' });
      const { bus, settings } = await openBus({ servers: here.url }, 'backup');
      let steps = 0;
      const onProgress = async (): Promise<void> => {
        // The state is that of a moment before; the streams are yet to be copied.
        if (steps === 0) {
          gate = undefined;
          open();
          await until('it is audited', async () => valueOf(mill, 'audited', 'ann'));
          await until('it is billed', async () => valueOf(mill, 'bills', 'order-7'));
        }
        steps += 1;
      };
      await takeBackup({ bus, settings, file, onProgress });
      await bus.close();
      expect(steps).toBeGreaterThan(3);
    });
    await restore(there);
    await with_(there, async (mill) => {
      await until('it is audited', async () => valueOf(mill, 'audited', 'ann'));
      await until('it is billed', async () => valueOf(mill, 'bills', 'order-7'));
      await until('nothing waits', async () =>
        (await mill.inspect.functions()).every(({ pending }) => pending === 0),
      );
      expect(await valueOf(mill, 'accounts', 'ann')).toBe(5);
      expect(await valueOf(mill, 'audited', 'ann')).toBe(5);
      expect(await valueOf(mill, 'bills', 'order-7')).toBe(1);
    });
  });

  it('that is broken off keeps workers from starting, and begins anew without touching what others have made', async () => {
    const nats = await connectNats({ servers: there.url });
    const manager = await nats.jetstreamManager();
    await with_(here, async (mill) => {
      await mill.publish('bank.deposit', { to: 'ann', amount: 5 });
      await until('it is audited', async () => valueOf(mill, 'audited', 'ann'));
      await backUp(here);
    });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    const { bus, settings } = await openBus({ servers: there.url }, 'restore');
    const onProgress = (what: string): void => {
      if (what.startsWith('partition 3')) throw new Error('broken off');
    };
    await expect(restoreBackup({ bus, settings, file, onProgress })).rejects.toThrow('broken off');
    await expect(startTestWorker(there.url, all)).rejects.toMatchObject({
      code: 'RESTORE_UNFINISHED',
    });
    // Two at once: one of them finds out.
    const two = await Promise.allSettled([
      restoreBackup({ bus, settings, file }),
      restoreBackup({ bus, settings, file }),
    ]);
    expect(two.filter(({ status }) => status === 'fulfilled').length).toBeLessThanOrEqual(1);
    await bus.close();
    const inventory = await manager.streams.names().next();
    for (const stream of inventory) {
      if (stream !== 'KV_millrace-assignment') await manager.streams.delete(stream);
    }
    await manager.streams.delete('KV_millrace-assignment');
    await manager.streams.add({ name: 'OTHERS', subjects: ['bank.>'] });
    await nats.jetstream().publish('bank.deposit', Buffer.from('{}'));
    await expect(restore(there)).rejects.toMatchObject({
      code: 'NOT_EMPTY',
      details: { streams: ['OTHERS'] },
    });
    expect((await manager.streams.info('OTHERS')).state.messages).toBe(1);
    await manager.streams.delete('OTHERS');
    await nats.close();
    await restore(there);
    await with_(there, async (mill) => {
      await until('it is there', async () => (await valueOf(mill, 'accounts', 'ann')) === 5);
    });
  });

  it('is restored only where nothing is, and only whole', async () => {
    await with_(here, async (mill) => {
      await mill.publish('bank.deposit', { to: 'ann', amount: 5 });
      await until('it is audited', async () => valueOf(mill, 'audited', 'ann'));
      await backUp(here);
      await expect(backUp(here)).rejects.toMatchObject({ code: 'USAGE' });
      await expect(restore(here)).rejects.toMatchObject({ code: 'NOT_EMPTY' });
    });
    const whole = await readFile(file);
    const frames = gunzipSync(whole);
    const damaged: Record<string, Buffer> = {
      'cut short': whole.subarray(0, whole.length - 20),
      'cut short, and packed again': gzipSync(frames.subarray(0, frames.length - 200)),
      empty: Buffer.alloc(0),
      text: Buffer.from('hello'),
      'a byte is another one': gzipSync(
        Buffer.concat([frames.subarray(0, -300), Buffer.from([1]), frames.subarray(-299)]),
      ),
      twice: Buffer.concat([whole, whole]),
    };
    const nats = await connectNats({ servers: there.url });
    for (const [what, bytes] of Object.entries(damaged)) {
      const bad = join(folder, 'bad');
      await writeFile(bad, bytes);
      await expect(restore(there, bad), what).rejects.toMatchObject({ code: 'BACKUP_UNREADABLE' });
    }
    await expect(restore(there, join(folder, 'none'))).rejects.toMatchObject({
      code: 'BACKUP_UNREADABLE',
    });
    const manager = await nats.jetstreamManager();
    expect((await manager.getAccountInfo()).streams).toBe(0);
    await nats.close();
    expect(await checkBackup(file)).toMatchObject({ namespace: 'millrace', partitions: 8 });
  });
});
