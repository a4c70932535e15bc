/** Where answers go, and where they must not go. */
import { connect as connectNats, headers, nuid, type NatsConnection } from 'nats';
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

/** Gives bytes for anything, and says what it was given. */
const bytes = defineFunction({
  name: 'bytes',
  handler: ({ data }) =>
    Buffer.from(data instanceof Uint8Array ? `${data.constructor.name} ${data.length}` : 'none'),
});

const lastHeader = defineFunction({
  name: 'last-header',
  handler: ({ headers: given }) => given['tenant'],
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
    retry: true,
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

describe('bytes', () => {
  it('are answered as such to a request in JSON or MessagePack', async () => {
    workers.push(await startTestWorker(broker.url, [bytes]));
    for (const type of ['application/json', 'application/msgpack', undefined]) {
      const given = headers();
      if (type !== undefined) given.set('Content-Type', type);
      const answer = await nats.request('millrace.fn.bytes', '', {
        headers: given,
        timeout: 5_000,
      });
      expect(answer.headers?.get('Content-Type'), type).toBe('application/octet-stream');
      expect(answer.string()).toBe('none');
    }
  });

  it('are a plain Uint8Array to a function and to its caller, whichever way they came', async () => {
    workers.push(await startTestWorker(broker.url, [bytes]));
    await using mill = await connect({ servers: broker.url });
    const answer = await mill.invoke('bytes', Buffer.from('abc'));
    expect((answer as Uint8Array).constructor).toBe(Uint8Array);
    expect(Buffer.from(answer as Uint8Array).toString()).toBe('Uint8Array 3');
    const given = headers();
    given.set('Content-Type', 'image/png');
    const plain = await nats.request('millrace.fn.bytes', 'abc', {
      headers: given,
      timeout: 5_000,
    });
    expect(plain.string()).toBe('Uint8Array 3');
    const empty = await mill.invoke('bytes', Buffer.alloc(0));
    expect(Buffer.from(empty as Uint8Array).toString()).toBe('Uint8Array 0');
  });
});

describe('a header that is given several times', () => {
  it('has its last value for the function', async () => {
    workers.push(await startTestWorker(broker.url, [lastHeader]));
    const given = headers();
    given.append('tenant', 'first');
    given.append('tenant', 'last');
    const subject = 'millrace.fn.last-header';
    const answer = await nats.request(subject, '', { headers: given, timeout: 5_000 });
    expect(answer.string()).toBe('"last"');
  });
});
