/** What people do to a gateway who mean no good, or do not care: each a clear answer, and nothing changed. */
import { createHmac } from 'node:crypto';
import { connect as tcp, type Socket } from 'node:net';
import { createRequire } from 'node:module';
import { Validator } from '@seriousme/openapi-schema-validator';
import { connect as connectNats } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { defineFunction } from 'millrace';
import { openBus } from '../../src/client/client.ts';
import { Gateway, type GatewayOptions } from '../../src/gateway/gateway.ts';
import { ApiKeys, makeKey } from '../../src/gateway/keys.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';
import { isLong } from '../support/long.ts';

const SECRET = 'of the hook';
interface Seen {
  id: string;
  data: unknown;
  headers: Readonly<Record<string, string>>;
}
const seen: Seen[] = [];

const tree = z.object({
  name: z.string(),
  get children() {
    return z.array(tree);
  },
});
const functions = [
  defineFunction({
    name: 'echo',
    http: { method: 'POST', path: '/echo/:id' },
    handler: ({ data, headers }) => ({ data, headers }),
  }),
  defineFunction({
    name: 'find',
    input: z.object({ id: z.string(), limit: z.coerce.number().optional(), q: z.string() }),
    http: { method: 'GET', path: '/things/:id' },
    handler: ({ data }) => data,
  }),
  defineFunction({
    name: 'drop',
    http: { method: 'DELETE', path: '/things/:thing' },
    handler: () => undefined,
  }),
  defineFunction({ name: 'publish', input: tree, output: tree, handler: ({ data }) => data }),
  defineFunction({
    name: 'parts',
    output: z.object({ n: z.number() }),
    async *handler() {
      yield { n: 1 };
    },
  }),
  defineFunction({
    name: 'hooked',
    on: 'hostile.hook',
    http: {
      method: 'POST',
      path: '/hook',
      webhook: { provider: 'github', secret: 'HOOK_SECRET' },
    },
    handler: ({ id, data, headers }) => void seen.push({ id, data, headers }),
  }),
  defineFunction({
    name: 'bytes',
    on: 'hostile.bytes',
    http: { method: 'POST', path: '/bytes', webhook: { provider: 'hmac', secret: 'HOOK_SECRET' } },
    handler: ({ id, data, headers }) => void seen.push({ id, data, headers }),
  }),
];

let broker: TestBroker;
let worker: TestWorker;
let gateway: Gateway;
const open: Gateway[] = [];

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
    onProblem: () => {},
    ...options,
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

function socketTo({ url }: Gateway): {
  socket: Socket;
  text: () => string;
  ended: Promise<string>;
} {
  let text = '';
  const socket = tcp(Number(new URL(url).port), '127.0.0.1');
  socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
  socket.on('error', () => {});
  const ended = new Promise<string>((resolve) => socket.on('close', () => resolve(text)));
  return { socket, text: () => text, ended };
}

/** What is answered to these bytes, until the gateway closes. */
async function raw(bytes: string, at = gateway): Promise<string> {
  const { socket, ended } = socketTo(at);
  socket.write(bytes);
  return ended;
}
const request = (line: string, headers: string[] = [], body = ''): string =>
  [
    `${line} HTTP/1.1`,
    'Host: localhost',
    'Connection: close',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Content-Type: application/json',
    ...headers,
    '',
    body,
  ].join('\r\n');
const post = async (path: string, body: string | Buffer, headers = {}): Promise<Response> =>
  fetch(`${gateway.url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body,
  });
const codeOf = async (response: Response): Promise<string> =>
  ((await response.json()) as { error: { code: string } }).error.code;

describe('subjects and names in the URL', () => {
  it('reach nothing but users’ own subjects, however they are written', async () => {
    const nats = await connectNats({ servers: broker.url });
    const heard: string[] = [];
    nats.subscribe('>', {
      callback: (_, { subject, data }) => {
        if (Buffer.from(data).includes('intruder')) heard.push(subject);
      },
    });
    await nats.flush();
    const subjects = [
      'millrace.worker.x.call',
      'millrace%2Efn%2Eecho',
      '%2A',
      'a.%3E',
      'a%20b',
      'a%0d%0aPUB%20b%200',
      'a%00b',
      '%24JS.API.STREAM.DELETE.x',
      '%24SYS.REQ',
      '_INBOX.abc',
      '.a',
      'a.',
      'a..b',
      '%2e%2e',
      'a%2F..%2Fmillrace',
    ];
    for (const subject of subjects) {
      const answer = await raw(request(`POST /events/${subject}`, [], '"intruder"'));
      expect([subject, answer.slice(0, 12)]).toEqual([subject, 'HTTP/1.1 400']);
    }
    for (const name of ['..%2Fevents', 'a.b', '%2A', 'x%20y', '%00']) {
      expect(await raw(request(`POST /fn/${name}`, [], '"intruder"'))).toMatch(/^HTTP\/1.1 40[04]/);
    }
    for (const follow of ['%24JS.%3E', '%24KV.%3E', '_INBOX.%3E', '*.x', 'millrace.x', '%3E']) {
      expect((await fetch(`${gateway.url}/events?subject=${follow}`)).status).toBe(400);
    }
    await nats.flush();
    expect(heard).toEqual([]);
    await nats.close();
  });

  it('bring no header of the broker’s or the platform’s', async () => {
    const headers = {
      'nats-msg-id': 'intruder',
      'Nats-Rollup': 'all',
      'Millrace-Transaction': 'intruder',
      'Millrace-Subject': 'intruder',
      'Millrace-Stream': '1',
    };
    expect(await (await post('/fn/echo', '{}', headers)).json()).toMatchObject({ headers: {} });
    const body = '{"n":1}';
    const signature = createHmac('sha256', SECRET).update(body).digest('hex');
    const signed = { ...headers, 'x-hub-signature-256': `sha256=${signature}` };
    const delivery = { ...signed, 'x-github-delivery': 'no-headers' };
    expect((await post('/hook', body, delivery)).status).toBe(202);
    const found = await until('it is handled', () => seen.find(({ id }) => id === 'no-headers'));
    expect(Object.keys(found.headers).filter((name) => /rollup|millrace/i.test(name))).toEqual([]);
  });
});

describe('a request', () => {
  it('that could be two, or is cut short, is refused', async () => {
    const both =
      'POST /fn/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n';
    for (const bytes of [
      both,
      'POST /fn/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx',
      'POST /fn/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n',
      'POST /fn/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
      'GET /health HTTP/1.1\r\n\r\n',
      'GET /health HTTP/1.1\r\nHost: localhost\r\nA b: c\r\n\r\n',
      'GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n',
    ]) {
      const answer = await raw(bytes);
      expect([bytes, answer]).toEqual([bytes, expect.stringMatching(/^HTTP\/1.1 400 /)]);
      expect(answer.match(/HTTP\/1.1 /g)).toHaveLength(1);
    }
  });

  it('with a bomb in it, or a prototype, is refused', async () => {
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    expect(await codeOf(await post('/fn/echo', deep))).toBe('INVALID_INPUT');
    const many = `[${'{},'.repeat(300_000)}{}]`;
    expect(await codeOf(await post('/fn/echo', many))).toBe('INVALID_INPUT');
    const msgpack = { 'content-type': 'application/msgpack' };
    // An array of 2^32 - 1 values, of which none is there; and a million nested ones.
    expect(await codeOf(await post('/fn/echo', Buffer.from('ddffffffff', 'hex'), msgpack))).toBe(
      'INVALID_INPUT',
    );
    expect(await codeOf(await post('/fn/echo', Buffer.alloc(1_000_000, 0x91), msgpack))).toBe(
      'INVALID_INPUT',
    );
    for (const text of ['{"__proto__":{"x":1}}', '{"constructor":{"prototype":{"x":1}}}']) {
      expect(await codeOf(await post('/fn/echo', text))).toBe('INVALID_INPUT');
    }
    expect((await post('/echo/7?__proto__=x', '{}')).status).toBe(400);
    expect(({} as { x?: unknown }).x).toBeUndefined();
  });

  it('has an id of at most 255 bytes, and a trace that is one, or none', async () => {
    const key = (text: string) => ({ 'idempotency-key': text });
    expect(await codeOf(await post('/fn/echo', '{}', key('x'.repeat(256))))).toBe('INVALID_INPUT');
    expect((await post('/fn/echo', '{}', key('x'.repeat(255)))).status).toBe(200);
    const traced = await post('/fn/echo', '{}', {
      traceparent: 'nonsense',
      tracestate: 'x'.repeat(5_000),
    });
    expect(await traced.json()).toMatchObject({ headers: {} });
    for (const timeout of ['0', '-1', '1e3', 'NaN', '99999999']) {
      const late = await post('/fn/echo', '{}', { 'millrace-timeout-ms': timeout });
      expect(await codeOf(late)).toBe('INVALID_INPUT');
    }
  });

  it('with HEAD or OPTIONS ends', async () => {
    expect((await fetch(`${gateway.url}/health`, { method: 'HEAD' })).status).toBe(200);
    expect((await fetch(`${gateway.url}/events?subject=a`, { method: 'HEAD' })).status).toBe(404);
    expect((await fetch(`${gateway.url}/fn/echo`, { method: 'OPTIONS' })).status).toBe(404);
  });

  it('without a body has the fields of its path and query, whatever type it names', async () => {
    const typed = { 'content-type': 'application/octet-stream' };
    const answer = await post('/echo/7?a=b', '', typed);
    expect(await answer.json()).toMatchObject({ data: { id: '7', a: 'b' } });
  });

  it.runIf(isLong)(
    'that arrives slowly is given up, and holds up nobody',
    async () => {
      const slow = socketTo(gateway);
      slow.socket.write('POST /fn/echo HTTP/1.1\r\nHost: localhost\r\nX-Slow: ');
      const drip = setInterval(() => slow.socket.write('x'), 500);
      expect((await post('/fn/echo', '{}')).status).toBe(200);
      const answer = await slow.ended;
      clearInterval(drip);
      expect(answer).toMatch(/^HTTP\/1.1 408 Request Timeout\r\n.*INVALID_INPUT/s);
    },
    30_000,
  );
});

describe('limits', () => {
  it('hold for functions’ own routes, webhooks and what is not there as well', async () => {
    const limited = await start({ ratePerSecond: 1 });
    for (const path of ['/things/1?q=x', '/nothing']) {
      const asked = Array.from({ length: 50 }, async () => fetch(`${limited.url}${path}`));
      const statuses = (await Promise.all(asked)).map(({ status }) => status);
      expect([path, statuses.includes(429)]).toEqual([path, true]);
    }
  });

  it('let anybody ask whether it is ready, and the workers hear of it once a second', async () => {
    const nats = await connectNats({ servers: broker.url });
    let asked = 0;
    nats.subscribe('millrace.inspect.workers', { callback: () => void (asked += 1) });
    await nats.flush();
    const ready = await Promise.all(
      Array.from({ length: 50 }, async () => fetch(`${gateway.url}/ready`)),
    );
    expect(ready.every(({ status }) => status === 200)).toBe(true);
    await nats.flush();
    expect(asked).toBeLessThan(10);
    await nats.close();
  });
});

describe('keys', () => {
  it('are asked for everywhere but at health, readiness and webhooks', async () => {
    const { record, key } = makeKey('one', ['invoke:echo']);
    const guarded = await start({ keys: new ApiKeys([record]) });
    const status = async (path: string, options: RequestInit = {}): Promise<number> => {
      const response = await fetch(`${guarded.url}${path}`, options);
      await response.body?.cancel();
      return response.status;
    };
    const asked = ['/events?subject=a', '/openapi.json', '/metrics', '/api/inspect/workers'];
    for (const path of [...asked, '/api/dead', '/api/deploys', '/things/1']) {
      expect([path, await status(path)]).toEqual([path, 401]);
    }
    for (const path of ['/fn/echo', '/events/a', '/echo/1', '/api/deploys/echo/rollback']) {
      expect([path, await status(path, { method: 'POST' })]).toEqual([path, 401]);
    }
    const headers = { authorization: `Bearer ${key}` };
    expect(await status('/fn/echo', { method: 'POST', headers })).toBe(200);
    expect(await status('/fn/parts', { method: 'POST', headers })).toBe(403);
    for (const wrong of ['Bearer', `Bearer ${key}x`, `Basic ${key}`, `Bearer ${key} ${key}`]) {
      const given = { headers: { authorization: wrong }, method: 'POST' };
      expect([wrong, await status('/fn/echo', given)]).toEqual([wrong, 401]);
    }
  });
});

describe('CloudEvents', () => {
  const event = (id: string) => ({ specversion: '1.0', id, source: '/s', type: 't', data: { id } });
  const batch = { 'content-type': 'application/cloudevents-batch+json' };

  it('come in batches, all of them or none', async () => {
    const two = await post(
      '/events/hostile.hook',
      JSON.stringify([event('b1'), event('b2')]),
      batch,
    );
    expect(await two.json()).toMatchObject({ events: [{ id: 'b1' }, { id: 'b2' }] });
    await until('both are handled', () =>
      ['b1', 'b2'].every((wanted) => seen.some(({ id }) => id === wanted)),
    );
    const half = JSON.stringify([event('b3'), { id: 'b4' }]);
    expect(await codeOf(await post('/events/hostile.hook', half, batch))).toBe('INVALID_INPUT');
    expect(await codeOf(await post('/events/hostile.hook', '{}', batch))).toBe('INVALID_INPUT');
    await post('/events/hostile.hook', JSON.stringify([event('b5')]), batch);
    await until('the next is handled', () => seen.some(({ id }) => id === 'b5'));
    expect(seen.some(({ id }) => id === 'b3')).toBe(false);
  });

  it('in headers have all that a CloudEvent has, or are none', async () => {
    const partly = { 'ce-id': 'x', 'ce-type': 't' };
    expect(await codeOf(await post('/events/hostile.hook', '{}', partly))).toBe('INVALID_INPUT');
    const other = { ...partly, 'ce-source': 's', 'ce-specversion': '0.3' };
    expect(await codeOf(await post('/events/hostile.hook', '{}', other))).toBe('INVALID_INPUT');
  });
});

describe('webhooks', () => {
  it('of GitHub’s own examples are taken, each once', async () => {
    const examples = createRequire(import.meta.url)('@octokit/webhooks-examples') as {
      name: string;
      examples: unknown[];
    }[];
    const bodies = examples.slice(0, 40).map(({ examples: [first] }) => JSON.stringify(first));
    const statuses = await Promise.all(
      bodies.map(async (body, index) => {
        const signature = createHmac('sha256', SECRET).update(body).digest('hex');
        const headers = {
          'x-hub-signature-256': `sha256=${signature}`,
          'x-github-delivery': `example-${index}`,
        };
        const tampered = await post('/hook', `${body} `, headers);
        const taken = await post('/hook', body, headers);
        return [tampered.status, taken.status];
      }),
    );
    expect(statuses).toEqual(bodies.map(() => [401, 202]));
    await until('all are handled', () =>
      bodies.every((_, index) => seen.some(({ id }) => id === `example-${index}`)),
    );
  });

  it('may be bytes that are no text', async () => {
    const body = Buffer.from([0xff, 0xfe, 0x00, 0x80]);
    const headers = {
      'content-type': 'application/octet-stream',
      'x-signature-256': createHmac('sha256', SECRET).update(body).digest('hex'),
      'idempotency-key': 'bytes',
    };
    expect((await post('/bytes', body, headers)).status).toBe(202);
    expect((await post('/bytes', Buffer.from([0xff, 0xff]), headers)).status).toBe(401);
    await until('it is handled', () => seen.some(({ id }) => id === 'bytes'));
    expect(seen.find(({ id }) => id === 'bytes')?.data).toEqual(new Uint8Array(body));
  });
});

describe('the description', () => {
  it('is valid OpenAPI 3.1, schemas that refer to themselves included', async () => {
    const { record, key } = makeKey('docs', ['inspect']);
    const keyed = await start({ keys: new ApiKeys([record]) });
    const headers = { authorization: `Bearer ${key}` };
    const answer = await fetch(`${keyed.url}/openapi.json`, { headers });
    const document = (await answer.json()) as Record<string, never>;
    const result = await new Validator().validate(structuredClone(document));
    expect(result.errors).toBeUndefined();
    expect(result.valid).toBe(true);
    const refs = [...JSON.stringify(document).matchAll(/"\$ref":"#\/([^"]+)"/g)];
    expect(refs.length).toBeGreaterThan(5);
    for (const [, path = ''] of refs) {
      const found = path
        .split('/')
        .reduce<unknown>(
          (at, name) => (at as Record<string, unknown> | undefined)?.[name],
          document,
        );
      expect([path, typeof found]).toEqual([path, 'object']);
    }
    const ids = [...JSON.stringify(document).matchAll(/"operationId":"([^"]+)"/g)].map(
      ([, id]) => id,
    );
    expect(new Set(ids).size).toBe(ids.length);
    expect(JSON.stringify(document['paths']?.['/things/{thing}'])).not.toContain('"name":"id"');
    expect(document['paths']).toMatchObject({
      // The first of those that lead there names the part.
      '/things/{thing}': {
        get: {
          parameters: expect.arrayContaining([
            expect.objectContaining({ name: 'thing', in: 'path', required: true }) as unknown,
            expect.objectContaining({ name: 'q', in: 'query', required: true }) as unknown,
            expect.objectContaining({ name: 'limit', in: 'query', required: false }) as unknown,
          ]) as unknown,
        },
        delete: {},
      },
      '/fn/parts': {
        post: { responses: { 200: { content: { 'application/x-ndjson': {} } } } },
      },
    });
  });
});

describe('told to stop', () => {
  it('ends who follows events at once', async () => {
    const leaving = await start();
    const follower = await fetch(`${leaving.url}/events?subject=followed.x`);
    const beganMs = performance.now();
    expect(await leaving.close()).toBe(true);
    expect(await follower.text()).toContain(': follows');
    expect(performance.now() - beganMs).toBeLessThan(20_000);
  }, 40_000);
});
