/** A function takes part in a transaction of another worker, here one that this test plays. */
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectPlain, type NatsConnection, type Subscription } from 'nats';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Bus } from '../../src/bus/connection.ts';
import { openBus } from '../../src/client/client.ts';
import { parseSettings } from '../../src/core/settings.ts';
import { subjectsOf } from '../../src/core/subjects.ts';
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

/** Hears what it is asked and says nothing, until it is gone. */
async function silentCoordinator(): Promise<{ heard: string[]; gone: Subscription }> {
  const heard: string[] = [];
  const gone = nats.subscribe(subject, {
    callback: (_, message) => void heard.push(message.json<{ what: string }>().what),
  });
  await nats.flush();
  return { heard, gone };
}

it.each(['get', 'set'] as const)(
  'a %s does not wait for a worker that died with the answer under way',
  async (what) => {
    const { heard, gone } = await silentCoordinator();
    const counts = joined().collection('counts');
    let failed: unknown;
    const asked = (what === 'get' ? counts.get('a') : counts.set('a', 1)).catch(
      (error: unknown) => (failed = error),
    );
    // One that lives and takes its time is waited for.
    await delay(1_500);
    expect(failed).toBeUndefined();
    expect(heard[0]).toBe(what);
    expect(heard).toContain('probe');
    gone.unsubscribe();
    await asked;
    expect(failed).toMatchObject({ code: 'UNAVAILABLE' });
  },
);
