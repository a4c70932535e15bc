import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { connect, StringCodec } from 'nats';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import {
  type Broker,
  type BrokerBinary,
  findBroker,
  startBroker,
  type StartBrokerOptions,
} from '../../src/broker/index.ts';
import { identityOf, isAlive } from '../../src/broker/identity.ts';
import { freePort } from '../../src/broker/port.ts';

const CONFIG = fileURLToPath(new URL('../../config/nats-server.conf', import.meta.url));
const INDEX = new URL('../../src/broker/index.ts', import.meta.url).href;
const BOUNDED = { timeout: 10_000, interval: 20 };

let binary: BrokerBinary;
let folder: string;
let storeDir: string;
const started: Broker[] = [];

beforeAll(async () => {
  binary = await findBroker({});
}, 120_000);
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-broker-'));
  storeDir = join(folder, 'a "store" of $HOME #1');
});
afterEach(async () => {
  await Promise.all(started.splice(0).map((broker) => broker.stop()));
  await rm(folder, { recursive: true, force: true });
});

async function start(options: Partial<StartBrokerOptions> = {}): Promise<Broker> {
  const broker = await startBroker({ binary, port: 0, storeDir, ...options });
  started.push(broker);
  return broker;
}

/** Whether the server's process group, with its guard, still has a member. */
function groupLives(pid: number): boolean {
  try {
    return process.kill(-pid, 0);
  } catch {
    return false;
  }
}

test('a broker keeps its data across stop and start, in a folder with a difficult name', async () => {
  const first = await start();
  const nc = await connect({ servers: first.url });
  const manager = await nc.jetstreamManager();
  await manager.streams.add({ name: 'kept', subjects: ['kept.>'] });
  await nc.jetstream().publish('kept.one', StringCodec().encode('still here'));
  await nc.close();
  await first.stop();
  expect(await first.exited).toMatchObject({ unexpected: false });
  expect(await readdir(storeDir)).toEqual(expect.arrayContaining(['broker.log', 'jetstream']));
  expect(await readdir(storeDir)).not.toContain('broker.pid');

  const second = await start();
  const again = await connect({ servers: second.url });
  const message = await (await again.jetstreamManager()).streams.getMessage('kept', { seq: 1 });
  expect(StringCodec().decode(message.data)).toBe('still here');
  await again.close();
});

test('a ready broker has JetStream, listens on the loopback only and takes 8 MiB', async () => {
  const broker = await start();
  const nc = await connect({ servers: broker.url });
  expect(nc.info).toMatchObject({
    jetstream: true,
    host: '127.0.0.1',
    version: broker.version,
    max_payload: 8 * 1024 * 1024,
  });
  await nc.close();
});

test('every acknowledged write is synced, and silent clients are asked every ten seconds', async () => {
  const configFile = join(folder, 'monitored.conf');
  await writeFile(configFile, `${await readFile(CONFIG, 'utf8')}\nhttp: "127.0.0.1:-1"\n`);
  const lines: string[] = [];
  await start({ configFile, onLog: (line) => lines.push(line) });
  const monitor = () => /http monitor on (\S+)/.exec(lines.join('\n'))?.[1];
  await expect.poll(monitor, BOUNDED).toBeDefined();
  const response = await fetch(`http://${monitor()}/varz`);
  expect(await response.json()).toMatchObject({
    ping_interval: 10_000_000_000,
    ping_max: 2,
    jetstream: { config: { sync_always: true, store_dir: join(storeDir, 'jetstream') } },
  });
});

test('pid is the server itself, and after stop nothing is left of it', async () => {
  const broker = await start();
  const command = await readFile(`/proc/${broker.pid}/cmdline`, 'utf8');
  expect(command.split('\0')[0]).toBe(binary.path);
  await Promise.all([broker.stop(), broker.stop()]);
  await broker.stop();
  expect(isAlive(identityOf(broker.pid))).toBe(false);
  await expect.poll(() => groupLives(broker.pid), BOUNDED).toBe(false);
});

test('a broker that dies by itself is reported as unexpected and frees its store', async () => {
  const broker = await start();
  process.kill(broker.pid, 'SIGKILL');
  expect(await broker.exited).toEqual({ code: null, signal: 'SIGKILL', unexpected: true });
  await expect.poll(() => groupLives(broker.pid), BOUNDED).toBe(false);
  await start();
});

test('a broker that hangs is killed by stop', async () => {
  const broker = await start();
  process.kill(broker.pid, 'SIGSTOP');
  await broker.stop();
  expect(await broker.exited).toMatchObject({ signal: 'SIGKILL', unexpected: false });
});

test('a port taken by another program is refused', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const address = other.address();
  const port = address !== null && typeof address === 'object' ? address.port : 0;
  await expect(start({ port })).rejects.toMatchObject({
    code: 'BROKER_PORT_BUSY',
    message: expect.stringMatching(/no NATS server; .*--port N\.$/),
  });
  other.close();
});

test('a port taken by a NATS server is refused, saying how to use that one', async () => {
  const { port } = await start();
  await expect(start({ port, storeDir: join(folder, 'other') })).rejects.toMatchObject({
    code: 'BROKER_PORT_BUSY',
    message: expect.stringContaining(`--server nats://127.0.0.1:${port}`),
    details: { port, natsServer: true },
  });
});

test('two that start on one port at once: one runs, the other is told that the port is busy', async () => {
  const port = await freePort(0);
  const results = await Promise.allSettled([
    start({ port, storeDir: join(folder, 'one') }),
    start({ port, storeDir: join(folder, 'two') }),
  ]);
  expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  const lost = results.find(({ status }) => status === 'rejected');
  expect(lost).toMatchObject({ reason: { code: 'BROKER_PORT_BUSY' } });
});

test('a free port that somebody else takes first is exchanged for another one', async () => {
  const path = join(folder, 'unlucky-once');
  const marker = join(folder, 'was-unlucky');
  const line =
    '[FTL] Error listening on port: 127.0.0.1:1, "listen tcp: bind: address already in use"';
  await writeFile(
    path,
    `#!/bin/sh
     if [ ! -e '${marker}' ]; then touch '${marker}'; echo '${line}' >&2; exit 1; fi
     exec '${binary.path}' "$@"`,
    { mode: 0o755 },
  );
  const broker = await start({ binary: { ...binary, path } });
  expect(await readdir(folder)).toContain('was-unlucky');
  const nc = await connect({ servers: broker.url });
  await nc.close();
});

test('a server_name in the configuration does not hide that it is our server', async () => {
  const configFile = join(folder, 'named.conf');
  await writeFile(configFile, `server_name: other\n${await readFile(CONFIG, 'utf8')}`);
  const broker = await start({ configFile, readyTimeoutMs: 5_000 });
  expect(broker.version).toBe(binary.version);
});

test('a second broker on the same store is refused, naming the first', async () => {
  const broker = await start();
  await expect(start()).rejects.toMatchObject({
    code: 'BROKER_STORE_UNWRITABLE',
    message: expect.stringContaining(`in use by process ${broker.pid};`),
  });
});

test('a store below a file is refused', async () => {
  await writeFile(join(folder, 'file'), '');
  await expect(start({ storeDir: join(folder, 'file', 'store') })).rejects.toMatchObject({
    code: 'BROKER_STORE_UNWRITABLE',
  });
});

test('a broker that cannot start is reported with its last line and leaves the store free', async () => {
  const configFile = join(folder, 'wrong.conf');
  await writeFile(configFile, 'port: $MILLRACE_BROKER_PORT\nno_such_setting: 1\n');
  await expect(start({ configFile })).rejects.toMatchObject({
    code: 'BROKER_FAILED',
    message: expect.stringMatching(/with code 1 .*no_such_setting.*broker\.log/),
  });
  await start();
});

test('a broker without JetStream is never ready, and is not left running', async () => {
  const configFile = join(folder, 'core.conf');
  await writeFile(configFile, 'port: $MILLRACE_BROKER_PORT\n');
  const lines: string[] = [];
  const onLog = (line: string) => lines.push(line);
  await expect(start({ configFile, readyTimeoutMs: 500, onLog })).rejects.toMatchObject({
    code: 'BROKER_FAILED',
    message: expect.stringContaining('was not ready within 500 ms'),
  });
  const pid = Number(/^\[(\d+)\]/.exec(lines[0] ?? '')?.[1]);
  expect(pid).toBeGreaterThan(1);
  expect(isAlive(identityOf(pid))).toBe(false);
});

test('a broker whose parent is killed shuts down in order, and a quick restart waits for it', async () => {
  const program = join(folder, 'parent.mts');
  await writeFile(
    program,
    `import { startBroker } from ${JSON.stringify(INDEX)};
     const broker = await startBroker(${JSON.stringify({ binary, port: 0, storeDir })});
     console.log(JSON.stringify(broker));`,
  );
  const parent = spawn(process.execPath, ['--import', 'tsx', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(createInterface({ input: parent.stdout }), 'line')) as [string];
  const { pid } = JSON.parse(line) as Broker;
  const server = identityOf(pid);
  expect(isAlive(server)).toBe(true);
  parent.kill('SIGKILL');
  await once(parent, 'exit');

  await start();
  expect(isAlive(server)).toBe(false);
  expect(await readFile(join(storeDir, 'broker.log.1'), 'utf8')).toContain('Server Exiting');
});

test('two that fetch at once into an empty cache both get a whole server', async () => {
  const cacheDir = join(folder, 'cache');
  const progress: string[] = [];
  const env = { ...process.env };
  delete env['NATS_SERVER_BIN'];
  const find = () => findBroker({ cacheDir, env, onProgress: (line) => progress.push(line) });
  const [one, two] = await Promise.all([find(), find()]);
  expect(one).toEqual(two);
  if (one.origin !== 'fetched') return;
  expect(progress[0]).toMatch(/fetching nats-server 2\.14\.0 once \(6 MB\)/);
  expect(await readdir(cacheDir)).toEqual(['nats-server-2.14.0-linux-x64']);
  const lines = progress.length;
  await find();
  expect(progress).toHaveLength(lines);
}, 120_000);
