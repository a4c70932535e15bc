/** Where answers go, and where they must not go. */
import { connect as connectNats, nuid, type NatsConnection } from 'nats';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { connect, defineFunction } from 'millrace';
import { encodeCalls } from '../../src/bus/frame.ts';
import { ContentType } from '../../src/core/payload.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

let runs = 0;
const echo = defineFunction({
  name: 'echo',
  on: 'answers.echo',
  delivery: 'ephemeral',
  handler: ({ data }) => {
    runs += 1;
    return data;
  },
});

let broker: TestBroker;
let nats: NatsConnection;
const workers: TestWorker[] = [];

beforeAll(async () => {
  broker = await startTestBroker();
  nats = await connectNats({ servers: broker.url });
});

afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop()));
});

afterAll(async () => {
  await nats.close();
  await broker.stop();
});

const WORKER_QUESTIONS = ['ping', 'report'];
const QUESTIONS = [
  'millrace.hello',
  '$SRV.PING',
  '$SRV.INFO.millrace',
  '$SRV.STATS',
  'millrace.inspect.workers',
  'millrace.inspect.nothing',
  'millrace.fn.nobody-has-it',
  'millrace.fn.echo',
  'answers.echo',
];

/** Asks for everything that a worker answers, each answer to a subject of its own; gives those subjects. */
function askAll(workerId: string, prefix: string): string[] {
  const wanted: string[] = [];
  const ask = (subject: string, payload: Uint8Array = Buffer.from('1')): void => {
    const reply = `${prefix}.${wanted.length}`;
    nats.publish(subject, payload, { reply });
    wanted.push(reply);
  };
  for (const subject of QUESTIONS) ask(subject);
  for (const what of WORKER_QUESTIONS) ask(`millrace.worker.${workerId}.${what}`);
  ask('answers.echo', Buffer.from('{'));
  ask(`millrace.worker.${workerId}.call`, Buffer.from('no frame'));
  const call = {
    functionName: 'echo',
    encoded: { type: ContentType.json, body: '1' },
    attempt: 1,
    timeoutMs: 1_000,
    eventId: '',
    headers: '',
  };
  nats.publish(`millrace.worker.${workerId}.call`, encodeCalls(1, [call], 100), {
    reply: `${prefix}.c.f.1.1`,
  });
  wanted.push(`${prefix}.c.r`);
  return wanted.sort();
}

describe('a worker', () => {
  it('answers nobody on subjects of the broker or of the platform, whatever it is asked', async () => {
    const worker = await startTestWorker(broker.url, [echo]);
    workers.push(worker);
    const heard: string[] = [];
    for (const spied of ['$SPY.>', '$JS.API.SPY.>', 'millrace.spy.>', 'asker.>']) {
      nats.subscribe(spied, { callback: (_, { subject }) => void heard.push(subject) });
    }
    await nats.flush();
    runs = 0;
    for (const prefix of ['$SPY', '$JS.API.SPY', 'millrace.spy']) askAll(worker.id, prefix);
    const wanted = askAll(worker.id, 'asker');
    await until('all that may be answered is', () =>
      wanted.every((subject) => heard.includes(subject)),
    );
    expect(heard.filter((subject) => !subject.startsWith('asker.'))).toEqual([]);
    expect(heard.sort()).toEqual(wanted);
    // Said once, not for each message.
    expect(worker.logs.filter(({ level }) => level === 40)).toMatchObject([
      { code: 'INVALID_INPUT', msg: expect.stringContaining('is not answered') as string },
    ]);
    expect(worker.logs.filter(({ level }) => (level as number) > 40)).toEqual([]);
  });

  it('runs a function on what a stream delivers, and acknowledges nothing in its name', async () => {
    const worker = await startTestWorker(broker.url, [echo]);
    workers.push(worker);
    const manager = await nats.jetstreamManager();
    await manager.streams.add({ name: 'PUSHED', subjects: ['pushed'] });
    const heard: string[] = [];
    nats.subscribe('$JS.ACK.>', { callback: (_, { subject }) => void heard.push(subject) });
    await manager.consumers.add('PUSHED', {
      durable_name: 'pusher',
      deliver_subject: 'answers.echo',
      deliver_group: 'millrace-echo',
      ack_policy: 'explicit' as never,
    });
    runs = 0;
    await nats.jetstream().publish('pushed', '1');
    await until('it ran', () => runs === 1);
    expect((await nats.request('answers.echo', '2')).string()).toBe('2');
    expect(heard).toEqual([]);
    await manager.streams.delete('PUSHED');
  });

  it('answers clients with an inbox prefix of their own', async () => {
    workers.push(await startTestWorker(broker.url, [echo]));
    const own = await connectNats({ servers: broker.url, inboxPrefix: `_mine.${nuid.next()}` });
    expect((await own.request('answers.echo', '3')).string()).toBe('3');
    await own.close();
    await using mill = await connect({ servers: broker.url });
    expect(await mill.invoke('echo', 4)).toBe(4);
  });
});
