/** Telemetry as its users turn it on: environment and flags, real processes. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isLong } from '../support/long.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { Command, millrace } from '../support/cli.ts';
import { until } from '../support/wait.ts';

interface SentSpan {
  name: string;
  traceId: string;
  spanId: string;
  parentSpanId?: string;
}
interface Sent {
  resourceSpans: {
    resource: { attributes: { key: string; value: { stringValue?: string } }[] };
    scopeSpans: { spans: SentSpan[] }[];
  }[];
}

const sent: Sent[] = [];
const spans = (): SentSpan[] =>
  sent.flatMap(({ resourceSpans }) =>
    resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((scope) => scope.spans)),
  );
const spanNamed = async (name: string): Promise<SentSpan> =>
  until(`the span ${name} was sent`, () => spans().find((span) => span.name === name));

let broker: TestBroker;
let collector: Server;
let workers: Command[];
let env: NodeJS.ProcessEnv;

const FOLDER = ['--functions', 'test/fixtures/telemetry'];

beforeAll(async () => {
  collector = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.once('end', () => {
      if (request.url === '/v1/traces') sent.push(JSON.parse(body) as Sent);
      response.end('{}');
    });
  }).listen(0, '127.0.0.1');
  await once(collector, 'listening');
  const { port } = collector.address() as AddressInfo;
  env = { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}/` };
  broker = await startTestBroker();
  const server = ['worker', '--server', broker.url, ...FOLDER];
  workers = [
    new Command([...server, '--metrics-port', '0'], { env }),
    new Command([...server, '--log-level', 'warn'], { env }),
  ];
  await workers[0]?.says('is ready');
  await until('both are there', async () => {
    const { stdout } = await millrace('inspect', 'workers', '--json', '--server', broker.url);
    return (JSON.parse(stdout) as { workers: unknown[] }).workers.length === 2;
  });
});

afterAll(async () => {
  for (const worker of workers) await worker.end();
  await broker.stop();
  collector.close();
});

const invoke = async (say: string, ...more: string[]) =>
  new Command(['invoke', 'talk', JSON.stringify({ say }), '--server', broker.url, ...more], { env })
    .finished;

describe('traces', () => {
  it('are sent by command line and worker, functions’ own as well', async () => {
    expect(await invoke('traced')).toMatchObject({ status: 0, stdout: '6\n' });
    const call = await spanNamed('invoke talk');
    const run = await spanNamed('run talk');
    expect([run.traceId, run.parentSpanId]).toEqual([call.traceId, call.spanId]);
    await spanNamed('mine');
    const services = sent.flatMap(({ resourceSpans }) =>
      resourceSpans.map(
        ({ resource }) =>
          resource.attributes.find(({ key }) => key === 'service.name')?.value.stringValue,
      ),
    );
    expect(new Set(services)).toEqual(new Set(['millrace-client', 'millrace-worker']));
    const { stdout } = await millrace('logs', 'talk', '--json', '--server', broker.url);
    const lines = stdout.trim().split('\n');
    const line = JSON.parse(lines.find((each) => each.includes('"traced"')) ?? '{}') as object;
    expect(line).toMatchObject({ trace_id: run.traceId, span_id: run.spanId });
  });

  it.runIf(isLong)('to a collector that is away keep nobody from anything', async () => {
    const away = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' };
    const line = ['invoke', 'talk', '{"say":"away"}', '--server', broker.url];
    const { status, stdout, stderr } = await new Command(line, { env: away }).finished;
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '4\n', stderr: '' });
  });

  it('to what is no URL are refused', async () => {
    const wrong = { OTEL_EXPORTER_OTLP_ENDPOINT: 'localhost' };
    const line = ['invoke', 'talk', '{}', '--server', broker.url];
    const { status, stderr } = await new Command(line, { env: wrong }).finished;
    expect(status).toBe(2);
    expect(stderr).toMatch(/^millrace: The endpoint for traces .* \[USAGE\]\n$/);
  });
});

describe('metrics', () => {
  it('are where the worker says', async () => {
    const [, url = ''] = /metrics are at (http:\/\/127\.0\.0\.1:\d+\/metrics)/.exec(
      workers[0]?.stdout ?? '',
    ) ?? [''];
    const text = await (await fetch(url)).text();
    expect(text).toMatch(/^millrace_invocations_total\{function="talk",outcome="ok"\} \d+$/m);
    expect(text).toMatch(/^nodejs_heap_size_used_bytes \d+$/m);
  });

  it('on a port that is taken end the worker with a sentence', async () => {
    const { port } = collector.address() as AddressInfo;
    const line = ['worker', '--server', broker.url, ...FOLDER, '--metrics-port', String(port)];
    const { status, stderr } = await millrace(...line);
    expect(status).toBe(2);
    expect(stderr).toMatch(
      /^millrace: Metrics cannot be served on 127\.0\.0\.1:\d+: .* \[USAGE\]\n$/,
    );
  });
});

describe('logs', () => {
  it('are followed from both workers, for people and as JSON, until Ctrl-C', async () => {
    const line = ['logs', 'talk', '--follow', '--level', 'warn', '--server', broker.url];
    const followers = [new Command(line), new Command([...line, '--json'])];
    for (const each of followers) await each.says('following talk');
    const [pretty, json] = followers as [Command, Command];
    const heardFrom = (): unknown[] =>
      json.stdout
        .split('\n')
        .filter((each) => each.endsWith('}'))
        .map((each) => (JSON.parse(each) as { worker: unknown }).worker);
    await until('both are heard', async () => {
      await invoke('hello\u001b[2J', '--id', `hello-${heardFrom().length}-${Date.now()}`);
      return new Set(heardFrom()).size === 2 && pretty.stdout.includes('hello');
    });
    expect(pretty.stdout).toMatch(/WARN.*hello\\u001b\[2J.*"more":1/);
    expect(pretty.stdout).not.toContain('\u001b[2J');
    for (const each of followers) expect((await each.end('SIGINT')).status).toBe(0);
  });

  it('of a function that is not there are refused', async () => {
    const { status, stderr } = await millrace('logs', 'nobody', '--server', broker.url);
    expect(status).toBe(1);
    expect(stderr).toContain('[UNKNOWN_FUNCTION]');
    const wrong = await millrace('logs', 'talk', '--level', 'loud', '--server', broker.url);
    expect(wrong.status).toBe(2);
  });
});
