/**
 * The gateway beside fastify's own hello world, and how long a deploy takes. Load comes from autocannon in a process of its own, gateway, worker,
 * broker and the other server each in theirs; rounds are interleaved, ratios are taken within a round. It does not measure TLS, keys, rate
 * limits, nor a network; on two cores all of these processes share what one hello world has nearly for itself.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { WorkerProcess } from '../src/dev/worker-process.ts';
import { startBenchBroker } from './broker.ts';
import { describeMachine, printMachine } from './machine.ts';
import { print } from './print.ts';
import { processCpuMs } from './proc.ts';
import { median } from './results.ts';
import { stopProcess } from './stop-process.ts';

export interface HttpBenchOptions {
  seconds: number;
  rounds: number;
  jsonFile: string | undefined;
  /** CPU profiles of the gateway go here. */
  profileDir: string | undefined;
}

const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const FUNCTIONS = fileURLToPath(new URL('./balance-functions', import.meta.url));
const resolve = createRequire(import.meta.url).resolve;
/** As fastify's own benchmarks have it: 100 connections, each with 10 requests under way; and with one. */
const CONNECTIONS = 100;
const PIPELINING = [1, 10];
const DEPLOYED = 50;
const WORKERS = 4;
const BODY = '{"a":1,"b":2}';

const HELLO = `
const app = require(${JSON.stringify(resolve('fastify'))})();
app.post('/hello', async () => ({ hello: 'world' }));
app.listen({ host: '127.0.0.1', port: 0 }).then((url) => process.stdout.write(url));
process.once('disconnect', () => process.exit());
`;

interface Load {
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  failed: number;
}

/** Closed loop. */
async function load(url: string, seconds: number, pipelining: number): Promise<Load> {
  const words = [
    '-j',
    '-n',
    '-m',
    'POST',
    '-p',
    `${pipelining}`,
    '-c',
    `${CONNECTIONS}`,
    '-d',
    `${seconds}`,
  ];
  words.push('-H', 'Content-Type=application/json', '-b', BODY, url);
  const child = spawn(process.execPath, [resolve('autocannon'), ...words], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
  await once(child, 'close');
  const { requests, latency, errors, non2xx } = JSON.parse(text) as {
    requests: { average: number };
    latency: { p50: number; p99: number };
    errors: number;
    non2xx: number;
  };
  return {
    perSecond: requests.average,
    p50Ms: latency.p50,
    p99Ms: latency.p99,
    failed: errors + non2xx,
  };
}

async function started(
  command: readonly string[],
  says: RegExp,
  url?: string,
): Promise<[ChildProcess, string]> {
  const child = spawn(process.execPath, command, {
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    env: { ...process.env, ...(url === undefined ? {} : { NATS_URL: url }) },
  });
  let text = '';
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
    text += chunk.toString();
    const [found] = says.exec(text) ?? [];
    if (found !== undefined) {
      child.stdout?.resume();
      return [child, found];
    }
  }
  throw new Error(`it has ended: ${text}`);
}

export async function benchHttp({
  seconds,
  rounds,
  jsonFile,
  profileDir,
}: HttpBenchOptions): Promise<void> {
  const broker = await startBenchBroker();
  const machine = await describeMachine(broker.version);
  printMachine(machine);
  try {
    const gateway = await benchGateway(broker.url, seconds, rounds, profileDir);
    const deploy = await benchDeploy(broker.url);
    const results = { machine, connections: CONNECTIONS, gateway, deploy };
    if (jsonFile !== undefined) await writeFile(jsonFile, `${JSON.stringify(results, null, 2)}\n`);
  } finally {
    await broker.stop();
  }
}

async function benchGateway(
  url: string,
  seconds: number,
  rounds: number,
  profileDir: string | undefined,
) {
  const worker = new WorkerProcess(
    ['worker', '--functions', FUNCTIONS, '--log-level', 'warn'],
    MAIN,
    {
      ...process.env,
      NATS_URL: url,
    },
  );
  await worker.ready;
  const profile = profileDir === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileDir}`];
  const [gateway, gatewayUrl] = await started(
    [...profile, MAIN, 'gateway', '--port', '0'],
    /http:\/\/127\.0\.0\.1:\d+/,
    url,
  );
  const [hello, helloUrl] = await started(['-e', HELLO], /http:\/\/127\.0\.0\.1:\d+/);
  try {
    const rows = [];
    const cpuOf = ({ pid = 0 }: ChildProcess): number => processCpuMs(pid) ?? 0;
    await load(`${gatewayUrl}/fn/random`, 1, 1);
    for (const pipelining of PIPELINING) {
      const samples: { fastify: Load; gateway: Load; gatewayCpuUs: number; ratio: number }[] = [];
      for (let round = 0; round < rounds; round += 1) {
        const fastify = await load(`${helloUrl}/hello`, seconds, pipelining);
        const before = cpuOf(gateway);
        const own = await load(`${gatewayUrl}/fn/random`, seconds, pipelining);
        const gatewayCpuUs = ((cpuOf(gateway) - before) * 1_000) / (own.perSecond * seconds);
        const ratio = own.perSecond / fastify.perSecond;
        samples.push({ fastify, gateway: own, gatewayCpuUs, ratio });
      }
      const ratio = median(samples.map((each) => each.ratio));
      const of = (what: 'fastify' | 'gateway', field: keyof Load): string =>
        median(samples.map((each) => each[what][field])).toFixed(field === 'perSecond' ? 0 : 1);
      for (const what of ['fastify', 'gateway'] as const) {
        print(
          `${what}, ${pipelining} on each of ${CONNECTIONS} connections: ${of(what, 'perSecond')}/s, p50 ${of(what, 'p50Ms')} ms, p99 ${of(what, 'p99Ms')} ms, failed ${of(what, 'failed')}`,
        );
      }
      const cpuUs = median(samples.map(({ gatewayCpuUs }) => gatewayCpuUs));
      print(
        `gateway of fastify: ${ratio.toFixed(2)}; ${cpuUs.toFixed(0)} µs of the gateway's CPU for each request`,
      );
      rows.push({ pipelining, ratio, samples });
    }
    return rows;
  } finally {
    await stopProcess(gateway);
    await stopProcess(hello);
    await worker.stop();
  }
}

async function benchDeploy(url: string) {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
  const functions = join(folder, 'functions');
  await mkdir(functions);
  const environment = { ...process.env, NATS_URL: url, MILLRACE_NAMESPACE: 'bench-deploy' };
  const write = async (version: number): Promise<void> => {
    for (let index = 0; index < DEPLOYED; index += 1) {
      const source = `import { defineFunction } from 'millrace';
export default defineFunction({ on: 'bench.deploy.${index}', handler: async ({ data }, ctx) => {
  await ctx.state('deployed').set('${index}', data);
  return ${version};
} });`;
      await writeFile(join(functions, `function-${index}.ts`), source);
    }
  };
  const workers: WorkerProcess[] = [];
  try {
    for (let index = 0; index < WORKERS; index += 1) {
      // Each as on a machine of its own: nothing that another one has fetched is there.
      const words = ['worker', '--functions', join(folder, `none-${index}`), '--log-level', 'warn'];
      const cwd = join(folder, `worker-${index}`);
      await mkdir(cwd);
      await mkdir(join(folder, `none-${index}`));
      await writeFile(
        join(folder, `none-${index}`, 'idle.js'),
        "import { defineFunction } from 'millrace';\nexport default defineFunction({ handler: () => 0 });\n",
      );
      const previous = process.cwd();
      process.chdir(cwd);
      workers.push(new WorkerProcess(words, MAIN, environment));
      process.chdir(previous);
    }
    await Promise.all(workers.map(async ({ ready }) => ready));
    const times: Record<string, number> = {};
    for (const [version, what] of ['first', 'all changed', 'unchanged'].entries()) {
      await write(Math.min(version, 1));
      const beganMs = performance.now();
      const child = spawn(process.execPath, [MAIN, 'deploy', functions], {
        env: environment,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let text = '';
      child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
      await once(child, 'close');
      times[what] = Math.round(performance.now() - beganMs);
      print(
        `deploy of ${DEPLOYED} functions to ${WORKERS} workers, ${what}: ${times[what]} ms (${text.trim().split('\n').at(-1)})`,
      );
    }
    return { functions: DEPLOYED, workers: WORKERS, timesMs: times };
  } finally {
    await Promise.all(workers.map(async (worker) => worker.stop()));
    await rm(folder, { recursive: true, force: true });
  }
}
