/** The gateway over real HTTP, beside a worker in this process. */
import { createHmac } from 'node:crypto';
import { connect as tcp } from 'node:net';
import { Packr, Unpackr } from 'msgpackr';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { defineFunction } from 'millrace';
import { openBus } from '../../src/client/client.ts';
import { Gateway, type GatewayOptions } from '../../src/gateway/gateway.ts';
import { ApiKeys, makeKey } from '../../src/gateway/keys.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const SECRET = 'a secret of the hook';
const seen: { id: string; data: unknown; headers: Record<string, string> }[] = [];

const functions = [
  defineFunction({
    name: 'sum',
    description: 'Adds.',
    input: z.object({ a: z.coerce.number(), b: z.coerce.number() }),
    output: z.number(),
    http: { method: 'GET', path: '/sums/:a/:b' },
    handler: ({ data }) => data.a + data.b,
  }),
  defineFunction({
    name: 'echo',
    http: { method: 'PUT', path: '/echo/:id' },
    handler: ({ data }) => data,
  }),
  defineFunction({
    name: 'fixed',
    http: { method: 'PUT', path: '/echo/fixed' },
    handler: () => 'fixed',
  }),
  defineFunction({ name: 'nothing', handler: () => undefined }),
  defineFunction({
    name: 'count',
    handler: async ({ headers }, ctx) => {
      const state = ctx.state('gateway');
      const next = Number((await state.get('count')) ?? 0) + 1;
      await state.set('count', next);
      return { next, traceparent: headers['traceparent'] };
    },
  }),
  defineFunction({
    name: 'slow',
    handler: async (_, { signal }) =>
      new Promise((resolve) => {
        const timer = setTimeout(() => resolve('slow'), 1_500);
        signal.addEventListener('abort', () => clearTimeout(timer));
      }),
  }),
  defineFunction({
    name: 'hooked',
    on: 'hooks.github',
    http: {
      method: 'POST',
      path: '/hooks/github',
      webhook: { provider: 'github', secret: 'HOOK_SECRET' },
    },
    handler: ({ id, data, headers }) => {
      seen.push({ id, data, headers: { ...headers } });
    },
  }),
  defineFunction({
    name: 'unset',
    http: {
      method: 'POST',
      path: '/hooks/unset',
      webhook: { provider: 'hmac', secret: 'NOT_THERE' },
    },
    handler: () => undefined,
  }),
];

let broker: TestBroker;
let worker: TestWorker;
const open: Gateway[] = [];
let gateway: Gateway;
const problems: string[] = [];

async function start(options: Partial<GatewayOptions> = {}): Promise<Gateway> {
  const opened = await openBus({ servers: broker.url }, 'test-gateway');
  const made = await Gateway.open({
    ...opened,
    host: '127.0.0.1',
    port: 0,
    keys: undefined,
    origins: [],
    ratePerSecond: 0,
    environment: { HOOK_SECRET: SECRET },
    version: '1.2.3',
    onProblem: (text) => problems.push(text),
    ...options,
  }).catch(async (error: unknown) => {
    await opened.bus.close();
    throw error;
  });
  open.push(made);
  return made;
}

beforeAll(async () => {
  broker = await startTestBroker();
  worker = await startTestWorker(broker.url, functions);
  gateway = await start();
});

afterAll(async () => {
  await Promise.all(open.map(async (each) => each.close()));
  await worker.stop();
  await broker.stop();
});

const json = { 'content-type': 'application/json' };
const post = async (
  path: string,
  body: unknown,
  headers: Record<string, string> = {},
  at = gateway,
): Promise<Response> =>
  fetch(`${at.url}${path}`, {
    method: 'POST',
    headers: { ...json, ...headers },
    body: JSON.stringify(body),
  });
const errorOf = async (response: Response): Promise<[number, string]> => {
  const { error } = (await response.json()) as { error: { code: string } };
  return [response.status, error.code];
};

/** What a server says to bytes that no HTTP client would send. */
async function raw(bytes: string, at = gateway): Promise<string> {
  const { port } = new URL(at.url);
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = tcp(Number(port), '127.0.0.1', () => socket.write(bytes));
    socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
    socket.once('close', () => resolve(text));
    socket.once('error', reject);
  });
}

describe('functions over HTTP', () => {
  it('run by name, with JSON, and answer errors with their status and code', async () => {
    const response = await post('/fn/sum', { a: 1, b: 2 });
    expect([response.status, await response.json()]).toEqual([200, 3]);
    expect(response.headers.get('content-type')).toContain('application/json');
    expect((await post('/fn/nothing', {})).status).toBe(204);
    expect(await errorOf(await post('/fn/sum', { a: 'x' }))).toEqual([400, 'INVALID_INPUT']);
    expect(await errorOf(await post('/fn/not.legal', {}))).toEqual([400, 'INVALID_INPUT']);
    expect(await errorOf(await post('/fn/nobody', {}))).toEqual([404, 'UNKNOWN_FUNCTION']);
    const broken = await fetch(`${gateway.url}/fn/sum`, {
      method: 'POST',
      headers: json,
      body: '{"a":',
    });
    expect(await errorOf(broken)).toEqual([400, 'INVALID_INPUT']);
  });

  it('take and give MessagePack and bytes', async () => {
    const body = new Packr({ useRecords: false }).pack({ a: 2, b: 3 });
    const headers = { 'content-type': 'application/msgpack' };
    const response = await fetch(`${gateway.url}/fn/sum`, { method: 'POST', headers, body });
    expect(response.headers.get('content-type')).toBe('application/msgpack');
    expect(new Unpackr().unpack(Buffer.from(await response.arrayBuffer()))).toBe(5);
    const accept = await post('/fn/sum', { a: 2, b: 3 }, { accept: 'application/msgpack' });
    expect(new Unpackr().unpack(Buffer.from(await accept.arrayBuffer()))).toBe(5);
    const image = await fetch(`${gateway.url}/fn/echo`, {
      method: 'POST',
      headers: { 'content-type': 'image/png' },
      body: Buffer.from([1, 2, 255]),
    });
    expect(image.headers.get('content-type')).toBe('application/octet-stream');
    expect([...new Uint8Array(await image.arrayBuffer())]).toEqual([1, 2, 255]);
  });

  it('with an Idempotency-Key run once, and the trace goes along', async () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const headers = { 'idempotency-key': 'order-17', traceparent };
    const first = await (await post('/fn/count', {}, headers)).json();
    expect(first).toMatchObject({ traceparent });
    expect(await (await post('/fn/count', {}, headers)).json()).toEqual(first);
  });

  it('have a deadline', async () => {
    const response = await post('/fn/slow', {}, { 'millrace-timeout-ms': '100' });
    expect(await errorOf(response)).toEqual([504, 'TIMEOUT']);
    const wrong = await post('/fn/slow', {}, { 'millrace-timeout-ms': 'soon' });
    expect(await errorOf(wrong)).toEqual([400, 'INVALID_INPUT']);
  });

  it('have routes of their own: what is spelled out comes first', async () => {
    expect(await (await fetch(`${gateway.url}/sums/4/5`)).json()).toBe(9);
    expect(await (await fetch(`${gateway.url}/sums/4/5?b=100`)).json()).toBe(9);
    const put = async (path: string, body: string): Promise<unknown> =>
      (await fetch(`${gateway.url}${path}`, { method: 'PUT', headers: json, body })).json();
    expect(await put('/echo/a%2Fb?more=1', '{"x":1,"id":"no"}')).toEqual({
      x: 1,
      more: '1',
      id: 'a/b',
    });
    expect(await put('/echo/7', '[1]')).toEqual([1]);
    expect(await put('/echo/fixed', '{}')).toBe('fixed');
    expect(await errorOf(await fetch(`${gateway.url}/sums/4`))).toEqual([404, 'NOT_FOUND']);
    expect(await errorOf(await post('/sums/4/5', {}))).toEqual([404, 'NOT_FOUND']);
  });

  it('are described by OpenAPI', async () => {
    const document = (await (await fetch(`${gateway.url}/openapi.json`)).json()) as {
      openapi: string;
      paths: Record<string, Record<string, { requestBody?: unknown; description?: string }>>;
      components: { schemas: Record<string, object> };
    };
    expect(document.openapi).toBe('3.1.0');
    expect(Object.keys(document.paths)).toEqual(
      expect.arrayContaining(['/fn/sum', '/sums/{a}/{b}', '/events/{subject}']),
    );
    expect(document.paths['/fn/sum']?.['post']?.description).toBe('Adds.');
    expect(document.components.schemas['sum.output']).toMatchObject({ type: 'number' });
    expect(document.paths['/sums/{a}/{b}']?.['get']?.requestBody).toBeUndefined();
  });
});

describe('events over HTTP', () => {
  it('are published, once for an id', async () => {
    const response = await post('/events/hooks.github', { n: 1 }, { 'idempotency-key': 'event-1' });
    expect(response.status).toBe(202);
    expect(await response.json()).toMatchObject({
      id: 'event-1',
      sequence: expect.any(Number) as number,
    });
    const again = await post('/events/hooks.github', { n: 1 }, { 'idempotency-key': 'event-1' });
    expect(await again.json()).toMatchObject({ duplicate: true });
    await until('it is handled', () => seen.some(({ id }) => id === 'event-1'));
  });

  it('may be CloudEvents, structured or binary', async () => {
    const event = {
      specversion: '1.0',
      id: 'cloud-1',
      source: '/test',
      type: 'made',
      data: { n: 2 },
    };
    const headers = { 'content-type': 'application/cloudevents+json' };
    expect((await post('/events/hooks.github', event, headers)).status).toBe(202);
    const binary = {
      'ce-id': 'cloud-2',
      'ce-source': '/test',
      'ce-type': 'made',
      'ce-specversion': '1.0',
    };
    expect((await post('/events/hooks.github', { n: 3 }, binary)).status).toBe(202);
    const find = (wanted: string) => seen.find(({ id }) => id === wanted);
    await until(
      'both are handled',
      () => find('cloud-1') !== undefined && find('cloud-2') !== undefined,
    );
    expect(find('cloud-1')).toMatchObject({ data: { n: 2 }, headers: { 'ce-type': 'made' } });
    expect(find('cloud-2')).toMatchObject({ data: { n: 3 }, headers: { 'ce-source': '/test' } });
    expect(await errorOf(await post('/events/hooks.github', { id: 'x' }, headers))).toEqual([
      400,
      'INVALID_INPUT',
    ]);
    expect(await errorOf(await post('/events/hooks.github', [1], headers))).toEqual([
      400,
      'INVALID_INPUT',
    ]);
  });

  it('do not reach the platform’s own subjects, nor patterns', async () => {
    for (const subject of [
      'millrace.log.0',
      '$JS.API.INFO',
      'orders.*',
      'a..b',
      '_INBOX.x',
      'a%20b',
    ]) {
      expect(await errorOf(await post(`/events/${subject}`, {}))).toEqual([400, 'INVALID_INPUT']);
    }
  });

  it('can be followed', async () => {
    const controller = new AbortController();
    const response = await fetch(`${gateway.url}/events?subject=followed.%3E`, {
      signal: controller.signal,
    });
    expect(response.headers.get('content-type')).toBe('text/event-stream');
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    let text = '';
    const read = async (wanted: string): Promise<void> => {
      while (!text.includes(wanted)) {
        const { value, done } = await reader.read();
        if (done) throw new Error(`it ended: ${text}`);
        text += Buffer.from(value).toString();
      }
    };
    await read(': follows');
    await post('/events/followed.one', { n: 1 }, { 'idempotency-key': 'first' });
    await read('\n\ndata'.slice(2));
    expect(text).toContain(
      'id: first\ndata: {"subject":"followed.one","id":"first","data":{"n":1}}\n\n',
    );
    controller.abort();
    expect(await errorOf(await fetch(`${gateway.url}/events?subject=%3E`))).toEqual([
      400,
      'INVALID_INPUT',
    ]);
    expect(await errorOf(await fetch(`${gateway.url}/events?subject=millrace.%3E`))).toEqual([
      400,
      'INVALID_INPUT',
    ]);
    expect(await errorOf(await fetch(`${gateway.url}/events`))).toEqual([400, 'INVALID_INPUT']);
  });
});

describe('webhooks', () => {
  const body = JSON.stringify({ action: 'opened' });
  const signed = `sha256=${createHmac('sha256', SECRET).update(body).digest('hex')}`;
  const send = async (headers: Record<string, string>, path = '/hooks/github'): Promise<Response> =>
    fetch(`${gateway.url}${path}`, { method: 'POST', headers: { ...json, ...headers }, body });

  it('are published once, under the id of their delivery', async () => {
    const headers = {
      'x-hub-signature-256': signed,
      'x-github-delivery': 'delivery-1',
      'x-github-event': 'issues',
    };
    const response = await send(headers);
    expect([response.status, await response.json()]).toMatchObject([202, { id: 'delivery-1' }]);
    expect(await (await send(headers)).json()).toMatchObject({ duplicate: true });
    await until('it is handled', () => seen.some(({ id }) => id === 'delivery-1'));
    expect(seen.find(({ id }) => id === 'delivery-1')).toMatchObject({
      data: { action: 'opened' },
      headers: { 'x-github-event': 'issues' },
    });
  });

  it('with a wrong signature, or none, change nothing', async () => {
    const count = seen.length;
    const wrong = `sha256=${'0'.repeat(64)}`;
    for (const headers of [{}, { 'x-hub-signature-256': wrong }, { 'x-hub-signature-256': 'x' }]) {
      expect(await errorOf(await send(headers as Record<string, string>))).toEqual([
        401,
        'UNAUTHORIZED',
      ]);
    }
    expect(await errorOf(await send({ 'x-signature-256': wrong }, '/hooks/unset'))).toEqual([
      503,
      'UNAVAILABLE',
    ]);
    expect(seen).toHaveLength(count);
  });
});

describe('operators', () => {
  it('ask what inspect says', async () => {
    const get = async (path: string): Promise<unknown> =>
      (await fetch(`${gateway.url}/api/${path}`)).json();
    expect(await get('inspect/workers')).toMatchObject({ workers: [{ id: worker.id }] });
    expect(await get('inspect/functions')).toMatchObject({
      functions: expect.any(Array) as unknown[],
    });
    expect(await get('inspect/state?collection=gateway&key=count')).toMatchObject({
      value: expect.any(Number) as number,
    });
    expect(await get('inspect/state?collection=gateway')).toMatchObject({
      items: [{ key: 'count' }],
    });
    expect(await get('inspect/state?collection=gateway&key=none')).toMatchObject({
      error: { code: 'NOT_FOUND' },
    });
    expect(await get('inspect/everything')).toMatchObject({ error: { code: 'NOT_FOUND' } });
    expect(await get('inspect/state?collection=gateway&limit=0')).toMatchObject({
      error: { code: 'INVALID_INPUT' },
    });
    expect(await get('dead')).toEqual({ dead: [] });
    expect(await get('dead/1')).toMatchObject({ error: { code: 'NOT_FOUND' } });
    expect(await get('deploys')).toEqual({ deployed: [] });
  });

  it('see whether it is alive and ready, and what it has counted', async () => {
    expect(await (await fetch(`${gateway.url}/health`)).json()).toEqual({ ok: true });
    expect(await (await fetch(`${gateway.url}/ready`)).json()).toMatchObject({
      ready: true,
      broker: true,
    });
    const metrics = await (await fetch(`${gateway.url}/metrics`)).text();
    expect(metrics).toMatch(
      /millrace_gateway_requests_total\{route="\/fn\/:name",status="200"\} \d+/,
    );
  });
});

describe('who may ask', () => {
  it('nobody from elsewhere without keys', async () => {
    await expect(start({ host: '0.0.0.0' })).rejects.toMatchObject({ code: 'USAGE' });
    const foreign = await post('/fn/sum', { a: 1, b: 2 }, { origin: 'https://evil.example' });
    expect(await errorOf(foreign)).toEqual([403, 'FORBIDDEN']);
    const rebound = await raw(
      'GET /api/inspect/workers HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n',
    );
    expect(rebound).toContain('403 Forbidden');
    const allowed = await start({ origins: ['https://shop.example'] });
    const response = await post(
      '/fn/sum',
      { a: 1, b: 2 },
      { origin: 'https://shop.example' },
      allowed,
    );
    expect(response.headers.get('access-control-allow-origin')).toBe('https://shop.example');
    const preflight = await fetch(`${allowed.url}/fn/sum`, {
      method: 'OPTIONS',
      headers: { origin: 'https://shop.example' },
    });
    expect([preflight.status, preflight.headers.get('access-control-allow-methods')]).toEqual([
      204,
      expect.stringContaining('POST'),
    ]);
    expect(
      await errorOf(await post('/fn/sum', {}, { origin: 'https://evil.example' }, allowed)),
    ).toEqual([403, 'FORBIDDEN']);
  });

  it('whose key has a scope for it', async () => {
    const [caller, reader, admin] = [
      makeKey('caller', ['invoke:sum', 'publish:orders.>']),
      makeKey('reader', ['inspect', 'subscribe:orders.*']),
      makeKey('admin', ['admin']),
    ];
    const keys = new ApiKeys([caller.record, reader.record, admin.record]);
    const guarded = await start({ keys });
    const call = async (key: string | undefined, path: string): Promise<number> => {
      const headers = key === undefined ? {} : { authorization: `Bearer ${key}` };
      const { status } = await post(path, { a: 1, b: 2 }, headers, guarded);
      return status;
    };
    const get = async (key: string, path: string): Promise<number> => {
      const controller = new AbortController();
      const { status } = await fetch(`${guarded.url}${path}`, {
        headers: { 'x-api-key': key },
        signal: controller.signal,
      });
      controller.abort();
      return status;
    };
    expect(await call(undefined, '/fn/sum')).toBe(401);
    expect(await call('mr_wrong', '/fn/sum')).toBe(401);
    expect(await call(caller.key, '/fn/sum')).toBe(200);
    expect(await call(caller.key, '/fn/echo')).toBe(403);
    expect(await call(caller.key, '/events/orders.new')).toBe(202);
    expect(await call(caller.key, '/events/users.new')).toBe(403);
    expect(await call(reader.key, '/fn/sum')).toBe(403);
    expect(await get(reader.key, '/api/inspect/workers')).toBe(200);
    expect(await get(reader.key, '/openapi.json')).toBe(200);
    expect(await get(reader.key, '/metrics')).toBe(403);
    expect(await get(reader.key, '/events?subject=orders.new')).toBe(200);
    expect(await get(reader.key, '/events?subject=orders.%3E')).toBe(403);
    expect(await call(reader.key, '/api/dead/1/replay')).toBe(403);
    expect(await call(admin.key, '/api/dead/1/replay')).toBe(404);
    expect(await get(caller.key, '/sums/1/2')).toBe(200);
    expect(await get(caller.key, '/api/inspect/workers')).toBe(403);
    expect((await fetch(`${guarded.url}/health`)).status).toBe(200);
    expect(() => makeKey('x', ['everything'])).toThrow(/scopes/);
    expect(JSON.stringify(caller.record)).not.toContain(caller.key);
  });

  it('no more often than the limit says', async () => {
    const limited = await start({ ratePerSecond: 3 });
    const answers = await Promise.all(
      Array.from({ length: 8 }, async () => post('/fn/sum', { a: 1, b: 1 }, {}, limited)),
    );
    const refused = answers.filter(({ status }) => status === 429);
    expect(refused.length).toBeGreaterThanOrEqual(2);
    expect(refused[0]?.headers.get('retry-after')).toBe('1');
    expect(await errorOf(refused[0] as Response)).toEqual([429, 'RATE_LIMITED']);
    expect((await fetch(`${limited.url}/health`)).status).toBe(200);
  });
});

describe('what is no proper request', () => {
  it('is answered, and changes nothing', async () => {
    expect(await raw('NONSENSE\r\n\r\n')).toMatch(/^HTTP\/1.1 400 .*INVALID_INPUT/s);
    const header = `GET /health HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`;
    expect(await raw(header)).toMatch(/^HTTP\/1.1 431 .*INVALID_INPUT/s);
    const climbing =
      'GET /api/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';
    expect(await raw(climbing)).toMatch(/^HTTP\/1.1 404 /);
    expect(
      await raw('GET /echo/%zz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'),
    ).toMatch(/^HTTP\/1.1 40[04] /);
    const large = await fetch(`${gateway.url}/fn/echo`, {
      method: 'POST',
      body: Buffer.alloc(2 * 1024 * 1024),
    });
    expect(await errorOf(large)).toEqual([413, 'PAYLOAD_TOO_LARGE']);
    expect(await errorOf(await post(`/fn/${'x'.repeat(400)}`, {}))).toEqual([
      expect.any(Number),
      expect.any(String),
    ]);
    expect(await (await post('/fn/sum', { a: 1, b: 2 })).json()).toBe(3);
    expect(problems).toEqual([]);
  });
});

describe('told to stop', () => {
  it('answers what it has', async () => {
    const leaving = await start();
    const answer = post('/fn/slow', {}, {}, leaving);
    await until('it is under way', async () =>
      (await (await fetch(`${leaving.url}/metrics`)).text()).includes(
        'millrace_gateway_requests_in_flight 2',
      ),
    );
    expect(await leaving.close()).toBe(true);
    const response = await answer;
    expect([response.status, await response.json()]).toEqual([200, 'slow']);
    await expect(fetch(`${leaving.url}/health`)).rejects.toThrow('fetch failed');
  });

  it('does not wait for connections on which nothing was asked', async () => {
    const leaving = await start();
    const silent = tcp(Number(new URL(leaving.url).port), '127.0.0.1');
    const ended = new Promise((resolve) => silent.once('close', resolve));
    silent.on('error', () => {});
    await new Promise((resolve) => silent.once('connect', resolve));
    // It is the server's, too.
    expect((await fetch(`${leaving.url}/health`)).status).toBe(200);
    expect(await leaving.close()).toBe(true);
    await ended;
  });
});

describe('the dashboard', () => {
  it('has its page at /, with a policy that lets nothing else in', async () => {
    const page = await fetch(`${gateway.url}/`);
    expect(page.url).toBe(`${gateway.url}/dashboard/`);
    expect(page.headers.get('content-type')).toContain('text/html');
    expect(page.headers.get('content-security-policy')).toMatch(
      /^default-src 'none'; script-src 'self'; .*frame-ancestors 'none'$/,
    );
    expect(page.headers.get('x-content-type-options')).toBe('nosniff');
    const etag = page.headers.get('etag') ?? '';
    const again = await fetch(page.url, { headers: { 'if-none-match': etag } });
    expect([again.status, await again.text()]).toEqual([304, '']);
    for (const path of ['nothing.js', '..%2Fgateway.js', 'tsconfig.json']) {
      expect(await errorOf(await fetch(`${gateway.url}/dashboard/${path}`))).toEqual([
        404,
        'NOT_FOUND',
      ]);
    }
    expect(
      await raw('GET /dashboard/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n'),
    ).toMatch(/^HTTP\/1\.1 403 /);
  });

  it('asks the workers once for all that look at the same time', async () => {
    let asked = 0;
    const subscription = worker.bus.subscribe('millrace.inspect.functions', () => (asked += 1));
    const fresh = await start();
    const answers = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const response = await fetch(`${fresh.url}/api/live?parts=functions,workers`);
        return (await response.json()) as { functions: { value: Record<string, unknown>[] } };
      }),
    );
    subscription.unsubscribe();
    // On a slow machine they are not all at the same time.
    expect(asked).toBeLessThan(10);
    const sum = answers[7]?.functions.value.find(({ name }) => name === 'sum');
    expect(sum).toMatchObject({ versions: 1, workers: 1 });
    // Of a function that is asked on many subjects they would be most of the answer.
    expect(sum).not.toHaveProperty('subjects');
    expect(await errorOf(await fetch(`${fresh.url}/api/live?parts=secrets`))).toEqual([
      400,
      'INVALID_INPUT',
    ]);
  });

  it('says for what a key is good, and shows nothing without inspect', async () => {
    const [looks, calls] = [makeKey('looks', ['inspect']), makeKey('calls', ['invoke:*'])];
    const keyed = await start({ keys: new ApiKeys([looks.record, calls.record]) });
    const ask = async (path: string, key: string) =>
      fetch(`${keyed.url}${path}`, { headers: { authorization: `Bearer ${key}` } });
    expect(await (await ask('/api/me', looks.key)).json()).toMatchObject({
      name: 'looks',
      can: { inspect: true, operate: false },
      namespace: 'millrace',
    });
    expect(await (await ask('/api/me', calls.key)).json()).toMatchObject({
      can: { inspect: false, operate: false },
    });
    expect(await errorOf(await ask('/api/me', 'mr_wrong'))).toEqual([401, 'UNAUTHORIZED']);
    expect((await fetch(`${keyed.url}/dashboard/`)).status).toBe(200);
    for (const path of ['/api/live', '/api/traces', '/api/inspect/collections']) {
      expect((await ask(path, looks.key)).status).toBe(200);
      expect(await errorOf(await ask(path, calls.key))).toEqual([403, 'FORBIDDEN']);
      expect(await errorOf(await fetch(`${keyed.url}${path}`))).toEqual([401, 'UNAUTHORIZED']);
    }
  });

  it('follows runs while its traces are looked at, and tells a trace by its id', async () => {
    await fetch(`${gateway.url}/api/traces`);
    const found = await until('a run was followed', async () => {
      await post('/fn/sum', { a: 1, b: 2 });
      const { traces } = (await (await fetch(`${gateway.url}/api/traces`)).json()) as {
        traces: { id: string; function: string }[];
      };
      return traces.find((trace) => trace.function === 'sum');
    });
    const trace = await (await fetch(`${gateway.url}/api/traces/${found.id}`)).json();
    expect(trace).toMatchObject({
      id: found.id,
      more: 0,
      runs: [{ function: 'sum', worker: worker.id, trace: found.id }],
    });
    expect(await errorOf(await fetch(`${gateway.url}/api/traces/${'0'.repeat(32)}`))).toEqual([
      404,
      'NOT_FOUND',
    ]);
  });
});
