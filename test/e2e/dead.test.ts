import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Mill } from 'millrace';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { Command, millrace, type Finished } from '../support/cli.ts';
import { until } from '../support/wait.ts';

const FUNCTION = `import { defineFunction } from 'millrace';
export default defineFunction({ name: 'parcel', on: 'parcel.*', handler: async ({ subject, data }, ctx) => {
  if (await ctx.state('strike').get('on')) throw Object.assign(new Error('no post today'), { retryable: false });
  await ctx.state('sent').set(subject, data);
} });`;
const STRIKE = `import { defineFunction } from 'millrace';
export default defineFunction({ name: 'strike', handler: async ({ data }, ctx) => ctx.state('strike').set('on', data) });`;

let broker: TestBroker;
let worker: Command;
let mill: Mill;
let folder: string;

beforeAll(async () => {
  broker = await startTestBroker();
  folder = await mkdtemp(join(tmpdir(), 'millrace-dead-'));
  await writeFile(join(folder, 'parcel.ts'), FUNCTION);
  await writeFile(join(folder, 'strike.ts'), STRIKE);
  worker = new Command(['worker', '--server', broker.url, '--functions', folder]);
  await worker.says('is ready');
  mill = await connect({ servers: broker.url });
  await mill.invoke('strike', true);
  for (const name of ['one', 'two', 'three']) await mill.publish(`parcel.${name}`, { name });
  await until('all are dead', async () => (await mill.dead.list()).length === 3);
});
afterAll(async () => {
  await mill.close();
  await worker.end();
  await broker.stop();
  await rm(folder, { recursive: true, force: true });
});

const dead = (...words: string[]): Promise<Finished> =>
  millrace('dead', ...words, '--server', broker.url);

describe('millrace dead', () => {
  it('lists them, and tells of one why', async () => {
    const list = await dead('list');
    expect(list).toMatchObject({ status: 0, stderr: '' });
    expect(list.stdout).toMatch(/^NUMBER +FUNCTION +SUBJECT/);
    expect(list.stdout).toContain('no post today');
    const number = /^(\d+) +parcel +parcel\.two/m.exec(list.stdout)?.[1] ?? '';
    const shown = await dead('show', number);
    expect(shown.stdout).toContain('data {"name":"two"}');
    expect(shown.stdout).toMatch(/attempt 1 at .*FUNCTION_FAILED\nError: no post today\n +at /);
    const json = JSON.parse((await dead('show', number, '--json')).stdout) as object;
    expect(json).toMatchObject({ function: 'parcel', attempts: 1, data: { name: 'two' } });
    expect((await dead('list', '--error', 'another')).stdout).toBe('there are none\n');
  });

  it('refuses what it cannot do, in one sentence', async () => {
    expect(await dead('show', '4711')).toMatchObject({
      status: 1,
      stderr: 'millrace: There is no dead letter 4711. [NOT_FOUND]\n',
    });
    expect(await dead('drop')).toMatchObject({ status: 2 });
    expect(await dead('list', '--since', 'yesterday')).toMatchObject({ status: 2 });
  });

  it('drops one, and has the others handled again', async () => {
    const [first] = await mill.dead.list();
    expect((await dead('drop', String(first?.number))).stdout).toBe('dropped 1\n');
    await mill.invoke('strike', false);
    const replayed = await dead('replay', '--all', '--function', 'parcel', '--since', '1h');
    expect(replayed).toMatchObject({ status: 0, stdout: 'replayed 2\n' });
    const sent = async (): Promise<string[]> =>
      (await mill.inspect.list('sent')).items.map(({ key }) => key);
    const others = ['one', 'two', 'three']
      .map((name) => `parcel.${name}`)
      .filter((subject) => subject !== first?.subject);
    await until('they are handled', async () => (await sent()).length === 2);
    expect((await sent()).toSorted()).toEqual(others.toSorted());
    expect((await dead('list')).stdout).toBe('there are none\n');
  });
});
