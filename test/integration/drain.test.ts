/** A worker that leaves: what was sent to it is served or refused, never lost, and nothing new is taken on. */
import { connect as connectNats, createInbox, type NatsConnection } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, defineFunction, type Mill } from 'millrace';
import { encodeCalls } from '../../src/bus/frame.ts';
import { ContentType } from '../../src/core/payload.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker } from '../support/worker.ts';

let broker: TestBroker;
let mill: Mill;
let nats: NatsConnection;

beforeAll(async () => {
  broker = await startTestBroker();
  mill = await connect({ servers: broker.url });
  nats = await connectNats({ servers: broker.url });
});

afterAll(async () => {
  await mill.close();
  await nats.close();
  await broker.stop();
});

/** No listener is left on the subject, by the broker's word. */
async function isDeaf(subject: string): Promise<boolean> {
  return nats.request(subject, '1', { timeout: 100 }).then(
    () => false,
    (error: unknown) => (error as { code: unknown }).code === '503',
  );
}

describe('a reload during a drain', () => {
  it('takes nothing on again', async () => {
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    const held = defineFunction({
      name: 'held',
      on: 'drain.held',
      delivery: 'ephemeral',
      handler: () => gate,
    });
    const leaving = await startTestWorker(broker.url, [held]);
    const taken = mill.invoke(held, 1);
    await until('it runs', () => leaving.worker.inFlight === 1);
    const left = leaving.worker.drain();
    await until('it takes nothing on any more', () => isDeaf('drain.held'));
    await leaving.offer([held], 'v2');
    expect(await isDeaf('drain.held')).toBe(true);
    open();
    await taken;
    // A request of the waiting above may have been taken before the end.
    expect(await left).toBe(true);
    await leaving.stop();
  });
});

describe('frames that are under way when a worker stops listening', () => {
  it('are answered, or refused by the broker', async () => {
    const echo = defineFunction({ name: 'echo', handler: ({ data }) => data });
    const leaving = await startTestWorker(broker.url, [echo]);
    const inbox = createInbox();
    const open = new Set<number>();
    // A frame's answer comes to <inbox>.<n>.c.r, "no responders" to its reply subject <inbox>.<n>.c.f.1.1.
    nats.subscribe(`${inbox}.>`, {
      callback: (_, { subject }) => void open.delete(Number(subject.split('.')[2])),
    });
    const call = {
      functionName: 'echo',
      encoded: { type: ContentType.json, body: '1' },
      attempt: 1,
      retry: true,
      timeoutMs: 10_000,
      eventId: '',
      headers: '',
    };
    const frame = encodeCalls(1, [call], 100);
    const state = { left: false };
    const left = leaving.worker.drain().finally(() => (state.left = true));
    let sent = 0;
    while (!state.left) {
      for (let burst = 0; burst < 50; burst += 1) {
        sent += 1;
        open.add(sent);
        nats.publish(`millrace.worker.${leaving.id}.call`, frame, {
          reply: `${inbox}.${sent}.c.f.1.1`,
        });
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await left).toBe(true);
    await until('each frame has had its fate', () => open.size === 0, 2_000);
    expect(sent).toBeGreaterThan(100);
    await leaving.stop();
  });
});
