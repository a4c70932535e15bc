import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Mill } from 'millrace';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { Command, millrace, type Finished } from '../support/cli.ts';
import { until } from '../support/wait.ts';

const FUNCTION = `import { defineFunction } from 'millrace';
export default defineFunction({ name: 'put', handler: async ({ data }, ctx) => {
  const { key, value, holdMs } = data;
  const stock = ctx.state('stock');
  await stock.get(key);
  await stock.set(key, value);
  if (holdMs) await new Promise((resolve) => setTimeout(resolve, holdMs));
} });`;

let broker: TestBroker;
let worker: Command;
let mill: Mill;
let folder: string;

beforeAll(async () => {
  broker = await startTestBroker();
  folder = await mkdtemp(join(tmpdir(), 'millrace-inspect-'));
  await writeFile(join(folder, 'put.ts'), FUNCTION);
  worker = new Command(['worker', '--server', broker.url, '--functions', folder]);
  await worker.says('is ready');
  mill = await connect({ servers: broker.url });
  for (const key of ['tea/black', 'tea/green', 'coffee']) {
    await mill.invoke('put', { key, value: { name: key } });
  }
});
afterAll(async () => {
  await mill.close();
  await worker.end();
  await broker.stop();
  await rm(folder, { recursive: true, force: true });
});

const inspect = (...commandLine: string[]): Promise<Finished> =>
  millrace('inspect', ...commandLine, '--server', broker.url);
async function json(...commandLine: string[]): Promise<unknown> {
  const { status, stdout, stderr } = await inspect(...commandLine, '--json');
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout) as unknown;
}

describe('inspect', () => {
  it('partitions', async () => {
    const { stdout } = await inspect('partitions');
    expect(stdout).toMatch(
      /^PARTITION +OWNER +EPOCH +STATE +KEYS +BYTES +LOG SEQUENCE\n0 +\w{22} /,
    );
    const { partitions } = (await json('partitions')) as { partitions: object[] };
    expect(partitions[3]).toMatchObject({ id: 3, state: 'serving', epoch: expect.any(Number) });
  });

  it('key COLLECTION KEY', async () => {
    const { stdout } = await inspect('key', 'stock', 'coffee');
    expect(stdout).toMatch(/^COLLECTION +KEY +PARTITION +OWNER +LOCKED BY\nstock +coffee +\d+ /);
    expect(await json('key', 'stock', 'coffee')).toMatchObject({ key: 'coffee', lockedBy: null });
  });

  it('state COLLECTION KEY', async () => {
    const { stdout } = await inspect('state', 'stock', 'coffee');
    expect(stdout).toMatch(/^COLLECTION +KEY +VERSION +PARTITION\nstock +coffee +\d+ +\d+\n\n\{\n/);
    expect(await json('state', 'stock', 'coffee')).toMatchObject({
      collection: 'stock',
      key: 'coffee',
      value: { name: 'coffee' },
    });
    const { status, stdout: nothing, stderr } = await inspect('state', 'stock', 'milk', '--json');
    expect({ status, nothing }).toEqual({ status: 1, nothing: '' });
    expect(stderr).toMatch(/^millrace: .*stock\/milk.* \[NOT_FOUND\]\n$/);
  });

  it('state COLLECTION, page by page', async () => {
    const { stdout, stderr } = await inspect('state', 'stock', '--limit', '2');
    expect(stdout).toMatch(
      /^KEY +VERSION +VALUE\ncoffee +\d+ +\{"name":"coffee"\}\ntea\/black .*\n$/,
    );
    expect(stderr).toBe('There are more: --cursor tea/black\n');
    expect(await json('state', 'stock', '--cursor', 'tea/black')).toMatchObject({
      items: [{ key: 'tea/green' }],
      cursor: null,
    });
    expect(await json('state', 'stock', '--prefix', 'tea/')).toMatchObject({
      items: [{ key: 'tea/black' }, { key: 'tea/green' }],
    });
  });

  it('transactions, once and with --watch until Ctrl-C', async () => {
    const lines = new Command(['inspect', 'transactions', '--watch', '--server', broker.url]);
    const objects = new Command([
      'inspect',
      'transactions',
      '--watch',
      '--json',
      '--server',
      broker.url,
    ]);
    await lines.says('TRANSACTION');
    await objects.says('counters');
    const first = mill.invoke('put', { key: 'held', value: 1, holdMs: 2_500 });
    const active = await until(
      'it runs',
      async () => (await mill.inspect.transactions()).active[0],
    );
    expect((await inspect('transactions')).stdout).toContain(active.id);
    expect(await json('transactions')).toMatchObject({
      active: [{ id: active.id, coordinator: active.coordinator }],
      counters: { committed: expect.any(Number) as number },
    });
    await first;
    await lines.says('ended');
    expect(lines.stdout).toMatch(new RegExp(`${active.id} +open .*\n[^]*${active.id} +ended `));
    await objects.says('"state":"ended"');
    for (const line of objects.stdout.trim().split('\n')) JSON.parse(line);
    for (const watch of [lines, objects]) {
      expect(await watch.end('SIGINT')).toMatchObject({ status: 0, signal: null, stderr: '' });
    }
  });

  it.each([
    [['key', 'stock']],
    [['state']],
    [['state', 'stock', 'coffee', 'more']],
    [['state', 'stock', 'coffee', '--limit', '3']],
    [['state', 'stock', '--limit', '0']],
    [['state', 'stock', '--watch']],
    [['workers', 'mine']],
    [['workers', '--watch']],
  ])('says how it is used at %j', async (commandLine) => {
    const { status, stdout, stderr } = await inspect(...commandLine);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(/^millrace: [^\n]+ \[USAGE\]\n$/);
  });
});
