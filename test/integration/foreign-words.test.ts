/**
 * What others have put into logs: JetStream's own words, as a publisher can have them put there by his reply subject
 * (SECURITY.md), and whatever somebody with a worker's rights publishes there.
 */
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

const junk = [
  '',
  'junk',
  '{}',
  '\u0000'.repeat(100),
  Buffer.from([2, 0, 255]),
  Buffer.alloc(4_096, 7),
];

it('what others put into logs harms no state, and holds it up for a moment only', async () => {
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
      for (const each of junk) raw.publish(reply, each);
    }
    await until('they are there', async () => {
      const after = await inLogs();
      return subjects.every(
        (subject) => (after[subject] ?? 0) > (before[subject] ?? 0) + junk.length,
      );
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

it('what others put in the place of the table of partitions is told, and not taken for a new cluster', async () => {
  const broker = await startTestBroker();
  const worker = await startTestWorker(broker.url, [count], { partitions: 2 });
  const mill = await connect({ servers: broker.url });
  const raw = await connectNats({ servers: broker.url });
  try {
    expect(await mill.invoke('count', 'a')).toBe(1);
    await raw.jetstream().publish('$KV.millrace-assignment.assignment', '{"owners":7}');
    const why = {
      code: 'STREAM_UNUSABLE',
      message: expect.stringContaining(
        'key assignment of the bucket millrace-assignment',
      ) as string,
    };
    await expect(startTestWorker(broker.url, [count])).rejects.toMatchObject(why);
    await until('the worker that runs says so', () =>
      worker.logs.some(({ code }) => code === 'STREAM_UNUSABLE'),
    );
    // It serves what it has.
    expect(await mill.invoke('count', 'a')).toBe(2);
  } finally {
    await mill.close();
    await raw.close();
    await worker.stop();
    await broker.stop();
  }
});
