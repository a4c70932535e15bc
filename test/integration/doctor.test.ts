/** What the doctor says of servers that are not as they should be. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { findBroker, startBroker, type Broker } from '../../src/broker/index.ts';
import { freePort } from '../../src/broker/port.ts';
import { openBus } from '../../src/client/client.ts';
import { parseSettings } from '../../src/core/settings.ts';
import type { Check } from '../../src/doctor/checks.ts';
import { examine } from '../../src/doctor/examine.ts';
import { versionCheck } from '../../src/doctor/monitor.ts';
import { notePid } from '../support/processes.ts';

let directory: string;
let broker: Broker | undefined;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'millrace-doctor-'));
});
afterEach(async () => {
  await broker?.stop();
  broker = undefined;
  await rm(directory, { recursive: true, force: true });
});

/** By name, what is said of a server with this configuration. */
async function examined(
  config: string,
  user = '',
  monitorPort?: number,
): Promise<Map<string, Check>> {
  const configFile = join(directory, 'server.conf');
  const base = 'host: "127.0.0.1"\nport: $MILLRACE_BROKER_PORT\n';
  const store = 'store_dir: $MILLRACE_BROKER_STORE';
  await writeFile(configFile, `${base}${config.replace('STORE', store)}`);
  const storeDir = join(directory, 'store');
  broker = await startBroker({ binary: await findBroker({}), port: 0, storeDir, configFile });
  notePid(broker.pid);
  const servers = broker.url.replace('//', `//${user}`);
  const { bus } = await openBus({ servers }, 'doctor');
  const monitors = monitorPort === undefined ? [] : [`http://127.0.0.1:${monitorPort}`];
  const checks = await examine(bus, parseSettings(), monitors);
  await bus.close();
  return new Map(checks.map((check) => [check.name, check]));
}

it('a server with small messages that syncs now and then fails for both', async () => {
  const port = await freePort(0);
  const found = await examined(
    `max_payload: 100KB\nhttp: "127.0.0.1:${port}"\nserver_name: s\njetstream { STORE }`,
    '',
    port,
  );
  expect(found.get('max_payload')).toMatchObject({ result: 'fail' });
  // The broker gives the server a name of its own.
  const sync = [...found.values()].find(({ name }) => name.startsWith('sync of'));
  expect(sync).toMatchObject({
    result: 'fail',
    finding: expect.stringContaining('every 120 s') as string,
  });
});

it('what cannot be known without a monitoring port is unknown', async () => {
  const found = await examined('max_payload: 8MB\njetstream { STORE }');
  expect(found.get('sync')?.result).toBe('unknown');
  expect([...found.values()].filter(({ result }) => result === 'fail')).toEqual([]);
});

it('permissions that workers lack are named', async () => {
  const found = await examined(
    `max_payload: 8MB
jetstream { STORE }
authorization { users = [{ user: w, password: p, permissions: {
  publish: { allow: ["millrace.>", "_INBOX.>", "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.>"] }
  subscribe: { allow: ["millrace.>", "_INBOX.>"] } } }] }`,
    'w:p@',
  );
  const { result, finding } = found.get('permissions') ?? {};
  expect(result).toBe('fail');
  expect(finding).toContain('$JS.API.STREAM.CREATE.millrace-log');
  expect(finding).toContain('$JS.API.CONSUMER.CREATE.millrace-log');
  expect(finding).not.toContain('STREAM.NAMES');
});

it('an old server is warned of where streams are replicated', () => {
  expect(versionCheck('v', '2.14.0', 3).result).toBe('warn');
  expect(versionCheck('v', '2.14.0', 1).result).toBe('ok');
  expect(versionCheck('v', '2.14.4', 3).result).toBe('ok');
});
