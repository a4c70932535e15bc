/** Calls with a key run where its state lies. */
import { connect as connectPlain, type NatsConnection } from 'nats';
import { z } from 'zod';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Mill } from '../../src/client/client.ts';
import { defineFunction } from '../../src/function/define.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const keyed = defineFunction({
  name: 'keyed',
  on: 'keyed',
  delivery: 'ephemeral',
  input: z.object({ account: z.string() }),
  key: ({ data }) => data.account,
  handler: (_, ctx) => ctx.invocation.worker,
});
const plain = defineFunction({ name: 'plain', handler: (_, ctx) => ctx.invocation.worker });
const calling = defineFunction({
  name: 'calling',
  handler: async ({ data }, ctx) => ctx.invoke(keyed, data as { account: string }),
});
const KEYS = Array.from({ length: 40 }, (_, index) => `account-${index}`);

let broker: TestBroker;
let workers: TestWorker[];
let mill: Mill;
let nats: NatsConnection;

beforeAll(async () => {
  broker = await startTestBroker();
  nats = await connectPlain({ servers: broker.url });
  workers = [];
  for (let index = 0; index < 3; index += 1) {
    workers.push(await startTestWorker(broker.url, [keyed, plain, calling]));
  }
  mill = await connect({ servers: broker.url });
  await until('all own something', async () =>
    (await mill.inspect.workers()).every(({ partitions }) => partitions.length > 0),
  );
  // The first call with a key begins to listen.
  await mill.invoke('plain', {}, { key: 'any' });
  await until('it knows where keys lie', async () => {
    const misplaced = await misplacedOf(async (key) => mill.invoke('plain', {}, { key }));
    return misplaced.length === 0;
  });
});

afterAll(async () => {
  await mill.close();
  for (const worker of workers) await worker.stop();
  await nats.close();
  await broker.stop();
});

/** Keys whose call ran elsewhere. */
async function misplacedOf(run: (key: string) => Promise<unknown>): Promise<string[]> {
  const misplaced: string[] = [];
  for (const key of KEYS) {
    const { owner } = await mill.inspect.key('accounts', key);
    if ((await run(key)) !== owner) misplaced.push(key);
  }
  return misplaced;
}

describe('a call runs where the state of its key lies', () => {
  it.each<[string, (key: string) => Promise<unknown>]>([
    ['with the option key', async (key) => mill.invoke('plain', {}, { key })],
    ['of a function given as such', async (account) => mill.invoke(keyed, { account })],
    ["of a handler's", async (account) => mill.invoke('calling', { account })],
    [
      'as a plain request',
      async (account) =>
        (await nats.request('keyed', JSON.stringify({ account }), { timeout: 5_000 })).json(),
    ],
  ])('%s', async (_, run) => {
    expect(await misplacedOf(run)).toEqual([]);
  });

  it('and anywhere where the key cannot be found: then its own fault is told', async () => {
    await expect(mill.invoke(keyed, {} as never)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    const reply = await nats.request('keyed', '{}', { timeout: 5_000 });
    expect(reply.json()).toMatchObject({ error: { code: 'INVALID_INPUT' } });
    await expect(mill.invoke('plain', {}, { key: '' })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
    });
  });
});
