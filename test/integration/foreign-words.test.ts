/** JetStream's own words in a log, as a publisher can have them put there by his reply subject (SECURITY.md). */
import { connect as connectNats } from 'nats';
import { expect, it } from 'vitest';
import { defineFunction } from 'millrace';
import { connect } from '../../src/client/client.ts';
import { startTestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker } from '../support/worker.ts';

const count = defineFunction({
  name: 'count',
  on: 'orders.counted',
  handler: async ({ data }, ctx) => {
    const counts = ctx.state<number>('counts');
    const next = ((await counts.get(String(data))) ?? 0) + 1;
    await counts.set(String(data), next);
    return next;
  },
});

it('acknowledgements that are put into logs harm no state, and hold it up for a moment only', async () => {
  const broker = await startTestBroker();
  const settings = { partitions: 2 };
  let worker = await startTestWorker(broker.url, [count], settings);
  const mill = await connect({ servers: broker.url });
  const raw = await connectNats({ servers: broker.url });
  const manager = await raw.jetstreamManager();
  const invoke = (): Promise<unknown> =>
    until(
      'it is served',
      () => mill.invoke('count', 'a', { timeoutMs: 5_000 }).catch(() => 0),
      30_000,
    );
  expect(await invoke()).toBe(1);
  const inLogs = async (): Promise<Record<string, number>> => {
    const { state } = await manager.streams.info('millrace-log', { subjects_filter: '>' });
    return state.subjects ?? {};
  };
  const attack = async (): Promise<void> => {
    const before = await inLogs();
    const subjects = Object.keys(before);
    expect(subjects.some((subject) => subject.includes('journal-'))).toBe(true);
    for (const reply of [...subjects, 'millrace.snapshot.0']) {
      raw.publish('orders.counted', '"other"', { reply });
    }
    await until('they are there', async () => {
      const after = await inLogs();
      return subjects.every((subject) => (after[subject] ?? 0) > (before[subject] ?? 0));
    });
  };
  await attack();
  expect(await invoke()).toBe(2);
  await attack();
  await worker.stop();
  worker = await startTestWorker(broker.url, [count], settings);
  // Nothing is lost: what was counted before is counted on.
  expect(await invoke()).toBe(3);
  await mill.close();
  await raw.close();
  await worker.stop();
  await broker.stop();
}, 90_000);
