/** Functions with a schedule: once a tick for all workers together, whoever comes and goes. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Mill } from '../../src/client/client.ts';
import { defineFunction } from '../../src/function/define.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker } from '../support/worker.ts';

interface Tick {
  scheduledAt: string;
}
interface Run extends Tick {
  worker: string;
  id: string;
  subject: string;
}

let broker: TestBroker;
let mill: Mill;
const failing = new Set<string>();
const second = defineFunction({
  name: 'second',
  cron: { schedule: '* * * * * *', missed: 'all' },
  retries: { minDelayMs: 50, maxDelayMs: 50 },
  handler: async ({ data, id, subject, attempt }, ctx) => {
    const { scheduledAt } = data as Tick;
    if (attempt === 1 && failing.size < 3) {
      failing.add(scheduledAt);
      throw new Error('not at first');
    }
    const runs = ctx.state<Run[]>('runs');
    const { worker } = ctx.invocation;
    await runs.set('all', [
      ...((await runs.get('all')) ?? []),
      { scheduledAt, worker, id, subject },
    ]);
  },
});

beforeAll(async () => {
  broker = await startTestBroker();
  mill = await connect({ servers: broker.url });
});

afterAll(async () => {
  await mill.close();
  await broker.stop();
});

const runsNow = async (): Promise<Run[]> =>
  mill.inspect.state('runs', 'all').then(
    ({ value }) => value as Run[],
    () => [],
  );

describe('a function with a schedule', () => {
  it('runs once for each tick, while workers come, go and are away', async () => {
    const one = await startTestWorker(broker.url, [second]);
    await until('the first ticks have run', async () => (await runsNow()).length >= 3);
    const two = await startTestWorker(broker.url, [second]);
    await delay(2_000);
    await one.stop();
    await delay(2_000);
    await two.stop();
    // Nobody is there for some ticks.
    await delay(2_500);
    const three = await startTestWorker(broker.url, [second]);
    const before = (await runsNow()).length;
    await until('ticks run again', async () => (await runsNow()).length >= before + 3);
    await three.stop();
    const four = await startTestWorker(broker.url, []);
    const runs = await runsNow();
    await four.stop();
    const times = runs.map(({ scheduledAt }) => Date.parse(scheduledAt)).toSorted((a, b) => a - b);
    const first = times[0] as number;
    expect(times).toEqual(times.map((_, index) => first + index * 1_000));
    expect(failing.size).toBe(3);
    expect(runs[0]).toMatchObject({
      id: `second-${runs[0]?.scheduledAt}`,
      subject: 'millrace.cron.second',
    });
  }, 60_000);
});
