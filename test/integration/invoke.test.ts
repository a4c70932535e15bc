import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { connect as connectNats, headers, type NatsConnection } from 'nats';
import { Packr } from 'msgpackr';
import { z } from 'zod';
import { CallError, connect, defineFunction, MillraceError, type Mill } from 'millrace';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';
import { until } from '../support/wait.ts';

const sum = defineFunction({
  name: 'sum',
  on: 'calc.sum',
  delivery: 'ephemeral',
  input: z.object({ num1: z.number(), num2: z.number() }),
  handler: ({ data }) => data.num1 + data.num2,
});

const calculator = defineFunction({
  name: 'calculator',
  handler: async (_event, ctx) => ({ sum: await ctx.invoke(sum, { num1: 2, num2: 3 }) }),
});

const echo = defineFunction({
  name: 'echo',
  on: 'echo',
  delivery: 'ephemeral',
  handler: ({ data }) => data,
});

let broker: TestBroker;
let mill: Mill;
let nats: NatsConnection;
const workers: TestWorker[] = [];

const start = async (
  ...parameters: Parameters<typeof startTestWorker> extends [string, ...infer Rest] ? Rest : never
): Promise<TestWorker> => {
  const worker = await startTestWorker(broker.url, ...parameters);
  workers.push(worker);
  return worker;
};

beforeAll(async () => {
  broker = await startTestBroker();
  mill = await connect({ servers: broker.url });
  nats = await connectNats({ servers: broker.url });
});

afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop()));
});

afterAll(async () => {
  await mill.close();
  await nats.close();
  await broker.stop();
});

async function failure(promise: Promise<unknown>): Promise<MillraceError> {
  const error = await promise.then(
    () => new Error('it did not fail'),
    (thrown: unknown) => thrown,
  );
  if (error instanceof MillraceError) return error;
  throw error;
}

describe('an invocation through the client', () => {
  it('gives the result of the function', async () => {
    await start([sum]);
    expect(await mill.invoke(sum, { num1: 1, num2: 2 })).toBe(3);
    expect(await mill.invoke('sum', { num1: 40, num2: 2 })).toBe(42);
  });

  it('may call another function, which gets the first one’s remaining time', async () => {
    await start([sum, calculator]);
    expect(await mill.invoke(calculator, undefined)).toEqual({ sum: 5 });
  });

  it('brings each of many calls its own answer', async () => {
    await start([echo]);
    await start([echo]);
    const numbers = Array.from({ length: 5_000 }, (_, index) => index);
    const answers = await Promise.all(numbers.map((n) => mill.invoke('echo', { n })));
    expect(answers).toEqual(numbers.map((n) => ({ n })));
  });

  it('spreads calls over all workers that run the function', async () => {
    const [one, two] = [await start([sum]), await start([sum])];
    await mill.invoke('sum', { num1: 1, num2: 1 });
    await until('both workers are known', async () => (await mill.inspect.workers()).length === 2);
    await Promise.all(
      Array.from({ length: 2_000 }, () => mill.invoke('sum', { num1: 1, num2: 1 })),
    );
    const [{ calls } = { calls: 0 }] = await mill.inspect.functions();
    expect(calls).toBe(2_001);
    for (const worker of [one, two]) {
      const report = (await nats.request(`millrace.worker.${worker.id}.report`)).json<{
        functions: { calls: number }[];
      }>();
      // Five standard deviations of a fair coin thrown 2,000 times.
      expect(report.functions[0]?.calls).toBeGreaterThan(1_000 - 112);
    }
  });

  it('carries bytes, nothing, unicode and large values', async () => {
    await start([echo]);
    expect(await mill.invoke('echo', Buffer.from([0, 255, 7]))).toEqual(Uint8Array.of(0, 255, 7));
    expect(await mill.invoke('echo')).toBeUndefined();
    expect(await mill.invoke('echo', 'grüße 🌊')).toBe('grüße 🌊');
    const large = 'ü'.repeat(300_000);
    expect(await mill.invoke('echo', large)).toBe(large);
  });

  it('of a function that no worker has is UNKNOWN_FUNCTION, without any worker UNAVAILABLE', async () => {
    expect((await failure(mill.invoke('never-seen', {}))).code).toBe('UNAVAILABLE');
    await start([echo]);
    expect(await failure(mill.invoke('nope', {}))).toMatchObject({
      code: 'UNKNOWN_FUNCTION',
      status: 404,
      retryable: false,
    });
  });

  it('with input that its schema refuses is INVALID_INPUT with the issues', async () => {
    await start([sum]);
    const error = await failure(mill.invoke('sum', { num1: 'one', num2: 2 }));
    expect(error).toMatchObject({ code: 'INVALID_INPUT', status: 400 });
    expect(error.details).toMatchObject({ issues: [{ path: ['num1'] }] });
  });

  it('that throws is FUNCTION_FAILED, and says what was thrown', async () => {
    const broken = defineFunction({
      name: 'broken',
      handler: ({ data }) => {
        if (data === 'text') throw 'just text';
        if (data === 'null') throw null;
        throw Object.assign(new TypeError('no luck'), { code: 'E_LUCK', retryable: true });
      },
    });
    await start([broken]);
    expect(await failure(mill.invoke(broken, 'error'))).toMatchObject({
      code: 'FUNCTION_FAILED',
      message: 'broken failed: no luck',
      retryable: true,
      details: { name: 'TypeError', code: 'E_LUCK' },
    });
    expect((await failure(mill.invoke(broken, 'text'))).message).toBe('broken failed: just text');
    expect((await failure(mill.invoke(broken, 'null'))).code).toBe('FUNCTION_FAILED');
  });

  it('may answer with a coded error of its own, but not with that of a call it made', async () => {
    const teapot = defineFunction({
      name: 'teapot',
      handler: () => {
        throw new MillraceError('INVALID_INPUT', 'Tea only.');
      },
    });
    const caller = defineFunction({
      name: 'caller',
      handler: (_event, ctx) => ctx.invoke(teapot, 1),
    });
    await start([teapot, caller]);
    expect(await failure(mill.invoke(teapot, 1))).toMatchObject({
      code: 'INVALID_INPUT',
      message: 'Tea only.',
    });
    expect(await failure(mill.invoke(caller, 1))).toMatchObject({
      code: 'FUNCTION_FAILED',
      details: { code: 'INVALID_INPUT' },
    });
  });

  it('that returns what cannot be written fails, and the next call is served', async () => {
    const cycle: Record<string, unknown> = {};
    cycle['self'] = cycle;
    const odd: Record<string, unknown> = {
      cycle,
      bigint: 1n,
      function: () => 1,
      symbol: Symbol('s'),
    };
    const returns = defineFunction({
      name: 'returns',
      handler: ({ data }) => odd[data as string] ?? 'fine',
    });
    await start([returns]);
    for (const kind of Object.keys(odd)) {
      const error = await failure(mill.invoke(returns, kind));
      expect(error.code, kind).toBe('FUNCTION_FAILED');
      expect(error.message).toContain('The result of returns cannot be sent');
    }
    expect(await mill.invoke(returns, 'else')).toBe('fine');
  });

  it('with arguments that are not legal fails as a CallError, which names the function', async () => {
    const aborted = AbortSignal.abort();
    const closed = await connect({ servers: broker.url });
    await closed.close();
    const calls: [string, Promise<unknown>, string][] = [
      ['sum', mill.invoke('sum', {}, { timeoutMs: 0 }), 'INVALID_INPUT'],
      ['sum', mill.invoke(sum, { num1: 1, num2: 2 }, { id: 'a\nb' }), 'INVALID_INPUT'],
      ['sum', mill.invoke('sum', {}, { headers: { 'Nats-Msg-Id': '1' } }), 'INVALID_INPUT'],
      ['sum', mill.invoke('sum', 1n), 'INVALID_INPUT'],
      ['sum', mill.invoke('sum', {}, { signal: aborted }), 'CANCELLED'],
      ['sum', closed.invoke('sum'), 'UNAVAILABLE'],
      ['not legal', mill.invoke('not legal'), 'INVALID_INPUT'],
      ['', mill.invoke(undefined as unknown as string), 'INVALID_INPUT'],
    ];
    for (const [functionName, call, code] of calls) {
      const error = await failure(call);
      expect(error).toBeInstanceOf(CallError);
      expect(error).toMatchObject({ functionName, code });
    }
  });

  it('over the size limit is PAYLOAD_TOO_LARGE, there and back', async () => {
    const grow = defineFunction({ name: 'grow', handler: () => 'x'.repeat(2 * 1024 * 1024) });
    await start([grow, echo]);
    const error = await failure(mill.invoke('echo', 'x'.repeat(2 * 1024 * 1024)));
    expect(error).toMatchObject({ code: 'PAYLOAD_TOO_LARGE', status: 413 });
    expect((await failure(mill.invoke('grow'))).code).toBe('PAYLOAD_TOO_LARGE');
    expect(await mill.invoke('echo', 1)).toBe(1);
  });

  it('that takes too long is TIMEOUT, aborts ctx.signal and frees its place', async () => {
    let aborted = 0;
    const slow = defineFunction({
      name: 'slow',
      timeoutMs: 60,
      handler: (_event, ctx) =>
        new Promise(() => {
          ctx.signal.addEventListener('abort', () => (aborted += 1));
        }),
    });
    await start([slow, echo], { concurrency: 1 });
    expect((await failure(mill.invoke(slow, 1))).code).toBe('TIMEOUT');
    expect((await failure(mill.invoke(slow, 2))).code).toBe('TIMEOUT');
    expect(aborted).toBe(2);
    expect((await failure(mill.invoke(slow, 3, { timeoutMs: 20 }))).code).toBe('TIMEOUT');
    expect(await mill.invoke('echo', 'alive')).toBe('alive');
  });

  it('is refused as UNAVAILABLE when the function runs and waits as often as it may', async () => {
    let release = (): void => {};
    const gate = new Promise<void>((resolve) => (release = resolve));
    const waiting = defineFunction({ name: 'waiting', handler: () => gate });
    await start([waiting], { concurrency: 2, maxQueued: 3 });
    const calls = Array.from({ length: 9 }, () => mill.invoke(waiting, 1, { retry: false }));
    const settled = Promise.allSettled(calls);
    const refused = await Promise.any(calls.map((call) => failure(call)));
    expect(refused).toMatchObject({ code: 'UNAVAILABLE', retryable: true });
    release();
    const outcomes = await settled;
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(5);
  });

  it('ends when its caller gives up', async () => {
    const never = defineFunction({
      name: 'never',
      handler: () => new Promise(() => {}),
      timeoutMs: 500,
    });
    await start([never]);
    const abort = new AbortController();
    const call = mill.invoke(never, 1, { signal: abort.signal });
    abort.abort();
    expect((await failure(call)).code).toBe('CANCELLED');
  });

  it('hands id, headers and attempt to the function', async () => {
    const seen = defineFunction({
      name: 'seen',
      handler: ({ id, headers: given, attempt, subject }, ctx) => ({
        id,
        tenant: given['tenant'],
        attempt,
        subject,
        same: ctx.invocation.id === id,
      }),
    });
    await start([seen]);
    expect(await mill.invoke(seen, 1, { id: 'order-17', headers: { tenant: 'a' } })).toEqual({
      id: 'order-17',
      tenant: 'a',
      attempt: 1,
      subject: 'millrace.fn.seen',
      same: true,
    });
    expect((await failure(mill.invoke(seen, 1, { headers: { 'Nats-Msg-Id': 'x' } }))).code).toBe(
      'INVALID_INPUT',
    );
    expect((await failure(mill.invoke(seen, 1, { id: 'a\nb' }))).code).toBe('INVALID_INPUT');
  });
});

describe('a plain NATS client', () => {
  it('gets the bare result on the subject and by the function’s name', async () => {
    await start([sum]);
    expect((await nats.request('calc.sum', '{"num1":1,"num2":2}')).string()).toBe('3');
    expect((await nats.request('millrace.fn.sum', '{"num1":1,"num2":2}')).string()).toBe('3');
  });

  it('is told that there is no such function, and of no function that there is', async () => {
    await start([sum]);
    await start([echo]);
    const answer = await nats.request('millrace.fn.nope', '1', { timeout: 5_000 });
    expect(answer.headers?.get('Nats-Service-Error-Code')).toBe('404');
    expect(answer.json()).toMatchObject({ error: { code: 'UNKNOWN_FUNCTION', retryable: false } });
    const both = Array.from({ length: 50 }, async (_, n) => {
      const [one, two] = await Promise.all([
        nats.request('millrace.fn.echo', `${n}`, { timeout: 5_000 }),
        nats.request('millrace.fn.sum', `{"num1":1,"num2":${n}}`, { timeout: 5_000 }),
      ]);
      return [one.string(), two.string()];
    });
    expect(await Promise.all(both)).toEqual(both.map((_, n) => [`${n}`, `${n + 1}`]));
  });

  it('is answered in MessagePack when it asks in MessagePack', async () => {
    await start([sum]);
    const packr = new Packr({ useRecords: false });
    const given = headers();
    given.set('Content-Type', 'application/msgpack');
    const answer = await nats.request('calc.sum', packr.pack({ num1: 1, num2: 2.5 }), {
      headers: given,
      timeout: 5_000,
    });
    expect(answer.headers?.get('Content-Type')).toBe('application/msgpack');
    expect(packr.unpack(answer.data)).toBe(3.5);
  });

  it('has other content types handed over as bytes', async () => {
    await start([echo]);
    const given = headers();
    given.set('Content-Type', 'image/png');
    const answer = await nats.request('echo', Uint8Array.of(1, 2, 3), {
      headers: given,
      timeout: 5_000,
    });
    expect([...answer.data]).toEqual([1, 2, 3]);
    expect(answer.headers?.get('Content-Type')).toBe('application/octet-stream');
  });

  const bomb = Buffer.concat([
    Buffer.from([0xdd, 0, 0x0f, 0x42, 0x40]),
    Buffer.alloc(1_000_000, 0x80),
  ]);
  const bad: [string, string | undefined, Uint8Array, string][] = [
    ['JSON that is none', undefined, Buffer.from('{"num1":'), 'INVALID_INPUT'],
    [
      'JSON with __proto__',
      undefined,
      Buffer.from('{"__proto__":{"polluted":1}}'),
      'INVALID_INPUT',
    ],
    [
      'JSON nested 100,000 deep',
      undefined,
      Buffer.from('['.repeat(1e5) + ']'.repeat(1e5)),
      'INVALID_INPUT',
    ],
    ['JSON that is not UTF-8', undefined, Buffer.from([0x22, 0xff, 0x22]), 'INVALID_INPUT'],
    ['MessagePack cut short', 'application/msgpack', Buffer.from([0x82, 0xa1]), 'INVALID_INPUT'],
    ['a MessagePack bomb', 'application/msgpack', bomb, 'INVALID_INPUT'],
    ['2 MB', undefined, Buffer.from(JSON.stringify('x'.repeat(2e6))), 'PAYLOAD_TOO_LARGE'],
    [
      'MessagePack said to be JSON',
      'application/json',
      Buffer.from([0x81, 0xa1, 0x61, 1]),
      'INVALID_INPUT',
    ],
  ];
  it.each(bad)(
    'is answered, for %s, with a coded error, and the next call is served',
    async (_, type, payload, code) => {
      await start([echo]);
      const given = headers();
      if (type !== undefined) given.set('Content-Type', type);
      const answer = await nats.request('echo', payload, { headers: given, timeout: 5_000 });
      expect(answer.json()).toMatchObject({ error: { code } });
      const status = answer.headers?.get('Nats-Service-Error-Code');
      expect(status).toBe(code === 'INVALID_INPUT' ? '400' : '413');
      expect(answer.headers?.get('Nats-Service-Error')).toBeTruthy();
      expect((await nats.request('echo', '"next"')).string()).toBe('"next"');
      expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
    },
  );

  it('that nobody can answer to does not disturb the worker', async () => {
    await start([echo]);
    nats.publish('echo', '1', { reply: 'nobody.reads.this' });
    nats.publish('echo', '{');
    expect((await nats.request('echo', '2')).string()).toBe('2');
  });
});

describe('an event', () => {
  it('runs the function once among all workers, and its emitted events run others', async () => {
    const seen: string[] = [];
    const first = defineFunction({
      name: 'first',
      on: 'chain.start.*',
      delivery: 'ephemeral',
      handler: async ({ subject, data }, ctx) => {
        const payload = { from: subject };
        await ctx.emit('chain.next', payload);
        payload.from = 'changed after it was emitted';
        if (data === 'fail') throw new Error('no');
      },
    });
    const second = defineFunction({
      name: 'second',
      on: 'chain.next',
      delivery: 'ephemeral',
      handler: ({ data }) => void seen.push((data as { from: string }).from),
    });
    await start([first, second]);
    await start([first, second]);
    await mill.publish('chain.start.a', 'fail');
    await mill.publish('chain.start.b', 1);
    nats.publish('chain.start.c', '1');
    await until('both arrived', () => seen.length >= 2);
    expect(seen.toSorted()).toEqual(['chain.start.b', 'chain.start.c']);
    const functions = await mill.inspect.functions();
    expect(
      functions.map(({ name, calls, errors, workers: n }) => ({ name, calls, errors, n })),
    ).toEqual([
      { name: 'first', calls: 3, errors: 1, n: 2 },
      { name: 'second', calls: 2, errors: 0, n: 2 },
    ]);
    expect(functions[0]?.subjects).toEqual({
      'chain.start.a': 1,
      'chain.start.b': 1,
      'chain.start.c': 1,
    });
  });

  it('on an illegal subject, or with data that cannot be written, is refused before it is sent', async () => {
    for (const subject of ['', 'a..b', 'a b', 'a.*', '$SYS.x', 'a\r\nPUB b 0']) {
      expect((await failure(mill.publish(subject, 1))).code, subject).toBe('INVALID_INPUT');
    }
    expect((await failure(mill.publish('a', 1n))).code).toBe('INVALID_INPUT');
  });

  it('is acknowledged by the stream that captures its subject, and stored once for one id', async () => {
    const manager = await nats.jetstreamManager();
    await manager.streams.add({ name: 'ORDERS', subjects: ['orders.>'] });
    expect(await mill.publish('orders.new', 1, { id: 'a' })).toEqual({
      id: 'a',
      stream: 'ORDERS',
      sequence: 1,
      duplicate: false,
    });
    expect(await mill.publish('orders.new', 1, { id: 'a' })).toMatchObject({ duplicate: true });
  });

  it('is taken as any other where its stream never acknowledges, and stored all the same', async () => {
    const manager = await nats.jetstreamManager();
    await manager.streams.add({ name: 'SILENT', subjects: ['silent.>'], no_ack: true });
    expect(await mill.publish('silent.new', 1, { id: 'a' })).toEqual({ id: 'a' });
    await until(
      'it is stored',
      async () => (await manager.streams.info('SILENT')).state.messages === 1,
    );
  });
});

describe('a trace', () => {
  it('goes on with the calls and events that an event causes', async () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const seen: (string | undefined)[] = [];
    const note = defineFunction({
      name: 'note',
      on: 'trace.noted',
      delivery: 'ephemeral',
      handler: ({ headers: given }) => void seen.push(given['traceparent']),
    });
    const start_ = defineFunction({
      name: 'start',
      on: 'trace.start',
      delivery: 'ephemeral',
      handler: async (_event, ctx) => {
        await ctx.invoke('note', 1);
        await ctx.emit('trace.noted', 1);
      },
    });
    await start([note, start_]);
    const given = headers();
    given.set('traceparent', traceparent);
    await nats.request('trace.start', '1', { headers: given, timeout: 5_000 });
    await until('both arrived', () => seen.length === 2);
    expect(seen).toEqual([traceparent, traceparent]);
  });
});

describe('a worker that leaves', () => {
  it('loses no call that was sent to it meanwhile, not even with retry: false', async () => {
    await start([echo]);
    await mill.invoke('echo', 1);
    for (let round = 0; round < 5; round += 1) {
      const leaving = await startTestWorker(broker.url, [echo]);
      await until('both are known', async () => (await mill.inspect.workers()).length === 2);
      const calls: Promise<unknown>[] = [];
      const left = leaving.stop();
      const state = { gone: false };
      void left.then(() => (state.gone = true));
      while (!state.gone) {
        calls.push(mill.invoke('echo', calls.length, { retry: false }));
        await new Promise((resolve) => setImmediate(resolve));
      }
      expect(await Promise.all(calls)).toEqual(calls.map((_, index) => index));
      expect(await left).toBe(true);
    }
  });
});

describe('a worker that drops a function in a reload', () => {
  it('fails no call of it while another worker has it', async () => {
    const [reloading] = [await start([sum, echo]), await start([sum])];
    await mill.invoke('sum', { num1: 1, num2: 1 });
    await until('both workers are known', async () => (await mill.inspect.workers()).length === 2);
    for (let reload = 0; reload < 10; reload += 1) {
      const reloaded = reloading.offer(reload % 2 === 0 ? [echo] : [sum, echo]);
      const calls = Array.from({ length: 200 }, () =>
        mill.invoke('sum', { num1: 1, num2: 2 }, { retry: false }),
      );
      expect(new Set(await Promise.all(calls))).toEqual(new Set([3]));
      await reloaded;
    }
  });
});

describe('a call that is sent again while it runs', () => {
  it('is not run twice, and its caller gets the answer', async () => {
    let runs = 0;
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    const counted = defineFunction({
      name: 'counted',
      handler: async () => {
        runs += 1;
        await gate;
        return runs;
      },
    });
    const own = await startTestBroker();
    const worker = await startTestWorker(own.url, [counted]);
    await using client = await connect({ servers: own.url });
    const calls = Array.from({ length: 600 }, () => client.invoke(counted, 1));
    await until('all have come', () => worker.worker.inFlight === 600);
    await own.restart();
    await until(
      'both are connected again',
      async () => (await client.inspect.workers().catch(() => [])).length === 1,
      20_000,
    );
    open();
    const answers = await Promise.all(calls);
    expect(answers).toHaveLength(600);
    expect(runs).toBe(600);
    await worker.stop();
    await own.stop();
  });
});

describe('a stored event whose subject a function answers on too', () => {
  it('is acknowledged by the stream alone, whatever the function returns', async () => {
    const manager = await nats.jetstreamManager();
    await manager.streams.add({ name: 'ANSWERED', subjects: ['answered.*'] });
    const returns: Record<string, unknown> = { nothing: undefined, number: 3, bytes: Buffer.of(1) };
    const answering = defineFunction({
      name: 'answering',
      on: 'answered.*',
      delivery: 'ephemeral',
      handler: ({ data }) => returns[data as string],
    });
    await start([answering]);
    for (const kind of Object.keys(returns)) {
      const all = Array.from({ length: 200 }, () => mill.publish('answered.x', kind));
      const receipts = await Promise.all(all);
      expect(receipts.every(({ stream }) => stream === 'ANSWERED')).toBe(true);
    }
  });

  it('with headers that are too large is refused before it is sent', async () => {
    const large = { note: 'x'.repeat(20_000) };
    expect((await failure(mill.publish('answered.x', 1, { headers: large }))).code).toBe(
      'PAYLOAD_TOO_LARGE',
    );
  });
});

describe('a broker that is restarted under calls in flight on several workers', () => {
  it('makes none of them run twice', async () => {
    const runs = new Map<string, number>();
    const slow = defineFunction({
      name: 'slow',
      handler: async ({ id }) => {
        runs.set(id, (runs.get(id) ?? 0) + 1);
        await new Promise((resolve) => setTimeout(resolve, 1_500));
      },
    });
    const own = await startTestBroker();
    const all = [await startTestWorker(own.url, [slow]), await startTestWorker(own.url, [slow])];
    await using client = await connect({ servers: own.url });
    await until('both are known', async () => (await client.inspect.workers()).length === 2);
    const calls = Array.from({ length: 100 }, () => client.invoke(slow, 1));
    await until('all run', () => runs.size === 100);
    await own.restart();
    await Promise.all(calls);
    expect(Math.max(...runs.values())).toBe(1);
    await Promise.all(all.map((worker) => worker.stop()));
    await own.stop();
  });
});

describe('a plain request of a function whose only worker', () => {
  it('drains is answered UNAVAILABLE, and not left to time out', async () => {
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    const gated = defineFunction({ name: 'gated', handler: () => gate });
    await start([echo]);
    const leaving = await startTestWorker(broker.url, [gated]);
    await until('both are known', async () => (await mill.inspect.workers()).length === 2);
    const taken = mill.invoke(gated, 1);
    await until('it runs', () => leaving.worker.inFlight === 1);
    const left = leaving.stop();
    await until('it drains', async () =>
      (await mill.inspect.workers()).some(({ state }) => state === 'draining'),
    );
    const answer = await nats.request('millrace.fn.gated', '1', { timeout: 5_000 });
    expect(answer.json()).toMatchObject({ error: { code: 'UNAVAILABLE', retryable: true } });
    open();
    await taken;
    await left;
  });
});

describe('what comes from outside', () => {
  it('has integers of 64 bits read as numbers, and a trace that is none left behind', async () => {
    const emits = defineFunction({
      name: 'emits',
      on: 'outside.emits',
      delivery: 'ephemeral',
      handler: async (_event, ctx) => {
        await ctx.emit('outside.emitted', 1);
        return 'emitted';
      },
    });
    await start([sum, emits]);
    const packed = headers();
    packed.set('Content-Type', 'application/msgpack');
    const one = [0xd3, 0, 0, 0, 0, 0, 0, 0, 1];
    const key = (name: string): number[] => [0xa4, ...Buffer.from(name)];
    const body = Uint8Array.from([0x82, ...key('num1'), ...one, ...key('num2'), 2]);
    const answer = await nats.request('calc.sum', body, { headers: packed, timeout: 5_000 });
    expect([...answer.data]).toEqual([3]);
    const traced = headers();
    traced.set('traceparent', 'bad\u0001trace');
    const emitted = await nats.request('outside.emits', '1', { headers: traced, timeout: 5_000 });
    expect(emitted.string()).toBe('"emitted"');
  });

  it('may not be published on the platform’s own subjects', async () => {
    for (const subject of ['millrace.members.leave', '_INBOX.x.y']) {
      expect((await failure(mill.publish(subject, {}))).code, subject).toBe('INVALID_INPUT');
    }
  });
});
