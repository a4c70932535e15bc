/** Answers in parts, from handler to caller: docs/streaming.md. A worker in this process, real HTTP. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { connect as connectNats, createInbox, headers as newHeaders, type Msg } from 'nats';
import { Unpackr } from 'msgpackr';
import { z } from 'zod';
import { connect, defineFunction, type CallError, type Mill } from 'millrace';
import { callSizeBytes, decodeReplies, encodeCalls, ReplyStatus } from '../../src/bus/frame.ts';
import { openBus } from '../../src/client/client.ts';
import { ContentType } from '../../src/core/payload.ts';
import { WINDOW_CHUNKS } from '../../src/core/stream-window.ts';
import { Gateway } from '../../src/gateway/gateway.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

/** What has happened in handlers, by the name that a test gives its run. */
const seen = new Map<string, string[]>();
const note = (run: string, what: string): void =>
  void seen.set(run, [...(seen.get(run) ?? []), what]);
/** What a test lets a handler wait for. */
const gates = new Map<string, () => void>();
const gate = (run: string): Promise<void> => new Promise((resolve) => gates.set(run, resolve));

interface Wish {
  run: string;
  count?: number | string;
  failAt?: number;
}
/** A count in a URL is text. */
const wish = (data: unknown): Required<Wish> & { count: number } => {
  const { run, count = Number.POSITIVE_INFINITY, failAt = -1 } = data as Wish;
  return { run, count: Number(count), failAt };
};

const functions = [
  defineFunction({
    name: 'numbers',
    on: 'streams.numbers',
    http: { method: 'GET', path: '/numbers/:count' },
    async *handler({ data }) {
      const { run, count, failAt } = wish(data);
      try {
        for (let at = 0; at < count; at += 1) {
          if (at === failAt) throw new Error(`failed at ${at}`);
          note(run, `made ${at}`);
          yield at;
        }
      } finally {
        note(run, 'ended');
      }
    },
  }),
  defineFunction({
    name: 'checked',
    output: z.object({ n: z.number() }),
    handler: async function* ({ data }) {
      for (const n of (data as { all: number[] }).all) yield { n };
    },
  }),
  defineFunction({
    name: 'waits',
    async *handler({ data }, ctx) {
      const { run } = wish(data);
      ctx.signal.addEventListener('abort', () => note(run, 'aborted'));
      yield 'first';
      await gate(run);
      yield 'second';
    },
  }),
  defineFunction({
    name: 'deadline',
    timeoutMs: 300,
    async *handler({ data }, ctx) {
      yield 'first';
      await new Promise((_, reject) => {
        ctx.signal.addEventListener('abort', () => reject(new Error('aborted')));
      });
      note(wish(data).run, 'never');
    },
  }),
  defineFunction({
    name: 'writes',
    async *handler({ data }, ctx) {
      const { run, failAt } = wish(data);
      const state = ctx.state<number>('streams');
      const before = (await state.get(run)) ?? 0;
      note(run, `read ${before}`);
      await state.set(run, before + 1);
      await ctx.emit('streams.written', { run });
      if (failAt === 0) throw new Error('before its first part');
      yield before;
      if (failAt === 1) throw new Error('after its first part');
      if (failAt === 2) await state.set(run, 100);
      if (failAt === 3) await ctx.emit('streams.written', { run });
      if (failAt === 4) await gate(run);
      yield await ctx.invoke('bump', { run });
    },
  }),
  defineFunction({
    name: 'bump',
    async handler({ data }, ctx) {
      const { run } = wish(data);
      const state = ctx.state<number>('streams');
      const next = ((await state.get(run)) ?? 0) + 10;
      await state.set(run, next);
      return next;
    },
  }),
  defineFunction({
    name: 'calls',
    handler: async ({ data }, ctx) => ctx.invoke('numbers', data),
  }),
  defineFunction({
    name: 'bytes',
    async *handler() {
      yield new Uint8Array([1, 2]);
      yield undefined;
      yield new Uint8Array();
      yield 'text';
    },
  }),
  defineFunction({
    name: 'large',
    async *handler({ data }) {
      for (let at = 0; at < 20; at += 1) {
        note(wish(data).run, `made ${at}`);
        yield 'x'.repeat(100_000);
      }
    },
  }),
  defineFunction({ name: 'plain', handler: () => [1, 2] }),
  defineFunction({
    name: 'kept',
    cache: { ttlMs: 60_000 },
    async *handler() {
      yield 1;
      yield 2;
    },
  }),
];

let broker: TestBroker;
let worker: TestWorker;
let mill: Mill;
let gateway: Gateway;
const cleanups: (() => unknown)[] = [];

beforeAll(async () => {
  broker = await startTestBroker();
  worker = await startTestWorker(broker.url, functions);
  mill = await connect({ servers: broker.url });
  const opened = await openBus({ servers: broker.url }, 'test-gateway');
  gateway = await Gateway.open({
    ...opened,
    host: '127.0.0.1',
    port: 0,
    keys: undefined,
    origins: [],
    ratePerSecond: 0,
    environment: {},
    version: '1.0.0',
    onProblem: () => {},
  });
});

afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
  await until('no run is left', () => worker.worker.inFlight === 0);
});

afterAll(async () => {
  await gateway.close();
  await mill.close();
  await worker.stop();
  await broker.stop();
});

async function all<Part>(parts: AsyncIterable<Part>): Promise<{ parts: Part[]; code?: string }> {
  const got: Part[] = [];
  try {
    for await (const part of parts) got.push(part);
  } catch (error) {
    return { parts: got, code: (error as CallError).code };
  }
  return { parts: got };
}
const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
const post = async (name: string, data: unknown, headers = {}): Promise<Response> =>
  fetch(`${gateway.url}/fn/${name}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(data),
  });

describe('mill.stream', () => {
  it('gives every part, in order, many windows of them', async () => {
    const count = WINDOW_CHUNKS * 20 + 3;
    expect(await all(mill.stream('numbers', { run: 'order', count }))).toEqual({
      parts: upTo(count),
    });
  });

  it('ends at once where there is none, and gives the result of a function that does not stream as the only part', async () => {
    expect(await all(mill.stream('numbers', { run: 'none', count: 0 }))).toEqual({ parts: [] });
    expect(await all(mill.stream('plain'))).toEqual({ parts: [[1, 2]] });
    expect(await all(mill.stream('kept'))).toEqual({ parts: [[1, 2]] });
  });

  it('gives bytes and nothing as what they are', async () => {
    const { parts } = await all(mill.stream('bytes'));
    expect(parts).toEqual([new Uint8Array([1, 2]), null, new Uint8Array(), 'text']);
  });

  it('asks the handler for no more than a window ahead of its reader', async () => {
    const stream = mill.stream('numbers', { run: 'window' });
    expect((await stream.next()).value).toBe(0);
    await until('the window is full', () => (seen.get('window')?.length ?? 0) >= WINDOW_CHUNKS);
    await mill.invoke('plain');
    expect(seen.get('window')?.length).toBeLessThanOrEqual(WINDOW_CHUNKS + 1);
    await stream.return();
    const large = mill.stream('large', { run: 'bytes' });
    await large.next();
    await mill.invoke('plain');
    expect(seen.get('bytes')?.length).toBeLessThanOrEqual(4);
    expect((await all(large)).parts).toHaveLength(19);
  });

  it('ends with the error that comes after parts, and begins with one that comes before', async () => {
    const late = await all(mill.stream('numbers', { run: 'late', failAt: 2 }));
    expect(late).toEqual({ parts: [0, 1], code: 'FUNCTION_FAILED' });
    const early = await all(mill.stream('numbers', { run: 'early', failAt: 0 }));
    expect(early).toEqual({ parts: [], code: 'FUNCTION_FAILED' });
    const unknown = await all(mill.stream('nobody'));
    expect(unknown).toEqual({ parts: [], code: 'UNKNOWN_FUNCTION' });
  });

  it('holds each part against the schema', async () => {
    expect(await all(mill.stream('checked', { all: [1, 2] }))).toEqual({
      parts: [{ n: 1 }, { n: 2 }],
    });
    expect(await all(mill.stream('checked', { all: [1, 'x'] }))).toEqual({
      parts: [{ n: 1 }],
      code: 'FUNCTION_FAILED',
    });
  });

  it('cancels the run when its reader leaves: the signal is aborted, and the generator ends', async () => {
    for await (const part of mill.stream('numbers', { run: 'leaves' })) if (part === 3) break;
    await until('the generator has ended', () => seen.get('leaves')?.includes('ended'));
    const errors = (await mill.inspect.functions()).find(({ name }) => name === 'numbers')?.errors;
    const abort = new AbortController();
    const stream = mill.stream('waits', { run: 'abort' }, { signal: abort.signal });
    expect((await stream.next()).value).toBe('first');
    const next = stream.next();
    abort.abort();
    await expect(next).rejects.toMatchObject({ code: 'CANCELLED' });
    await until('the handler has heard', () => seen.get('abort')?.includes('aborted'));
    gates.get('abort')?.();
    await until('no run is left', () => worker.worker.inFlight === 0);
    const after = (await mill.inspect.functions()).find(({ name }) => name === 'numbers')?.errors;
    expect(after).toBe(errors);
  });

  it('ends with TIMEOUT at the deadline of the whole', async () => {
    expect(await all(mill.stream('deadline', { run: 'deadline' }))).toEqual({
      parts: ['first'],
      code: 'TIMEOUT',
    });
  });

  it('ends when its client is closed', async () => {
    const other = await connect({ servers: broker.url });
    const stream = other.stream('waits', { run: 'closed' });
    await stream.next();
    const rest = all(stream);
    await other.close();
    expect(await rest).toEqual({ parts: [], code: 'UNAVAILABLE' });
    await until('the handler has heard', () => seen.get('closed')?.includes('aborted'));
    gates.get('closed')?.();
  });

  it('goes on when the broker has been away', async () => {
    const stream = mill.stream('numbers', { run: 'away', count: 500 });
    const got: unknown[] = [];
    for await (const part of stream) {
      got.push(part);
      if (part === 100) await broker.restart();
    }
    expect(got).toEqual(upTo(500));
  }, 30_000);
});

describe('the state of a run in parts', () => {
  const valueOf = async (key: string): Promise<unknown> =>
    mill.inspect.state('streams', key).then(
      ({ value }) => value,
      (error: CallError) => error.code,
    );

  it('is committed before the first part is seen, and free for others while the rest comes', async () => {
    const stream = mill.stream('writes', { run: 'commit', failAt: 4 });
    expect((await stream.next()).value).toBe(0);
    expect(await valueOf('commit')).toBe(1);
    expect(await mill.invoke('bump', { run: 'commit' })).toBe(11);
    await until('it waits', () => gates.has('commit'));
    gates.get('commit')?.();
    // Its call is a transaction of its own.
    expect(await all(stream)).toEqual({ parts: [21] });
    expect(await valueOf('commit')).toBe(21);
  });

  it('is left as it was by one that fails before its first part, and stays when it fails later', async () => {
    expect(await all(mill.stream('writes', { run: 'early', failAt: 0 }))).toEqual({
      parts: [],
      code: 'FUNCTION_FAILED',
    });
    expect(await valueOf('early')).toBe('NOT_FOUND');
    expect(await all(mill.stream('writes', { run: 'later', failAt: 1 }))).toEqual({
      parts: [0],
      code: 'FUNCTION_FAILED',
    });
    expect(await valueOf('later')).toBe(1);
  });

  it('is closed from the first part on, whoever asks', async () => {
    for (const failAt of [2, 3]) {
      const run = `closed ${failAt}`;
      expect((await all(mill.stream('writes', { run, failAt }))).code).not.toBeUndefined();
      expect(await valueOf(run)).toBe(1);
      await expect(mill.invoke('writes', { run: `${run} whole`, failAt })).rejects.toThrow(/part/);
      expect(await valueOf(`${run} whole`)).toBe('NOT_FOUND');
    }
  });

  it('loses no update of runs that stand in each other’s way: they are run again unseen', async () => {
    const run = 'contended';
    const streams = Array.from({ length: 8 }, () => all(mill.stream('writes', { run })));
    const firsts = (await Promise.all(streams)).map(({ parts, code }) => [parts.length, code]);
    expect(firsts).toEqual(Array.from({ length: 8 }, () => [2, undefined]));
    expect(await valueOf(run)).toBe(88);
  });

  it('is not changed by a run whose caller never asks for its parts', async () => {
    const { bus } = worker;
    const inbox = `${bus.inbox}x`;
    const replies: Msg[] = [];
    const subscription = bus.subscribe(`${inbox}.c.r`, (message) => void replies.push(message));
    cleanups.push(() => subscription.unsubscribe());
    const body = JSON.stringify({ run: 'unasked' });
    const encoded = { type: ContentType.json, body };
    const call = { functionName: 'writes', encoded, attempt: 1, retry: true, parts: true };
    const sent = { ...call, timeoutMs: 500, eventId: '', headers: '' };
    const frame = encodeCalls(1, [sent], callSizeBytes(sent));
    bus.publish(`millrace.worker.${worker.id}.call`, frame, { reply: `${inbox}.c.f.1.1` });
    await until('there are parts', () => replies.length > 0);
    expect(decodeReplies(replies[0]?.data ?? new Uint8Array())?.[0]?.status).toBe(
      ReplyStatus.parts,
    );
    await until('its deadline has come', () => worker.worker.inFlight === 0);
    expect(await valueOf('unasked')).toBe('NOT_FOUND');
  });
});

describe('who does not take parts', () => {
  it('gets all of them as one array, from invoke, a handler, plain NATS, and with an id', async () => {
    const data = { run: 'whole', count: 3 };
    expect(await mill.invoke('numbers', data)).toEqual([0, 1, 2]);
    expect(await mill.invoke('calls', data)).toEqual([0, 1, 2]);
    expect(await mill.invoke('bytes')).toEqual([{ base64: 'AQI=' }, null, { base64: '' }, 'text']);
    const nats = await connectNats({ servers: broker.url });
    cleanups.push(() => nats.close());
    const reply = await nats.request('millrace.fn.numbers', JSON.stringify(data));
    expect(reply.json()).toEqual([0, 1, 2]);
    const once = { run: 'once' };
    const answers = [1, 2].map(() => mill.invoke('writes', once, { id: 'stream-once' }));
    expect(await Promise.all(answers)).toEqual([
      [0, 11],
      [0, 11],
    ]);
  });

  it('is refused what is too large, and the generator ends', async () => {
    await expect(mill.invoke('large', { run: 'refused' })).rejects.toMatchObject({
      code: 'PAYLOAD_TOO_LARGE',
    });
    expect(seen.get('refused')?.length).toBeLessThan(20);
  });

  it('runs an event to its end', async () => {
    await mill.publish('streams.numbers', { run: 'event', count: 2_000 });
    await until('it has ended', () => seen.get('event')?.includes('ended'));
    expect(seen.get('event')).toHaveLength(2_001);
  });
});

describe('plain NATS with Millrace-Stream', () => {
  it('gets a message for each part, as many as it takes, and then the end', async () => {
    const nats = await connectNats({ servers: broker.url });
    cleanups.push(() => nats.close());
    const inbox = createInbox();
    const subscription = nats.subscribe(inbox);
    const headers = newHeaders();
    headers.set('Millrace-Stream', '1');
    const body = JSON.stringify({ run: 'nats', count: 200 });
    nats.publish('millrace.fn.numbers', body, { headers, reply: inbox });
    const got: Msg[] = [];
    for await (const message of subscription) {
      got.push(message);
      message.respond();
      if (message.headers?.has('Millrace-End') === true) break;
    }
    expect(got.slice(0, -1).map((message) => message.json())).toEqual(upTo(200));
    expect([got.at(-1)?.headers?.get('Millrace-End'), got.at(-1)?.data.length]).toEqual(['200', 0]);
  });

  it('that nobody listens to any more is cancelled', async () => {
    const nats = await connectNats({ servers: broker.url });
    const inbox = createInbox();
    const subscription = nats.subscribe(inbox);
    const headers = newHeaders();
    headers.set('Millrace-Stream', '1');
    nats.publish('millrace.fn.numbers', JSON.stringify({ run: 'gone' }), { headers, reply: inbox });
    for await (const message of subscription) {
      message.respond();
      break;
    }
    await nats.close();
    await until('the generator has ended', () => seen.get('gone')?.includes('ended'));
    expect(seen.get('gone')?.length).toBeLessThanOrEqual(WINDOW_CHUNKS * 2);
  });
});

describe('over HTTP', () => {
  it('is lines of JSON, unless Accept names something else', async () => {
    const lines = await post('numbers', { run: 'http', count: 3 });
    expect(lines.headers.get('content-type')).toBe('application/x-ndjson');
    expect(await lines.text()).toBe('0\n1\n2\n');
    const events = await post(
      'numbers',
      { run: 'http', count: 2 },
      { accept: 'text/event-stream' },
    );
    expect(events.headers.get('content-type')).toBe('text/event-stream');
    expect(await events.text()).toBe(
      'id: 1\ndata: 0\n\nid: 2\ndata: 1\n\nevent: end\ndata: {"parts":2}\n\n',
    );
    const packed = await post('bytes', {}, { accept: 'application/msgpack' });
    const body = new Uint8Array(await packed.arrayBuffer());
    expect(new Unpackr().unpackMultiple(body)).toEqual([
      new Uint8Array([1, 2]),
      null,
      new Uint8Array(),
      'text',
    ]);
    const whole = await post('numbers', { run: 'http', count: 2 }, { accept: 'application/json' });
    expect(whole.headers.get('content-type')).toMatch('application/json');
    expect(await whole.json()).toEqual([0, 1]);
    const kept = await post('numbers', { run: 'http', count: 2 }, { 'idempotency-key': 'http-1' });
    expect(await kept.json()).toEqual([0, 1]);
    const route = await fetch(`${gateway.url}/numbers/2?run=route`);
    expect(await route.text()).toBe('0\n1\n');
  });

  it('has the status of what fails before the first part, and says at the end what fails later', async () => {
    const early = await post('numbers', { run: 'http', failAt: 0 });
    expect([early.status, await early.json()]).toMatchObject([
      500,
      { error: { code: 'FUNCTION_FAILED' } },
    ]);
    const lines = (await (await post('numbers', { run: 'http', failAt: 1 })).text()).split('\n');
    expect(lines[0]).toBe('0');
    expect(JSON.parse(lines[1] ?? '')).toMatchObject({ error: { code: 'FUNCTION_FAILED' } });
    const accept = { accept: 'text/event-stream' };
    const events = await (await post('numbers', { run: 'http', failAt: 1 }, accept)).text();
    expect(events).toContain('event: error\ndata: {"error":{"code":"FUNCTION_FAILED"');
  });

  it('cancels the run when the client leaves, also while nothing comes', async () => {
    const abort = new AbortController();
    const response = await fetch(`${gateway.url}/fn/waits`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ run: 'http-left' }),
      signal: abort.signal,
    });
    const reader = response.body?.getReader();
    expect(new TextDecoder().decode((await reader?.read())?.value)).toBe('"first"\n');
    abort.abort();
    await until('the handler has heard', () => seen.get('http-left')?.includes('aborted'));
    gates.get('http-left')?.();
  });

  it('waits for a client that is slow', async () => {
    const response = await post('large', { run: 'http-slow' });
    await mill.invoke('plain');
    // What the sockets of this machine hold comes on top of the window.
    expect(response.body).not.toBeNull();
    expect((await response.text()).length).toBe(20 * 100_003);
  });
});
