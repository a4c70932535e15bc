import { connect as connectNats } from 'nats';
import { describe, expect, it } from 'vitest';
import { connect, defineFunction } from 'millrace';
import { startTestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker } from '../support/worker.ts';

describe('inspect', () => {
  it('counts events by subject over all workers, whatever the subject is called', async () => {
    const subjects = ['__proto__', 'constructor', 'plain'];
    const odd = defineFunction({
      name: '__proto__',
      on: subjects,
      delivery: 'ephemeral',
      handler: () => 1,
    });
    const broker = await startTestBroker();
    const workers = [
      await startTestWorker(broker.url, [odd]),
      await startTestWorker(broker.url, [odd]),
    ];
    const nats = await connectNats({ servers: broker.url });
    await using mill = await connect({ servers: broker.url });
    await until('both are known', async () => (await mill.inspect.workers()).length === 2);
    for (const subject of subjects) {
      await Promise.all(Array.from({ length: 50 }, () => nats.request(subject, '1')));
    }
    expect((await mill.inspect.workers()).map(({ state }) => state)).toEqual([
      'running',
      'running',
    ]);
    const [counted] = await mill.inspect.functions();
    expect(counted).toMatchObject({ name: '__proto__', workers: 2, calls: 150 });
    expect(new Map(Object.entries(counted?.subjects ?? {}))).toEqual(
      new Map(subjects.map((subject) => [subject, 50])),
    );
    await nats.close();
    await Promise.all(workers.map((worker) => worker.stop()));
    await broker.stop();
  });
});
