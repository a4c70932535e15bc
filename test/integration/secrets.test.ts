/** Secrets of functions leave a worker by no way that the platform has: docs/security.md. */
import { connect as connectRaw, type NatsConnection } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, defineFunction, type Mill } from 'millrace';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const VALUE = 'sk_live_51H8"quoted"\n/and=more';
const SECRET = 'MILLRACE_TEST_KEY';

let broker: TestBroker;
let worker: TestWorker;
let mill: Mill;
let raw: NatsConnection;
/** All that has gone over the broker. */
const seen: string[] = [];

const leaks = (how: string) => {
  type Data = { how: string };
  return defineFunction({
    name: how,
    secrets: [SECRET],
    on: `leaks.${how}`,
    retries: { maxAttempts: 1 },
    handler: async (_, ctx) => {
      const value = ctx.secret(SECRET);
      if (how === 'answers') return { deep: [value] };
      if (how === 'answers-bytes') return Buffer.from(`key=${value}`);
      if (how === 'throws') throw new Error(`401: bad key ${value}`);
      if (how === 'throws-other') throw Object.assign(new Error('no'), { name: value });
      if (how === 'logs') ctx.log.info({ value, text: JSON.stringify({ value }) }, `with ${value}`);
      if (how === 'writes') await ctx.state<Data>('kept').set('a', { how: value });
      if (how === 'writes-key') await ctx.state('kept').set(`a ${encodeURIComponent(value)}`, 1);
      if (how === 'emits') await ctx.emit('leaked.event', { value });
      if (how === 'emits-header') {
        await ctx.emit('leaked.event', 1, { headers: { key: encodeURIComponent(value) } });
      }
      if (how === 'calls') await ctx.invoke('echo', { value });
      return 'done';
    },
  });
};

const parts = defineFunction({
  name: 'parts',
  secrets: [SECRET],
  async *handler(_, ctx) {
    yield 'first';
    yield `second ${ctx.secret(SECRET)}`;
  },
});
const echo = defineFunction({ name: 'echo', handler: ({ data }) => data });
const uses = defineFunction({
  name: 'uses',
  secrets: [SECRET],
  handler: (_, ctx) => ctx.secret(SECRET).length,
});
const asks = defineFunction({ name: 'asks', handler: (_, ctx) => ctx.secret(SECRET) });

const REFUSED = [
  'answers',
  'answers-bytes',
  'writes',
  'writes-key',
  'emits',
  'emits-header',
  'calls',
];

beforeAll(async () => {
  process.env[SECRET] = VALUE;
  broker = await startTestBroker();
  raw = await connectRaw({ servers: broker.url });
  raw.subscribe('>', {
    callback: (_, { data, headers }) => {
      seen.push(`${Buffer.from(data).toString('latin1')} ${JSON.stringify([...(headers ?? [])])}`);
    },
  });
  const all = [...REFUSED, 'throws', 'throws-other', 'logs'].map(leaks);
  worker = await startTestWorker(broker.url, [...all, parts, echo, uses, asks]);
  mill = await connect({ servers: broker.url });
});
afterAll(async () => {
  delete process.env[SECRET];
  await mill.close();
  await raw.close();
  await worker.stop();
  await broker.stop();
});

const failure = (name: string): Promise<{ code: string; message: string }> =>
  mill.invoke(name).then(
    () => {
      throw new Error('it was answered');
    },
    (error: { code: string; message: string }) => error,
  );

describe('a function with a secret', () => {
  it('has its value', async () => {
    expect(await mill.invoke('uses')).toBe(VALUE.length);
  });

  it.each(REFUSED)('is refused what would give it away: %s', async (how) => {
    const { code, message } = await failure(how);
    expect(code).toBe('FUNCTION_FAILED');
    expect(message).toContain(`would give the secret ${SECRET} away`);
  });

  it('may answer in parts as long as none holds it', async () => {
    const received: unknown[] = [];
    const all = async (): Promise<void> => {
      for await (const part of mill.stream('parts')) received.push(part);
    };
    await expect(all()).rejects.toMatchObject({ code: 'FUNCTION_FAILED' });
    expect(received).toEqual(['first']);
  });

  it('says its name where an error would say it', async () => {
    expect((await failure('throws')).message).toBe(`throws failed: 401: bad key [${SECRET}]`);
    await failure('throws-other');
  });

  it('has no dead letter that holds it', async () => {
    await mill.publish('leaks.throws', { some: 'thing' });
    const [dead] = await until('it is given up', async () => {
      const all = await mill.dead.list();
      return all.length > 0 && all;
    });
    expect(dead?.failures.at(-1)?.message).toContain(`bad key [${SECRET}]`);
  });

  it('logs it under its name', async () => {
    expect(await mill.invoke('logs')).toBe('done');
    const line = worker.logs.find(({ msg }) => String(msg).startsWith('with '));
    expect(line).toMatchObject({ msg: `with [${SECRET}]`, value: `[${SECRET}]` });
  });

  it('is the only one that is given it', async () => {
    expect(await failure('asks')).toMatchObject({
      code: 'INVALID_INPUT',
      message: `asks does not name the secret "${SECRET}" in its option secrets.`,
    });
  });
});

it('nothing of it went over the broker, into the log, or is inspected', async () => {
  const inspected = [
    await mill.inspect.workers(),
    await mill.inspect.functions(),
    await mill.inspect.transactions(),
    await mill.dead.list(),
  ];
  await raw.flush();
  expect(seen.length).toBeGreaterThan(50);
  const all = [
    ...seen,
    ...worker.logs.map((line) => JSON.stringify(line)),
    JSON.stringify(inspected),
  ];
  const forms = [VALUE, JSON.stringify(VALUE).slice(1, -1), encodeURIComponent(VALUE)];
  for (const text of all) for (const form of forms) expect(text).not.toContain(form);
});

it('functions without it are offered as before where one is missing, and the reason is told', async () => {
  const needs = defineFunction({ name: 'needs', secrets: ['NOT_HERE'], handler: () => 1 });
  await expect(worker.offer([echo, needs])).rejects.toMatchObject({
    code: 'FUNCTION_LOAD_FAILED',
    message: expect.stringContaining('needs needs the secret NOT_HERE') as string,
  });
  expect(await mill.invoke('uses')).toBe(VALUE.length);
});
