/** Accounts: the boundary between those who do not trust each other. */
import { connect as connectNats, type NatsConnection } from 'nats';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { defineFunction } from 'millrace';
import { connect } from '../../src/client/client.ts';
import { startConfigured, type SecuredBroker } from '../support/secured.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

/** As SECURITY.md has it: the shop reaches the events of the mill, and nothing else. */
const ACCOUNTS = `
accounts {
  MILL {
    jetstream: enabled
    users: [ { user: mill, password: "of-tests-only" } ]
    exports: [
      { service: "orders.>" }
    ]
  }
  SHOP {
    users: [ { user: shop, password: "of-tests-only" } ]
    imports: [
      { service: { account: MILL, subject: "orders.>" } }
    ]
  }
  OTHER {
    jetstream: enabled
    users: [ { user: other, password: "of-tests-only" } ]
  }
}`;

let broker: SecuredBroker;
let mill: NatsConnection;
let workers: TestWorker[];
const urlOf = (user: string): string =>
  broker.url.replace('nats://', `nats://${user}:of-tests-only@`);
const placed = (by: string, seen: unknown[]) =>
  defineFunction({
    name: `placed-${by}`,
    on: 'orders.placed',
    handler: async ({ data }, ctx) => {
      await ctx.state('seen').set(by, data);
      seen.push(data);
    },
  });
const seenByMill: unknown[] = [];
const seenByOther: unknown[] = [];

beforeAll(async () => {
  broker = await startConfigured(ACCOUNTS);
  mill = await connectNats({ servers: broker.url, user: 'mill', pass: 'of-tests-only' });
  workers = await Promise.all([
    startTestWorker(urlOf('mill'), [placed('mill', seenByMill)], { partitions: 2 }),
    startTestWorker(urlOf('other'), [placed('other', seenByOther)], { partitions: 2 }),
  ]);
});

afterAll(async () => {
  await Promise.all(workers.map((worker) => worker.stop()));
  await mill.close();
  await broker.stop();
});

it('two accounts with the same namespace see nothing of each other', async () => {
  await using there = await connect({ servers: urlOf('other') });
  await using here = await connect({ servers: urlOf('mill') });
  await there.publish('orders.placed', { for: 'other' });
  await until('the other account has it', () => seenByOther.length === 1);
  const [own] = await here.inspect.workers();
  const [others] = await there.inspect.workers();
  expect([own?.id, others?.id]).toEqual(workers.map(({ id }) => id));
  await expect(here.inspect.state('seen', 'other')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  expect(seenByMill).toEqual([]);
});

it('a publisher in an account of its own publishes, and its reply subject reaches no log', async () => {
  await using shop = await connect({ servers: urlOf('shop'), role: 'publisher' });
  const { stream } = await shop.publish('orders.placed', { for: 'mill' });
  expect(stream).toBe('millrace-events');
  await until('it is handled', () => seenByMill.length === 1);
  const raw = await connectNats({ servers: broker.url, user: 'shop', pass: 'of-tests-only' });
  const claims = async (): Promise<string> => {
    const manager = await mill.jetstreamManager();
    const last = { last_by_subj: 'millrace.log.claims-0' };
    const { seq, data } = await manager.streams.getMessage('millrace-log', last);
    return `${seq} ${Buffer.from(data).toString('hex')}`;
  };
  const before = await claims();
  for (let number = 0; number < 20; number += 1) {
    raw.publish('orders.placed', '{}', { reply: 'millrace.log.claims-0' });
  }
  await raw.flush();
  // Behind them, on the same connection.
  await raw.request('orders.placed', '{}');
  expect(await claims()).toBe(before);
  await raw.close();
});

it('in one account the broker writes its acknowledgement wherever a publisher names: hence accounts', async () => {
  const raw = await connectNats({ servers: broker.url, user: 'mill', pass: 'of-tests-only' });
  // Of a name that no worker has: nothing is harmed.
  raw.publish('orders.placed', '{}', { reply: 'millrace.log.nobody' });
  await raw.flush();
  const manager = await mill.jetstreamManager();
  const stored = await until('it is stored', () =>
    manager.streams
      .getMessage('millrace-log', { last_by_subj: 'millrace.log.nobody' })
      .catch(() => undefined),
  );
  expect(Buffer.from(stored.data).toString()).toContain('millrace-events');
  await raw.close();
});
