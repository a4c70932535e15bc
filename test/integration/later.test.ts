/** Events that are to come later: published once, at their time, whatever ends meanwhile. */
import { connect as connectPlain, type NatsConnection } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Mill } from '../../src/client/client.ts';
import { defineFunction } from '../../src/function/define.ts';
import type { FunctionEvent } from '../../src/function/context.ts';
import { isLong } from '../support/long.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

/** What each run of a handler was given, with the time on the wall. */
let runs: (FunctionEvent & { atMs: number })[] = [];
const runsOf = (id: string) => runs.filter((run) => run.id === id);
const note = (event: FunctionEvent): void => void runs.push({ ...event, atMs: Date.now() });

const remind = defineFunction({
  name: 'remind',
  on: 'remind.>',
  handler: async (event, ctx) => {
    note(event);
    const counters = ctx.state<number>('reminded');
    await counters.set(event.id, ((await counters.get(event.id)) ?? 0) + 1);
  },
});
const glance = defineFunction({
  name: 'glance',
  on: 'glance',
  delivery: 'ephemeral',
  handler: note,
});
const plan = defineFunction({
  name: 'plan',
  on: 'plan',
  retries: { maxAttempts: 1 },
  handler: async (event, ctx) => {
    const { id, delayMs, fails } = event.data as { id: string; delayMs: number; fails: boolean };
    await ctx.state('plans').set(id, delayMs);
    await ctx.emit('remind.planned', { plan: id }, { id, delayMs });
    if (fails) throw new Error('no plan');
  },
});
const functions = [remind, glance, plan];

let broker: TestBroker;
let workers: TestWorker[];
let mill: Mill;
let nats: NatsConnection;

beforeAll(async () => {
  broker = await startTestBroker();
  mill = await connect({ servers: broker.url });
  nats = await connectPlain({
    servers: broker.url,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 100,
  });
  workers = [
    await startTestWorker(broker.url, functions),
    await startTestWorker(broker.url, functions),
  ];
});

afterAll(async () => {
  await nats.close();
  await mill.close();
  for (const worker of workers) await worker.stop();
  await broker.stop();
});

const remindedOf = async (id: string): Promise<unknown> =>
  mill.inspect.state('reminded', id).then(
    ({ value }) => value,
    () => undefined,
  );
const messagesIn = async (filter: string): Promise<number> => {
  const manager = await nats.jetstreamManager();
  const { state } = await manager.streams.info('millrace-later', { subjects_filter: filter });
  return Object.keys(state.subjects ?? {}).length;
};
/** All that was to come later has come, as far as its publisher knows; what comes twice has come twice. */
const published = async (): Promise<boolean> => {
  if ((await messagesIn('millrace.later.*')) > 0) return false;
  const cursors = await nats.jetstream().views.kv('millrace-deliveries');
  const stream = Buffer.from('millrace-later').toString('base64url');
  const cursor = (await cursors.get(`=later.${stream}`))?.json<{ next: number; open: unknown[] }>();
  const { state } = await (await nats.jetstreamManager()).streams.info('millrace-later');
  return cursor?.open.length === 0 && cursor.next > state.last_seq;
};
const settled = async (): Promise<void> => {
  await until('nothing waits for its time', () => published().catch(() => false), 20_000);
  await until('all is handled', async () =>
    (await mill.inspect.functions()).every(({ pending }) => pending === 0),
  );
};
/** Waits for all of them; gives how often those were handled that were not handled once. */
const notOnce = async (ids: readonly string[]): Promise<unknown[]> => {
  await until('all have run', () => ids.every((id) => runsOf(id).length > 0), 30_000);
  await settled();
  const counts = await Promise.all(ids.map(async (id) => remindedOf(id)));
  return counts.filter((count) => count !== 1);
};

describe('an event with a delay', () => {
  it('runs its function once, and not before its time', async () => {
    const beganMs = Date.now();
    const receipt = await mill.publish('remind.me', 1, { id: 'soon', delayMs: 1_200 });
    expect(receipt).toMatchObject({ id: 'soon', stream: 'millrace-later', duplicate: false });
    await until('it has run', () => runsOf('soon').length > 0);
    expect(runsOf('soon')[0]?.atMs).toBeGreaterThanOrEqual(beganMs + 1_200);
    await settled();
    expect(await remindedOf('soon')).toBe(1);
  });

  it('comes as it was published: data, headers, id and subject', async () => {
    const at = new Date(Date.now() + 500);
    const headers = {
      traceparent: '00-aaaa-bbbb-01',
      'x-city': 'Zürich',
      'Content-Type': 'application/json',
    };
    const data = { text: 'a "quoted" Grüße', list: [1, 2.5, null] };
    await mill.publish('remind.one.two', data, { id: 'ä/ 1.*>', at, headers });
    const run = await until('it has run', () => runsOf('ä/ 1.*>')[0]);
    expect(run).toMatchObject({ subject: 'remind.one.two', data, attempt: 1 });
    expect(run.headers).toEqual({ ...headers, 'Nats-Msg-Id': 'ä/ 1.*>' });
  });

  it.each([
    ['bytes', Uint8Array.from([0, 255, 1, 254])],
    ['nothing', undefined],
    ['a megabyte', 'x'.repeat(1_000_000)],
  ])('may be %s', async (what, data) => {
    await mill.publish('remind.kinds', data, { id: what, delayMs: 300 });
    const run = await until('it has run', () => runsOf(what)[0]);
    expect(run.data).toEqual(data);
  });

  it('reaches ephemeral functions, too', async () => {
    await mill.publish('glance', 'now?', { id: 'glanced', delayMs: 400 });
    await until('it has run', () => runsOf('glanced').length > 0);
    await settled();
    expect(runsOf('glanced').map(({ data }) => data)).toEqual(['now?']);
  });

  it('is published at once where its time is over', async () => {
    const past = await mill.publish('remind.me', 1, { id: 'past', at: '2020-01-01T00:00:00Z' });
    const none = await mill.publish('remind.me', 1, { id: 'none', delayMs: 0 });
    expect([past.stream, none.stream]).toEqual(['millrace-events', 'millrace-events']);
  });

  it('is kept once under its id, but apart on another subject', async () => {
    const options = { id: 'twice', delayMs: 800 };
    const first = await mill.publish('remind.me', 1, options);
    const again = await mill.publish('remind.me', 1, options);
    expect([first.duplicate, again.duplicate]).toEqual([false, true]);
    await mill.publish('glance', 2, options);
    await settled();
    expect(
      runsOf('twice')
        .map(({ subject }) => subject)
        .sort(),
    ).toEqual(['glance', 'remind.me']);
  });

  it('may not be published under the platform’s own subjects', async () => {
    const refused = mill.publish('millrace.due.x', 1, { delayMs: 10 });
    await expect(refused).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  });

  it('counts once, each of five hundred that are due together', async () => {
    const at = new Date(Date.now() + 1_500);
    const ids = Array.from({ length: 500 }, (_, index) => `many-${index}`);
    await Promise.all(ids.map(async (id) => mill.publish('remind.many', 1, { id, at })));
    await until('all have run', () => ids.every((id) => runsOf(id).length > 0), 20_000);
    await settled();
    expect(ids.filter((id) => runsOf(id).length !== 1)).toEqual([]);
  });

  it('leaves nothing behind', async () => {
    const left = async (): Promise<number> => messagesIn('millrace.due.*');
    await until('what was due is trimmed', async () => (await left()) === 0, 25_000);
    expect(await messagesIn('>')).toBe(0);
  }, 30_000);
});

describe('an event that is emitted with a delay', () => {
  it('is part of the transaction', async () => {
    const began = Date.now();
    await mill.invoke('plan', { id: 'planned', delayMs: 700, fails: false });
    const run = await until('it has run', () => runsOf('planned')[0]);
    expect(run.data).toEqual({ plan: 'planned' });
    expect(run.atMs).toBeGreaterThanOrEqual(began + 700);
  });

  it('is not even kept when the handler throws', async () => {
    await expect(
      mill.invoke('plan', { id: 'failed', delayMs: 300, fails: true }),
    ).rejects.toMatchObject({ code: 'FUNCTION_FAILED' });
    await mill.publish('plan', { id: 'failed', delayMs: 300, fails: true });
    await until(
      'it is dead',
      async () => (await mill.dead.list({ function: 'plan' })).length === 1,
    );
    expect(await messagesIn('millrace.later.*')).toBe(0);
    await settled();
    expect(runsOf('failed')).toEqual([]);
  });

  it('is refused at the call where its time is none', async () => {
    const failing = mill.invoke('plan', { id: 'wrong', delayMs: -1, fails: false });
    await expect(failing).rejects.toThrow(/delayMs must be an integer from 0/);
  });
});

describe('what publishes them', () => {
  it('is not shown, and cannot be called', async () => {
    const names = (await mill.inspect.functions()).map(({ name }) => name);
    expect(names.sort()).toEqual(['glance', 'plan', 'remind']);
    const shown = (await mill.inspect.workers()).flatMap((worker) => worker.functions);
    expect(new Set(shown)).toEqual(new Set(names));
    await expect(mill.invoke('=later', {})).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    const answer = await nats.request('millrace.fn.=later', '{}', { timeout: 2_000 });
    expect(answer.headers?.get('Nats-Service-Error-Code')).toBe('404');
    const info = await nats.request('$SRV.INFO.millrace', '', { timeout: 2_000 });
    expect(info.string()).not.toContain('=later');
  });

  it('does not publish what somebody else has put there', async () => {
    nats.publish('millrace.due.forged', '"forged"');
    const letter = await until(
      'it is dead',
      async () => (await mill.dead.list({ function: '=later' }))[0],
    );
    expect(letter.failures[0]?.message).toContain('no event that was to come later');
    await mill.dead.drop(letter.number);
  });
});

describe('the stream of events that wait', () => {
  it('is made by whoever needs it first, a client where there is no worker yet', async () => {
    const namespace = 'fresh';
    await using early = await connect({ servers: broker.url, namespace });
    const receipt = await early.publish('remind.fresh', 1, { id: 'fresh', delayMs: 50 });
    expect(receipt).toMatchObject({ stream: 'fresh-later', sequence: 1 });
    const worker = await startTestWorker(broker.url, [remind], { namespace });
    await until('it has run', () => runsOf('fresh').length > 0);
    await worker.stop();
  });

  it('is refused where one of its name cannot serve, and says why', async () => {
    const manager = await nats.jetstreamManager();
    await manager.streams.add({ name: 'taken-later', subjects: ['taken.later.*'] });
    await using refused = await connect({ servers: broker.url, namespace: 'taken' });
    const why = {
      code: 'STREAM_UNUSABLE',
      message: expect.stringMatching(
        /taken-later cannot .* no allow_msg_schedules, not the subject taken\.due\.\*/,
      ) as string,
    };
    const late = refused.publish('remind.taken', 1, { delayMs: 50 });
    await expect(late).rejects.toMatchObject(why);
    const starting = startTestWorker(broker.url, [], { namespace: 'taken' });
    await expect(starting).rejects.toMatchObject(why);
    await refused.publish('remind.taken', 1);
  });

  it('is made again where it was removed', async () => {
    await using mended = await connect({ servers: broker.url, namespace: 'removed' });
    const options = { delayMs: 60_000 };
    await mended.publish('remind.removed', 1, options);
    await (await nats.jetstreamManager()).streams.delete('removed-later');
    await expect(mended.publish('remind.removed', 1, options)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
    });
    const receipt = await mended.publish('remind.removed', 1, options);
    expect(receipt).toMatchObject({ stream: 'removed-later', sequence: 1 });
  });
});

describe('meanwhile', () => {
  it('all workers may be away', async () => {
    for (const worker of workers) await worker.stop();
    await mill.publish('remind.me', 1, { id: 'nobody', delayMs: 300 });
    await until('it is due', async () => (await messagesIn('millrace.later.*')) === 0);
    workers = [
      await startTestWorker(broker.url, functions),
      await startTestWorker(broker.url, functions),
    ];
    await until('it has run', () => runsOf('nobody').length > 0, 20_000);
    await settled();
    expect(await remindedOf('nobody')).toBe(1);
  }, 30_000);

  it('a worker may leave just when events are due', async () => {
    const at = new Date(Date.now() + 1_000);
    const ids = Array.from({ length: 200 }, (_, index) => `left-${index}`);
    await Promise.all(ids.map(async (id) => mill.publish('remind.left', 1, { id, at })));
    await until('some have run', () => runs.some(({ id }) => id.startsWith('left-')));
    const [leaving] = workers.splice(0, 1);
    await leaving?.stop();
    expect(await notOnce(ids)).toEqual([]);
  }, 30_000);

  it('the broker may be away when they are due', async () => {
    const ids = Array.from({ length: 50 }, (_, index) => `away-${index}`);
    const at = new Date(Date.now() + 1_000);
    await Promise.all(ids.map(async (id) => mill.publish('remind.away', 1, { id, at })));
    await broker.kill();
    await until('they are due', () => Date.now() > at.getTime() + 500);
    await broker.restart();
    expect(await notOnce(ids)).toEqual([]);
  }, 60_000);

  it('the broker may be killed while it publishes them', async () => {
    const ids = Array.from({ length: 300 }, (_, index) => `killed-${index}`);
    const at = new Date(Date.now() + 1_500);
    await Promise.all(ids.map(async (id) => mill.publish('remind.killed', 1, { id, at })));
    await until('some have run', () => runs.some(({ id }) => id.startsWith('killed-')));
    await broker.kill();
    await broker.restart();
    expect(await notOnce(ids)).toEqual([]);
  }, 60_000);

  it.runIf(isLong)(
    'the broker may be told again to keep one that has come already',
    async () => {
      await mill.publish('glance', 1, { id: 'again', delayMs: 300 });
      await until('it has run', () => runsOf('again').length > 0);
      // It forgets the ids of what it no longer has.
      await broker.restart();
      const again = await until('the connection is back', async () =>
        mill.publish('glance', 1, { id: 'again', delayMs: 300 }).catch(() => undefined),
      );
      expect(again.duplicate).toBe(false);
      await mill.publish('glance', 1, { id: 'behind', delayMs: 400 });
      await until('the next has run', () => runsOf('behind').length > 0, 20_000);
      await settled();
      expect(runsOf('again')).toHaveLength(1);
    },
    60_000,
  );
});
