/** A function takes part in a transaction of another worker, here one that this test plays. */
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectPlain, type NatsConnection } from 'nats';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Bus } from '../../src/bus/connection.ts';
import { openBus } from '../../src/client/client.ts';
import { parseSettings } from '../../src/core/settings.ts';
import { subjectsOf } from '../../src/core/subjects.ts';
import { Interrupted } from '../../src/state/attempt.ts';
import { RemoteTransaction } from '../../src/state/join.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';

const FAR_MS = 3_600_000;
const settings = parseSettings({});
const subject = subjectsOf(settings.namespace).stateJoin('ghost');

let broker: TestBroker;
let bus: Bus;
let nats: NatsConnection;

beforeAll(async () => {
  broker = await startTestBroker();
  ({ bus } = await openBus({ servers: broker.url }, 'joining'));
  nats = await connectPlain({ servers: broker.url });
});
afterAll(async () => {
  await bus.close();
  await nats.close();
  await broker.stop();
});

const joined = (): RemoteTransaction =>
  new RemoteTransaction(bus, settings, { tx: 'tx-1', worker: 'ghost' }, performance.now() + FAR_MS);

it('nothing waits for a worker that died with the answer under way', async () => {
  // It hears what it is asked and says nothing, until it is gone.
  const heard: string[] = [];
  const coordinator = nats.subscribe(subject, {
    callback: (_, message) => void heard.push(message.json<{ what: string }>().what),
  });
  await nats.flush();
  const counts = joined().collection('counts');
  const failures: unknown[] = [];
  const asked = [counts.get('a'), counts.set('a', 1), counts.delete('a')].map(async (answer) =>
    answer.catch((error: unknown) => failures.push(error)),
  );
  // One that lives and takes its time is waited for.
  await delay(1_500);
  expect(failures).toEqual([]);
  expect(heard.slice(0, 3)).toEqual(['get', 'set', 'delete']);
  expect(heard).toContain('probe');
  coordinator.unsubscribe();
  await Promise.all(asked);
  // What was written may have been done: the whole is run again, whatever the handler makes of it.
  const lost = expect.any(Interrupted) as unknown;
  const gone = expect.objectContaining({ code: 'UNAVAILABLE' }) as unknown;
  expect(failures).toHaveLength(3);
  expect(failures).toEqual(expect.arrayContaining([gone, lost, lost]));
});
