/** What user code throws outside of its handler's own run, in a worker that is a process. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Mill } from 'millrace';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { Command } from '../support/cli.ts';
import { until } from '../support/wait.ts';

let broker: TestBroker;
let mill: Mill;
let folder: string;

beforeAll(async () => {
  broker = await startTestBroker();
  mill = await connect({ servers: broker.url });
  folder = await mkdtemp(join(tmpdir(), 'millrace-careless-'));
  await writeFile(
    join(folder, 'listens.ts'),
    `import { defineFunction } from 'millrace';
    export default defineFunction({ timeoutMs: 50, handler: ({ data }, { signal }) => {
      const fail = (what: string) => { throw new Error('thrown by ' + what); };
      if (data === 'listener') signal.addEventListener('abort', () => fail('a listener'));
      if (data === 'promise') signal.addEventListener('abort', async () => fail('a promise'));
      if (data === 'onabort') signal.onabort = () => fail('onabort');
      return new Promise(() => {});
    } });`,
  );
  await writeFile(
    join(folder, 'later.ts'),
    `import { defineFunction } from 'millrace';
    export default defineFunction({ handler: async () => {
      setTimeout(() => { throw new Error('thrown by a timer'); }, 50);
      await new Promise((resolve) => setTimeout(resolve, 300));
      return 'finished';
    } });`,
  );
});

afterAll(async () => {
  await mill.close();
  await broker.stop();
  await rm(folder, { recursive: true, force: true });
});

async function startWorker(): Promise<Command> {
  const worker = new Command(['worker', '--server', broker.url, '--functions', folder]);
  await worker.says('is ready');
  return worker;
}

describe('a worker whose user code throws', () => {
  it('in a listener on ctx.signal says whose it was, and lives', async () => {
    const worker = await startWorker();
    for (const what of ['listener', 'promise', 'onabort']) {
      await expect(mill.invoke('listens', what)).rejects.toMatchObject({ code: 'TIMEOUT' });
    }
    for (const what of ['a listener', 'a promise', 'onabort']) {
      await worker.says(`thrown by ${what}`);
    }
    const said = worker.stdout.split('\n').filter((line) => line.includes('thrown by'));
    expect(said.map((line) => JSON.parse(line) as object)).toMatchObject(
      said.map(() => ({ level: 50, function: 'listens' })),
    );
    expect(worker.ended).toBe(false);
    expect((await worker.end()).status).toBe(0);
  });

  it('where nobody can tell what is half done finishes what runs, and ends with status 1', async () => {
    const worker = await startWorker();
    expect(await mill.invoke('later')).toBe('finished');
    await until('it has ended', () => worker.ended);
    const { status, stdout } = await worker.finished;
    expect(status).toBe(1);
    expect(stdout).toContain('thrown by a timer');
  });
});
