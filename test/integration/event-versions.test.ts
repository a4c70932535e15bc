/** Durable events while their function changes, and events that are not what they should be. */
import { connect as connectPlain, headers as newHeaders, type NatsConnection } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Mill } from '../../src/client/client.ts';
import { defineFunction } from '../../src/function/define.ts';
import type { FunctionDefinition } from '../../src/function/definition.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker } from '../support/worker.ts';

let broker: TestBroker;
let mill: Mill;
let nats: NatsConnection;

beforeAll(async () => {
  broker = await startTestBroker();
  mill = await connect({ servers: broker.url });
  nats = await connectPlain({ servers: broker.url });
});

afterAll(async () => {
  await nats.close();
  await mill.close();
  await broker.stop();
});

const seen: string[] = [];
/** `key`: by which part of `<tenant> <order>` events are ordered. */
const noted = (
  name: string,
  on: string[],
  key?: FunctionDefinition['key'],
  version = '1',
): FunctionDefinition =>
  defineFunction({
    name,
    on,
    ...(key === undefined ? {} : { key }),
    handler: async ({ subject, data }, ctx) => {
      seen.push(`${name} v${version} ${subject} ${String(data)}`);
      const counters = ctx.state<number>(name);
      const which = `${subject} ${String(data)}`;
      await counters.set(which, ((await counters.get(which)) ?? 0) + 1);
    },
  });
const times = async (name: string, key: string): Promise<unknown> =>
  mill.inspect.state(name, key).then(
    ({ value }) => value,
    () => 0,
  );
const happened = async (name: string, key: string): Promise<void> => {
  await until(`${name} has had ${key}`, async () => (await times(name, key)) === 1);
};

describe('a function', () => {
  it('that gets another subject handles what comes from then on, and misses nothing of the others', async () => {
    const first = await startTestWorker(broker.url, [noted('grow', ['grow.old'])]);
    const other = await startTestWorker(broker.url, [noted('other', ['grow.new'])]);
    await mill.publish('grow.old', 1);
    await mill.publish('grow.new', 'early');
    await happened('grow', 'grow.old 1');
    await first.offer([noted('grow', ['grow.old', 'grow.new'], undefined, '2')], 'v2');
    await mill.publish('grow.old', 2);
    await mill.publish('grow.new', 3);
    await happened('grow', 'grow.old 2');
    await happened('grow', 'grow.new 3');
    expect(await times('grow', 'grow.old 1')).toBe(1);
    expect(await times('grow', 'grow.new early')).toBe(0);
    await first.stop();
    await other.stop();
  });

  it('of a new version is dispatched by it when the last worker with the old one is gone', async () => {
    const byTenant = ({ data }: { data: unknown }): string => String(data).split(' ')[0] as string;
    const byOrder = ({ data }: { data: unknown }): string => String(data).split(' ')[1] as string;
    const old = await startTestWorker(broker.url, [noted('rekey', ['rekey.*'], byTenant)]);
    await mill.publish('rekey.a', '1 2');
    await happened('rekey', 'rekey.a 1 2');
    const fresh = await startTestWorker(broker.url, [
      noted('rekey', ['rekey.*', 'rekeyed'], byOrder, '2'),
    ]);
    // Its number is lower than that of an event that another key of the same name has had.
    await Promise.all(
      Array.from({ length: 50 }, async (_, index) =>
        mill.publish('rekey.b', `${index} ${50 - index}`),
      ),
    );
    await mill.publish('rekeyed', 'x y');
    for (let index = 0; index < 50; index += 1)
      await happened('rekey', `rekey.b ${index} ${50 - index}`);
    await old.stop();
    await happened('rekey', 'rekeyed x y');
    await mill.publish('rekey.c', '2 1');
    await happened('rekey', 'rekey.c 2 1');
    for (let index = 0; index < 50; index += 1) {
      expect(await times('rekey', `rekey.b ${index} ${50 - index}`)).toBe(1);
    }
    await fresh.stop();
  }, 60_000);

  it('that gets another subject in a rolling deploy misses nothing of it, whoever reads the stream', async () => {
    const old = await startTestWorker(broker.url, [noted('roll', ['roll.old'])]);
    await mill.publish('roll.old', 1);
    await happened('roll', 'roll.old 1');
    const both = ['roll.old', 'roll.new'];
    const fresh = await startTestWorker(broker.url, [noted('roll', both, undefined, '2')]);
    // Reads it, too, and settles it at once.
    const other = await startTestWorker(broker.url, [noted('beside', ['roll.new'])]);
    await mill.publish('roll.new', 2);
    await mill.publish('roll.old', 3);
    await happened('roll', 'roll.old 3');
    await happened('beside', 'roll.new 2');
    // The streams are trimmed every ten seconds.
    await new Promise((resolve) => setTimeout(resolve, 11_000));
    expect(await times('roll', 'roll.new 2')).toBe(0);
    await old.stop();
    await happened('roll', 'roll.new 2');
    await mill.publish('roll.new', 4);
    await happened('roll', 'roll.new 4');
    for (const each of ['roll.old 1', 'roll.old 3']) expect(await times('roll', each)).toBe(1);
    await fresh.stop();
    await other.stop();
  }, 60_000);

  it('whose subject is widened keeps what waits for another attempt', async () => {
    let fails = true;
    const failing = (on: string): FunctionDefinition =>
      defineFunction({
        name: 'widen',
        on,
        retries: { minDelayMs: 2_500, maxDelayMs: 2_500 },
        handler: async ({ subject, data }, ctx) => {
          if (fails) throw new Error('not yet');
          await ctx.state<number>('widen').set(`${subject} ${String(data)}`, 1);
        },
      });
    const first = await startTestWorker(broker.url, [failing('widen.a')]);
    await mill.publish('widen.a', 1);
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    for (let count = 0; count < 5; count += 1) await mill.publish('roll.old', `filler ${count}`);
    await first.offer([failing('widen.*')], 'v2');
    fails = false;
    await mill.publish('widen.b', 2);
    await happened('widen', 'widen.b 2');
    await happened('widen', 'widen.a 1');
    expect(await mill.dead.list({ function: 'widen' })).toEqual([]);
    await first.stop();
  }, 60_000);

  it('that has just come has its events acknowledged by their stream', async () => {
    expect((await mill.publish('just.now', 1)).stream).toBeUndefined();
    const worker = await startTestWorker(broker.url, [noted('just', ['just.now'])]);
    // As soon as the publisher has heard of the worker; what it has learnt of the subject before would be believed for two seconds.
    await until(
      'it is acknowledged',
      async () => (await mill.publish('just.now', 2, { id: 'just' })).stream === 'millrace-events',
      1_000,
    );
    await happened('just', 'just.now 2');
    await worker.stop();
  });

  it('that is quiet keeps nothing of what others have settled', async () => {
    const worker = await startTestWorker(broker.url, [
      noted('quiet', ['hush.quiet']),
      noted('busy', ['hush.busy']),
    ]);
    await mill.publish('hush.busy', 1);
    await happened('busy', 'hush.busy 1');
    const manager = await nats.jetstreamManager();
    await until(
      'what was settled is gone',
      async () => {
        const { state } = await manager.streams.info('millrace-events', {
          subjects_filter: 'hush.>',
        });
        return Object.keys(state.subjects ?? {}).length === 0;
      },
      30_000,
    );
    expect(await times('quiet', 'hush.busy 1')).toBe(0);
    await worker.stop();
  }, 60_000);
});

describe('markers of keys', () => {
  it('are removed when nobody can ask for them any more, and events go on happening once', async () => {
    const settings = { answerKeepMs: 1_000, partitions: 4 };
    const own = await startTestBroker();
    const worker = await startTestWorker(
      own.url,
      [
        defineFunction({
          name: 'keyed',
          on: 'keyed.*',
          key: ({ subject }) => subject,
          // Longer than it takes until its dispatcher's cursor is asked.
          handler: async ({ subject }, ctx) => {
            const counters = ctx.state<number>('keyed');
            const before = (await counters.get(subject)) ?? 0;
            if (before > 0) await new Promise((resolve) => setTimeout(resolve, 300));
            await counters.set(subject, before + 1);
          },
        }),
      ],
      settings,
    );
    const client = await connect({ servers: own.url });
    const keys = async (): Promise<number> =>
      (await client.inspect.partitions()).reduce((sum, partition) => sum + partition.keys, 0);
    for (let round = 1; round <= 2; round += 1) {
      await Promise.all(
        Array.from({ length: 40 }, async (_, index) => client.publish(`keyed.${index}`, round)),
      );
      await until('all are counted', async () => {
        const { items } = await client.inspect.list('keyed', { limit: 100 });
        return items.length === 40 && items.every(({ value }) => value === round);
      });
      expect(await keys()).toBeGreaterThan(40);
      await until('their markers are gone', async () => (await keys()) === 40, 15_000);
    }
    await client.close();
    await worker.stop();
    await own.stop();
  }, 60_000);
});

describe('an event', () => {
  it('with a forged note of a dead letter is an event like any other', async () => {
    const worker = await startTestWorker(broker.url, [noted('forged', ['forged.*'])]);
    const headers = newHeaders();
    headers.set(
      'Millrace-Dead',
      JSON.stringify({
        function: 'x',
        id: 'x',
        subject: 'x',
        stream: 'x',
        sequence: 1,
        time: 'no time',
        headers: {},
        attempts: 1,
        failures: [],
      }),
    );
    nats.publish('forged.one', '1', { headers });
    await happened('forged', 'forged.one 1');
    expect(await mill.dead.list({ function: 'forged' })).toEqual([]);
    await worker.stop();
  });

  it('whose schema never answers is given up, and those behind it go on', async () => {
    const endless = {
      '~standard': {
        version: 1,
        vendor: 'test',
        validate: (value: unknown) =>
          value === 'endless' ? new Promise<never>(() => {}) : { value },
      },
    } as const;
    const worker = await startTestWorker(broker.url, [
      defineFunction({
        name: 'endless',
        on: 'endless.*',
        input: endless,
        key: ({ subject }) => subject,
        timeoutMs: 300,
        handler: async ({ subject, data }, ctx) => {
          await ctx.state<number>('endless').set(`${subject} ${String(data)}`, 1);
        },
      }),
    ]);
    await mill.publish('endless.a', 'endless');
    await mill.publish('endless.a', 'short');
    await happened('endless', 'endless.a short');
    const letters = await mill.dead.list({ function: 'endless' });
    expect(letters).toMatchObject([{ failures: [{ code: 'INVALID_INPUT' }] }]);
    await worker.stop();
  });

  it('that is larger than a transaction may be is a dead letter as a whole', async () => {
    const settings = { maxTransactionBytes: 128 * 1024, maxValueBytes: 64 * 1024 };
    const worker = await startTestWorker(
      broker.url,
      [
        defineFunction({
          name: 'large',
          on: 'large.*',
          retries: { maxAttempts: 1 },
          handler: () => {
            throw new Error('no');
          },
        }),
      ],
      settings,
    );
    const text = 'x'.repeat(300_000);
    await mill.publish('large.one', text);
    let letters = await mill.dead.list({ function: 'large' });
    await until('it is a dead letter', async () => {
      letters = await mill.dead.list({ function: 'large' });
      return letters.length === 1;
    });
    expect(letters[0]?.withoutPayload).toBeUndefined();
    await worker.stop();
  });
});
