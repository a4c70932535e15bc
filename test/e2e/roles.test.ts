/** Each role does its work with the permissions that `millrace permissions` prints, and attacks with them change nothing. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { headers as newHeaders, type NatsConnection } from 'nats';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { defineFunction } from 'millrace';
import pino from 'pino';
import { takeBackup } from '../../src/backup/take.ts';
import { encodeCalls, callSizeBytes, type OutgoingCall } from '../../src/bus/frame.ts';
import { connect, openBus, type Mill } from '../../src/client/client.ts';
import { ContentType } from '../../src/core/payload.ts';
import { NO_GRANTS, type Role } from '../../src/core/permissions.ts';
import { subjectsOf } from '../../src/core/subjects.ts';
import { Gateway } from '../../src/gateway/gateway.ts';
import { Secrets } from '../../src/worker/secrets.ts';
import { Deployed } from '../../src/worker/deployed.ts';
import { runningEntry } from '../../src/function/load.ts';
import { Command } from '../support/cli.ts';
import { startSecured, type SecuredBroker } from '../support/secured.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const GRANTS = {
  ...NO_GRANTS,
  publish: ['orders.>'],
  subscribe: ['orders.>'],
  delayed: true,
};

const handled: string[] = [];
const sum = defineFunction({
  name: 'sum',
  handler: ({ data }) => {
    const { a, b } = data as { a: number; b: number };
    return a + b;
  },
});
const secret = defineFunction({ name: 'secret', handler: () => 'for a few' });
const place = defineFunction({
  name: 'place',
  on: 'orders.placed',
  key: ({ data }) => (data as { id: string }).id,
  async handler({ data }, ctx) {
    const { id } = data as { id: string };
    const orders = ctx.state<number>('orders');
    await orders.set(id, ((await orders.get(id)) ?? 0) + 1);
    await ctx.state<number>('counts').set('all', 1);
    await ctx.emit('orders.accepted', { id });
  },
});
const accepted = defineFunction({
  name: 'accepted',
  on: 'orders.accepted',
  handler: ({ data }) => void handled.push((data as { id: string }).id),
});
const quick = defineFunction({
  name: 'quick',
  on: 'orders.quick',
  delivery: 'ephemeral',
  handler: () => 'quick',
});
const parts = defineFunction({
  name: 'parts',
  async *handler() {
    yield 1;
    yield 2;
  },
});

const subjects = subjectsOf('millrace');
let folder: string;
let broker: SecuredBroker;
let admin: NatsConnection;
let worker: TestWorker;
let deployed: Deployed;
/** What permissions have forbidden somebody who did his work. */
const problems: string[] = [];

async function client(role: Role): Promise<Mill> {
  const onProblem = ({ message }: Error): void => void problems.push(`${role}: ${message}`);
  return connect({ ...broker.as(role), onProblem });
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-roles-'));
  broker = await startSecured(GRANTS);
  admin = await broker.raw('admin');
  const functions = [sum, secret, place, accepted, quick, parts];
  worker = await startTestWorker(
    broker.url,
    functions,
    { partitions: 4 },
    undefined,
    broker.as('worker'),
  );
  const { bus } = worker;
  const { settings } = await openSettings();
  deployed = new Deployed({
    bus,
    settings,
    log: pino({ level: 'silent' }),
    worker: worker.worker,
    secrets: new Secrets(),
    directory: join(folder, 'deployed'),
    packageEntry: runningEntry(),
    only: undefined,
    preferLocal: false,
  });
  await deployed.start(
    functions.map((definition) => ({
      definition,
      name: definition.name ?? '',
      file: 'test.ts',
      version: 'v1',
      subjects: definition.on,
    })),
  );
});

/** As they are with this broker. */
async function openSettings() {
  const opened = await openBus(broker.as('worker'), 'settings');
  await opened.bus.close();
  return opened;
}

beforeEach(() => {
  problems.length = 0;
});

afterAll(async () => {
  deployed.close();
  await worker.stop();
  await admin.close();
  await broker.stop();
  await rm(folder, { recursive: true, force: true });
});

it('a publisher publishes, now and for later, and hears that it was stored', async () => {
  await using mill = await client('publisher');
  const receipt = await mill.publish('orders.placed', { id: 'one' }, { id: 'order-one' });
  expect(receipt.stream).toBe('millrace-events');
  const again = await mill.publish('orders.placed', { id: 'one' }, { id: 'order-one' });
  await mill.publish('orders.placed', { id: 'later' }, { delayMs: 300 });
  await until('both were handled', () => handled.includes('one') && handled.includes('later'));
  // It may not look at what the stream has: that is no problem of its caller's.
  expect(again.duplicate).toBe(true);
  expect(problems.filter((each) => !each.includes('STREAM.MSG.GET'))).toEqual([]);
  await expect(mill.publish('others.placed', {})).rejects.toMatchObject({ code: 'FORBIDDEN' });
  await expect(mill.invoke('sum', { a: 1, b: 2 })).rejects.toMatchObject({ code: 'FORBIDDEN' });
  await expect(mill.inspect.state('orders', 'one')).rejects.toMatchObject({ code: 'FORBIDDEN' });
});

it('an invoker invokes, whole and in parts, and does nothing else', async () => {
  await using mill = await client('invoker');
  expect(await mill.invoke('sum', { a: 1, b: 2 })).toBe(3);
  const got: unknown[] = [];
  for await (const part of mill.stream('parts')) got.push(part);
  expect(got).toEqual([1, 2]);
  const several = await Promise.all([1, 2, 3].map((a) => mill.invoke('sum', { a, b: 1 })));
  expect(several).toEqual([2, 3, 4]);
  expect(problems).toEqual([]);
  await expect(mill.publish('orders.placed', {})).rejects.toMatchObject({ code: 'FORBIDDEN' });
  await expect(mill.inspect.workers()).rejects.toMatchObject({ code: 'FORBIDDEN' });
});

it('an inspector inspects state, workers and dead letters, and does nothing else', async () => {
  await using mill = await client('inspector');
  const [first] = await mill.inspect.workers();
  expect(first?.id).toBe(worker.id);
  expect((await mill.inspect.state('orders', 'one')).value).toBe(1);
  expect(await mill.dead.list()).toEqual([]);
  expect(await mill.deploys.list()).toEqual([]);
  expect(problems).toEqual([]);
  await expect(mill.invoke('sum', { a: 1, b: 2 })).rejects.toMatchObject({ code: 'FORBIDDEN' });
});

it('a gateway serves functions and events over HTTP', async () => {
  const onProblem = ({ message }: Error): void => void problems.push(message);
  const opened = await openBus({ ...broker.as('gateway'), onProblem }, 'gateway', true);
  const gateway = await Gateway.open({
    ...opened,
    host: '127.0.0.1',
    port: 0,
    keys: undefined,
    origins: [],
    ratePerSecond: 0,
    environment: {},
    version: '0',
    onProblem: (text) => void problems.push(text),
  });
  const post = (path: string, body: unknown): Promise<Response> =>
    fetch(`${gateway.url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  expect(await (await post('/fn/sum', { a: 2, b: 2 })).json()).toBe(4);
  expect((await post('/events/orders.placed', { id: 'web' })).ok).toBe(true);
  await until('the event was handled', () => handled.includes('web'));
  await gateway.close();
  expect(problems).toEqual([]);
});

async function deploy(answer: string): Promise<void> {
  const functions = join(folder, 'functions');
  await mkdir(functions, { recursive: true });
  await writeFile(
    join(functions, 'greet.ts'),
    `import { defineFunction } from 'millrace';\nexport default defineFunction({ handler: () => ${JSON.stringify(answer)} });\n`,
  );
  const server = String(broker.as('deployer').servers);
  const words = ['deploy', 'functions', '--server', server, '--role', 'deployer'];
  const { stdout, stderr } = await new Command(words, { cwd: folder }).finished;
  expect(`${stdout}${stderr}`).toContain('on 1 worker');
}

it('a deployer deploys and rolls back', async () => {
  await deploy('hello');
  await deploy('good day');
  await using caller = await client('invoker');
  expect(await caller.invoke('greet')).toBe('good day');
  await using mill = await client('deployer');
  await mill.deploys.rollback('greet');
  expect(await caller.invoke('greet')).toBe('hello');
  expect(problems).toEqual([]);
  await expect(mill.inspect.state('orders', 'one')).rejects.toMatchObject({ code: 'FORBIDDEN' });
}, 120_000);

it('a backup is taken', async () => {
  const { bus, settings } = await openBus(broker.as('backup'), 'backup');
  const file = join(folder, 'today.backup');
  const report = await takeBackup({ bus, settings, file });
  await bus.close();
  expect(report.keys).toBeGreaterThan(3);
  expect(report.deployedFiles).toBeGreaterThan(0);
});

it('a worker needs nothing that it may not do', () => {
  const forbidden = worker.logs.filter(({ msg }) => String(msg).includes('forbid'));
  expect(forbidden).toEqual([]);
});

const STREAMS = ['millrace-log', 'millrace-snapshots', 'KV_millrace-assignment'];

/** Every message of the streams, with its sequence: byte for byte. */
async function contents(): Promise<string[]> {
  const manager = await admin.jetstreamManager();
  const all: string[] = [];
  for (const stream of STREAMS) {
    const { state } = await manager.streams.info(stream);
    for (let seq = state.first_seq; seq <= state.last_seq; seq += 1) {
      const message = await manager.streams.getMessage(stream, { seq }).catch(() => undefined);
      if (message === undefined) continue;
      const { subject, data } = message;
      all.push(`${stream} ${seq} ${subject} ${Buffer.from(data).toString('hex')}`);
    }
  }
  return all;
}

/** A worker that does nothing writes nothing: waits until that is so. */
async function still(): Promise<string[]> {
  let before: string[] = [];
  return until('nothing is written any more', async () => {
    const now = await contents();
    const same = now.length === before.length && now.every((line, at) => line === before[at]);
    before = now;
    await new Promise((resolve) => setTimeout(resolve, 200));
    return same && now.length > 0 ? now : undefined;
  });
}

it.each(['publisher', 'invoker', 'inspector', 'gateway'] as const)(
  'what a %s tries leaves the logs as they were, byte for byte',
  async (role) => {
    const before = await still();
    const attacker = await broker.raw(role);
    const journal = subjects.log(`journal-${worker.id}-1`);
    expect(before.some((line) => line.includes(journal))).toBe(true);
    const wiping = newHeaders();
    wiping.set('Nats-Rollup', 'all');
    const takingId = newHeaders();
    takingId.set('Nats-Msg-Id', 'taken-first');
    const scheduled = (target: string) => {
      const made = newHeaders();
      made.set('Nats-Schedule', '@at 2020-01-01T00:00:00Z');
      made.set('Nats-Schedule-Target', target);
      return made;
    };
    const garbage = Buffer.from('garbage');
    const targets = [journal, subjects.log('claims-0'), subjects.snapshot('0')];
    const carriers = ['orders.placed', 'orders.other', subjects.later('a'), subjects.due('a')];
    // By a schedule, whose target lies in the log's stream.
    for (const target of targets) {
      for (const carrier of carriers) {
        attacker.publish(carrier, garbage, { headers: scheduled(target) });
      }
    }
    // Straight to the log, wiping it, or taking an id that somebody else will use.
    for (const target of targets) {
      for (const headers of [wiping, takingId, undefined]) {
        attacker.publish(target, garbage, headers === undefined ? {} : { headers });
      }
    }
    attacker.publish('orders.placed', garbage, { headers: wiping });
    // Messages of transactions, votes, and who owns what.
    for (const phase of ['prepare', 'vote', 'commit', 'abort', 'outcome', 'access', 'move']) {
      attacker.publish(subjects.tx(phase, worker.id), garbage);
    }
    const others = [
      subjects.stateBeat,
      subjects.stateLeave,
      subjects.stateAssignment,
      subjects.stateRelease(worker.id),
      subjects.stateJoin(worker.id),
      subjects.stateAsk(worker.id),
      subjects.statePartitions,
      subjects.beat,
      subjects.leave,
      subjects.deploySwitch,
      subjects.inspecting,
    ];
    for (const subject of others) attacker.publish(subject, '{"partition":0,"partitions":64}');
    // JetStream, by all that changes something.
    for (const stream of STREAMS) {
      for (const verb of ['DELETE', 'PURGE', 'UPDATE', 'MSG.DELETE', 'CREATE', 'RESTORE']) {
        attacker.publish(`$JS.API.STREAM.${verb}.${stream}`, '{"seq":1}');
      }
      attacker.publish(`$JS.API.CONSUMER.CREATE.${stream}`, '{}');
    }
    // A worker is asked, to answer where only it may speak.
    for (const reply of [...targets, `$JS.API.STREAM.PURGE.${STREAMS[0]}`, subjects.beat]) {
      attacker.publish(subjects.fn('sum'), '{"a":1,"b":2}', { reply });
      attacker.publish(subjects.workerPing(worker.id), '', { reply });
      attacker.publish(subjects.inspect('workers'), '', { reply });
      attacker.publish(subjects.hello, '', { reply });
    }
    await attacker.flush();
    expect(await still()).toEqual(before);
    await attacker.close();
  },
);

it('an answer is not made an event that its requester may not publish', async () => {
  const heard: string[] = [];
  const listening = admin.subscribe('orders.>', {
    callback: (_, { subject }) => void heard.push(subject),
  });
  await admin.flush();
  const attacker = await broker.raw('invoker');
  attacker.publish(subjects.fn('sum'), '{"a":1,"b":2}', { reply: 'orders.forged' });
  await attacker.flush();
  // The same worker has answered this one later.
  const { data } = await attacker.request(subjects.fn('sum'), '{"a":1,"b":2}');
  expect(Buffer.from(data).toString()).toBe('3');
  await admin.flush();
  expect(heard).toEqual([]);
  listening.unsubscribe();
  await attacker.close();
});

it('nobody else answers an inspector', async () => {
  const attacker = await broker.raw('invoker');
  const errors: string[] = [];
  for (const subject of [subjects.inspect('>'), subjects.inspecting, '_INBOX.inspector.>']) {
    attacker.subscribe(subject, { callback: (error) => void errors.push(String(error)) });
  }
  await attacker.flush();
  await until('all were refused', () => errors.length >= 3);
  expect(errors.every((error) => error.includes('Permissions Violation'))).toBe(true);
  await attacker.close();
});

it.each([
  ['a delivery of a durable event', 'place', { 'Millrace-Delivery': '["x"]' }],
  ['a transaction of somebody else', 'sum', { 'Millrace-Transaction': 'forged WORKER' }],
])('a call from outside cannot pretend to be %s', async (_, functionName, own) => {
  const seen: Record<string, string>[] = [];
  const show = defineFunction({
    name: functionName,
    handler: async ({ headers }, ctx) => {
      // In a transaction that there is not it could write nothing.
      await ctx.state('forged').set('key', 1);
      seen.push({ ...headers });
    },
  });
  const second = await startTestWorker(broker.url, [show], {}, undefined, broker.as('worker'));
  const attacker = await broker.raw('invoker');
  const call: OutgoingCall = {
    functionName,
    encoded: { type: ContentType.json, body: '{"id":"forged"}' },
    attempt: 1,
    retry: false,
    timeoutMs: 5_000,
    eventId: '',
    headers: JSON.stringify({ ...own, mine: 'stays' }).replace('WORKER', second.id),
  };
  const frame = encodeCalls(1, [call], callSizeBytes(call));
  attacker.publish(subjects.workerAsk(second.id, functionName), frame, {
    reply: '_INBOX.invoker.me.c.f.1.1',
  });
  await until('it has run', () => seen.length === 1);
  expect(seen).toEqual([{ mine: 'stays' }]);
  await attacker.close();
  await second.stop();
});

it.each(['secret', '=later'])('a frame for one function cannot call %s', async (functionName) => {
  const attacker = await broker.raw('invoker');
  const answers = attacker.subscribe('_INBOX.invoker.you.c.r', { max: 1 });
  const call: OutgoingCall = {
    functionName,
    encoded: { type: ContentType.json, body: '{}' },
    attempt: 1,
    retry: false,
    timeoutMs: 5_000,
    eventId: '',
    headers: '',
  };
  const frame = encodeCalls(1, [call], callSizeBytes(call));
  const by = functionName === '=later' ? '=later' : 'sum';
  attacker.publish(subjects.workerAsk(worker.id, by), frame, {
    reply: '_INBOX.invoker.you.c.f.1.1',
  });
  for await (const { data } of answers) {
    expect(Buffer.from(data).toString()).toContain('FORBIDDEN');
  }
  await attacker.close();
});
