/** Deployed functions, with the command line and workers that are processes. */
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as natsConnect } from 'nats';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect, type Mill } from 'millrace';
import { openBus } from '../../src/client/client.ts';
import { packFile, compressFile } from '../../src/deploy/packed.ts';
import type { Deployed } from '../../src/deploy/records.ts';
import { Rollout } from '../../src/deploy/rollout.ts';
import { DeployStore } from '../../src/deploy/store.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { Command, type Finished } from '../support/cli.ts';
import { until } from '../support/wait.ts';
import { isLong } from '../support/long.ts';

let broker: TestBroker;
let mill: Mill;
let folder: string;
let workers: Command[];

beforeEach(async () => {
  broker = await startTestBroker();
  mill = await connect({ servers: broker.url });
  folder = await mkdtemp(join(tmpdir(), 'millrace-deploy-test-'));
  await mkdir(join(folder, 'functions'));
  await mkdir(join(folder, 'work'));
  workers = [];
});

afterEach(async () => {
  await mill.close();
  await Promise.all(workers.map(async (worker) => worker.end()));
  await broker.stop();
  await rm(folder, { recursive: true, force: true });
});

/** A worker in an empty folder: it has what is deployed and nothing else. */
async function startWorker(env: NodeJS.ProcessEnv = {}): Promise<Command> {
  const options = { cwd: join(folder, 'work'), env };
  const worker = new Command(['worker', '--server', broker.url], options);
  workers.push(worker);
  await worker.says('is ready');
  return worker;
}

async function run(...words: string[]): Promise<Finished> {
  return new Command([...words, '--server', broker.url], { cwd: folder }).finished;
}

async function deploy(...flags: string[]): Promise<Finished> {
  const finished = await run('deploy', ...flags);
  expect(finished.stderr).toBe('');
  expect(finished.status).toBe(0);
  return finished;
}

async function write(name: string, options: string, before = ''): Promise<void> {
  const source = `import { defineFunction } from 'millrace';\n${before}\nexport default defineFunction({ ${options} });\n`;
  await writeFile(join(folder, 'functions', name), source);
}

const versionOf = async (name: string): Promise<string | undefined> =>
  (await mill.deploys.list()).find((each) => each.name === name)?.version;

describe('a deploy', () => {
  it('changes functions under load: no call fails, what is under way ends as it began, events happen once', async () => {
    const count = (version: number): string =>
      `on: 'deploy.count', handler: async (event, ctx) => {
        const state = ctx.state('counts');
        await state.set('n', ((await state.get('n')) ?? 0) + 1);
        return ${version};
      }`;
    const slow = (version: number): string =>
      `handler: async () => { await new Promise((done) => setTimeout(done, 1500)); return ${version}; }`;
    await write('count.ts', count(1));
    await write('slow.ts', slow(1));
    await deploy();
    await Promise.all([startWorker(), startWorker()]);
    const seen = new Set<unknown>();
    const failures: unknown[] = [];
    let counted = 0;
    const over = new AbortController();
    const load = Array.from({ length: 4 }, async () => {
      while (!over.signal.aborted) {
        try {
          seen.add(await mill.invoke('count', {}));
          await mill.publish('deploy.count', {});
          counted += 2;
        } catch (error) {
          failures.push(error);
        }
      }
    });
    await until('the first version answers', () => seen.has(1));
    for (let version = 2; version <= 4; version += 1) {
      const before = mill.invoke('slow', {});
      // It has to have begun before the switch.
      await until('the slow one runs', async () =>
        (await mill.inspect.functions()).some(
          ({ name, pending }) => name === 'slow' && pending > 0,
        ),
      );
      await write('count.ts', count(version));
      await write('slow.ts', slow(version));
      const { stdout } = await deploy();
      expect(stdout).toContain('deployed 2 functions on 2 workers');
      expect(await mill.invoke('count', {})).toBe(version);
      counted += 1;
      expect(await before).toBe(version - 1);
    }
    over.abort();
    await Promise.all(load);
    expect(failures).toEqual([]);
    expect([...seen].sort((a, b) => Number(a) - Number(b))).toEqual([1, 2, 3, 4]);
    await until('all events are handled', async () => {
      const { value } = await mill.inspect.state('counts', 'n');
      return value === counted;
    });
  });

  it.runIf(isLong)(
    'goes on with waiting events and state of the version before, also when it was removed between',
    async () => {
      await write(
        'sum.ts',
        `name: 'total', on: 'deploy.add', handler: async ({ data }, ctx) => {
      const state = ctx.state('totals'); await state.set('all', ((await state.get('all')) ?? 0) + data); }`,
      );
      await deploy();
      await startWorker();
      await mill.publish('deploy.add', 1);
      await until(
        'it is added',
        async () => (await mill.inspect.list('totals')).items[0]?.value === 1,
      );
      expect((await run('remove', 'total')).status).toBe(0);
      expect(await mill.inspect.functions()).toEqual([]);
      await mill.publish('deploy.add', 10);
      await write(
        'sum.ts',
        `name: 'total', on: 'deploy.add', handler: async ({ data }, ctx) => {
      const state = ctx.state('totals'); await state.set('all', ((await state.get('all')) ?? 0) + data * 100); }`,
      );
      await deploy();
      await until(
        'the event that waited is added',
        async () => (await mill.inspect.state('totals', 'all')).value === 1_001,
      );
    },
  );

  it('bundles what functions import, and functions that call each other by their definitions', async () => {
    const modules = join(folder, 'node_modules', 'plain-adder');
    await mkdir(modules, { recursive: true });
    await writeFile(join(modules, 'package.json'), '{"name":"plain-adder","main":"index.js"}');
    await writeFile(
      join(modules, 'index.js'),
      'module.exports = { add: (a, b) => a + b, where: __dirname };',
    );
    await write(
      'add.ts',
      'handler: ({ data }) => adder.add(data.a, data.b)',
      "import adder from 'plain-adder';",
    );
    await write(
      'four.mjs',
      'handler: (_, ctx) => ctx.invoke(add, { a: 2, b: 2 })',
      "import add from './add.ts';",
    );
    await write(
      'alone.ts',
      "isolation: 'thread', handler: (_, ctx) => ctx.invoke(add, { a: 4, b: 4 })",
      "import add from './add.ts';",
    );
    await deploy();
    await rm(join(folder, 'node_modules'), { recursive: true });
    await startWorker();
    expect(await mill.invoke('four')).toBe(4);
    expect(await mill.invoke('alone')).toBe(8);
  });

  it('says where it has failed in the sources', async () => {
    await write('fails.ts', "handler: () => { throw new Error('out of tea'); }", '\n\n');
    await deploy();
    const worker = await startWorker();
    await expect(mill.invoke('fails')).rejects.toMatchObject({
      message: 'fails failed: out of tea',
    });
    await worker.says('functions/fails.ts:5');
  });
});

describe('a deploy that is refused changes nothing', () => {
  beforeEach(async () => {
    await write('sum.ts', 'handler: () => 1');
    await deploy();
  });

  async function refused(code: string, ...words: string[]): Promise<string> {
    const before = await mill.deploys.list();
    const { status, stderr } = await run(...words);
    expect(stderr).toMatch(new RegExp(`^millrace: .*\\[${code}\\]\\n$`));
    expect(status).toBe(1);
    expect(await mill.deploys.list()).toEqual(before);
    return stderr;
  }

  it.runIf(isLong)(
    'where code throws while it loads, ends the process, or is no function',
    async () => {
      await write('sum.ts', 'handler: () => 2');
      await write('bad.ts', 'handler: () => 2', "throw new Error('boom');");
      expect(await refused('FUNCTION_LOAD_FAILED', 'deploy')).toContain(
        'functions/bad.ts: throws while it is loaded: boom',
      );
      await write('bad.ts', 'handler: () => 2', 'process.exit(0);');
      expect(await refused('FUNCTION_LOAD_FAILED', 'deploy')).toContain('ended the process');
      await write('bad.ts', "on: 'millrace.fn.x', handler: () => 2");
      expect(await refused('FUNCTION_LOAD_FAILED', 'deploy')).toContain(
        'functions/bad.ts: the subject',
      );
      await writeFile(join(folder, 'functions', 'bad.ts'), 'export default 5;');
      expect(await refused('FUNCTION_LOAD_FAILED', 'deploy')).toContain(
        'no default export made by defineFunction',
      );
      await writeFile(join(folder, 'functions', 'bad.ts'), 'export default {;');
      expect(await refused('FUNCTION_LOAD_FAILED', 'deploy')).toContain('functions/bad.ts:1');
      await write('bad.ts', "name: 'sum', handler: () => 2");
      expect(await refused('FUNCTION_LOAD_FAILED', 'deploy')).toContain(
        'another function named sum',
      );
    },
  );

  it.runIf(isLong)('where it is too large, or native', async () => {
    await write(
      'sum.ts',
      `handler: () => text.length`,
      `const text = '${'x'.repeat(9 * 1024 * 1024)}';`,
    );
    expect(await refused('PAYLOAD_TOO_LARGE', 'deploy')).toContain('functions/sum.ts has');
    await write('sum.ts', 'handler: () => native', "import native from './thing.node';");
    expect(await refused('FUNCTION_LOAD_FAILED', 'deploy')).toContain('native add-on');
    // As native packages of npm do it; one that can do without is bundled.
    const modules = join(folder, 'node_modules');
    for (const [name, code] of [
      ['hard', "module.exports = require('bindings')('hard');"],
      [
        'soft',
        "try { module.exports = require('node-gyp-build')(__dirname); } catch { module.exports = 7; }",
      ],
    ] as const) {
      await mkdir(join(modules, name), { recursive: true });
      await writeFile(join(modules, name, 'index.js'), code);
    }
    await write('sum.ts', 'handler: () => native', "import native from 'hard';");
    expect(await refused('FUNCTION_LOAD_FAILED', 'deploy')).toContain('hard has a native add-on');
    await write('sum.ts', 'handler: () => native', "import native from 'soft';");
    await startWorker();
    await deploy();
    expect(await mill.invoke('sum')).toBe(7);
  });

  it('where one of the workers cannot load it', async () => {
    await startWorker();
    await startWorker({ MILLRACE_TEST_BREAK: '1' });
    const fragile =
      "if (process.env['MILLRACE_TEST_BREAK']) throw new Error('not on this machine');";
    await write('sum.ts', 'handler: () => 2', fragile);
    expect(await refused('FUNCTION_LOAD_FAILED', 'deploy')).toContain(
      'not on this machine; nothing was changed',
    );
    expect(await mill.invoke('sum')).toBe(1);
  });

  it.runIf(isLong)('to nowhere', async () => {
    expect(await refused('NOT_FOUND', 'rollback', 'sum')).toContain('no version before');
    await refused('NOT_FOUND', 'rollback', 'sum', '123456');
    await refused('NOT_FOUND', 'rollback', 'other');
    await refused('NOT_FOUND', 'promote', 'sum');
    await refused('NOT_FOUND', 'remove', 'other');
    await refused('NOT_FOUND', 'versions', 'other');
    expect((await run('deploy', '--canary', '100%')).status).toBe(2);
  });

  it('while somebody else deploys: one wins, the other is told', async () => {
    const { bus, settings } = await openBus({ servers: broker.url }, 'test');
    try {
      const store = await DeployStore.open(bus, settings);
      const before = await store.manifest();
      const at = new Date().toISOString();
      const change = async (by: string): Promise<unknown> => {
        const deployed: Deployed = { ...(before.value.functions.get('sum') as Deployed), by, at };
        return new Rollout(bus, settings, store, by).change(before, [['sum', deployed]]);
      };
      const outcomes = await Promise.allSettled([change('ann'), change('bob'), change('eve')]);
      const lost = outcomes.filter(({ status }) => status === 'rejected');
      expect(lost.map((each) => (each as PromiseRejectedResult).reason)).toEqual([
        expect.objectContaining({ code: 'DEPLOY_CONFLICT' }),
        expect.objectContaining({ code: 'DEPLOY_CONFLICT' }),
      ]);
    } finally {
      await bus.close();
    }
  });
});

describe('in the middle of a deploy', () => {
  /** A worker that takes its time to load the second version, and says when it begins. */
  async function loading(): Promise<{ worker: Command; deploying: Command }> {
    await write('sum.ts', 'handler: () => 1');
    await deploy();
    const worker = await startWorker({ MILLRACE_TEST_SLOW: '1' });
    const slow =
      "if (process.env['MILLRACE_TEST_SLOW']) { console.log('loads the second'); await new Promise((done) => setTimeout(done, 1_500)); }";
    await write('sum.ts', 'handler: () => 2', slow);
    const deploying = new Command(['deploy', '--server', broker.url], { cwd: folder });
    await worker.says('loads the second');
    return { worker, deploying };
  }

  it.runIf(isLong)(
    'whoever deploys may die: nothing has changed, and the next one deploys',
    async () => {
      const { deploying } = await loading();
      const before = await versionOf('sum');
      deploying.child.kill('SIGKILL');
      await deploying.finished;
      expect([await mill.invoke('sum'), await versionOf('sum')]).toEqual([1, before]);
      await deploy();
      expect(await mill.invoke('sum')).toBe(2);
    },
    60_000,
  );

  it.runIf(isLong)(
    'a worker may die: it is not waited for, and the others switch',
    async () => {
      await startWorker();
      const { worker, deploying } = await loading();
      worker.child.kill('SIGKILL');
      const { status, stderr } = await deploying.finished;
      expect([status, stderr]).toEqual([0, '']);
      expect(await mill.invoke('sum')).toBe(2);
    },
    60_000,
  );

  it.runIf(isLong)(
    'the broker may be away: the deploy says that nothing was changed, or what is',
    async () => {
      const { deploying } = await loading();
      await broker.restart();
      const { status, stderr } = await deploying.finished;
      expect([status, stderr]).toEqual([1, expect.stringContaining('[UNAVAILABLE]')]);
      expect(await until('it is back', async () => mill.invoke('sum').catch(() => 0))).toBe(1);
      await deploy();
      expect(await mill.invoke('sum')).toBe(2);
    },
    60_000,
  );
});

describe('workers', () => {
  it('that start later run what is deployed, and check what they load', async () => {
    await write('sum.ts', 'handler: () => 1');
    await deploy();
    const good = await startWorker();
    expect(await mill.invoke('sum')).toBe(1);
    await good.end();
    // Somebody writes to the object store: the name of a file says what is in it.
    const [{ hash } = { hash: '' }] = await filesOf('sum');
    const nats = await natsConnect({ servers: broker.url });
    const objects = await nats.jetstream().views.os('millrace-deploys');
    const forged = packFile({ code: Buffer.from('export default 1;'), map: Buffer.alloc(0) });
    await objects.putBlob({ name: hash }, await compressFile(forged));
    await nats.close();
    // What is on the disk is still what it should be.
    const cached = await startWorker();
    expect(await mill.invoke('sum')).toBe(1);
    await cached.end();
    await rm(join(folder, 'work', '.millrace'), { recursive: true });
    const worker = await startWorker();
    await worker.says('is damaged');
    expect(await mill.inspect.functions()).toEqual([]);
    expect(await readdir(join(folder, 'work', '.millrace', 'deployed'))).not.toContain('sum_ts');
  });

  it('leave what a newer version has deployed as it is, and say so', async () => {
    await write('one.ts', 'handler: () => 1');
    await deploy();
    const running = await startWorker();
    const nats = await natsConnect({ servers: broker.url });
    const bucket = await nats.jetstream().views.kv('millrace-deployments');
    const newer = JSON.stringify({ format: 99, generation: 9 });
    const revision = await bucket.put('manifest', Buffer.from(newer));

    const told = /^.*The manifest of deployed functions is of format 99, .*\[NEWER_VERSION\]\n$/;
    const starting = new Command(['worker', '--server', broker.url], { cwd: join(folder, 'work') });
    expect(await starting.finished).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(told) as string,
    });
    for (const words of [['deploy'], ['rollback', 'one']]) {
      expect(await run(...words)).toMatchObject({
        status: 1,
        stderr: expect.stringMatching(told) as string,
      });
    }
    await running.says('what is deployed is not followed any more');
    expect(await mill.invoke('one', {})).toBe(1);
    expect((await bucket.get('manifest'))?.revision).toBe(revision);
    await nats.close();
  });

  it('mend a file that was cut short, or changed, on their disk', async () => {
    await write('sum.ts', 'handler: () => 1');
    await deploy();
    await (await startWorker()).end();
    const directory = join(folder, 'work', '.millrace', 'deployed');
    for (const { path } of await filesOf('sum'))
      await writeFile(join(directory, path), 'export default');
    await startWorker();
    expect(await mill.invoke('sum')).toBe(1);
  });

  it.runIf(isLong)('see what they were not told of', async () => {
    await write('sum.ts', 'handler: () => 1');
    await deploy();
    const worker = await startWorker();
    worker.child.kill('SIGSTOP');
    try {
      await write('sum.ts', 'handler: () => 2');
      await deploy();
    } finally {
      worker.child.kill('SIGCONT');
    }
    await until('it runs the new version', async () => (await mill.invoke('sum')) === 2, 20_000);
    expect(await mill.deploys.list()).toHaveLength(1);
  });

  it.runIf(isLong)(
    'have a folder of their own, too; of two of the same name they run the deployed one, or with --local the other',
    async () => {
      await write('sum.ts', "handler: () => 'deployed'");
      await deploy();
      await write('sum.ts', "handler: () => 'own'");
      await write('more.ts', "handler: () => 'more'");
      const start = async (...flags: string[]): Promise<Command> => {
        const words = ['worker', '--server', broker.url, '--functions', 'functions', ...flags];
        const worker = new Command(words, { cwd: folder });
        workers.push(worker);
        await worker.says('is ready');
        return worker;
      };
      const worker = await start();
      expect([await mill.invoke('sum'), await mill.invoke('more')]).toEqual(['deployed', 'more']);
      await worker.end();
      await start('--local');
      expect(await mill.invoke('sum')).toBe('own');
      await rm(join(folder, 'functions', 'more.ts'));
      await write('sum.ts', "handler: () => 'deployed again'");
      expect((await deploy()).stdout).toContain(
        '1 worker runs the version of its own folder of: sum',
      );
    },
  );

  async function filesOf(name: string): Promise<{ path: string; hash: string }[]> {
    const { bus, settings } = await openBus({ servers: broker.url }, 'test');
    const store = await DeployStore.open(bus, settings);
    const { files } = await store.version(name, (await versionOf(name)) ?? '');
    await bus.close();
    return files;
  }
});

describe('a canary', () => {
  const handler = (body: string): string =>
    `on: 'deploy.canary', retries: { minDelayMs: 10 }, handler: async (event, ctx) => { ${body} }`;
  const good = "await ctx.state('seen').set(event.id, true); return 'good';";

  it.runIf(isLong)('gets its share, and is promoted, or taken back', async () => {
    await write('work.ts', handler("return 'first'"));
    await deploy();
    await Promise.all([startWorker(), startWorker()]);
    await write('work.ts', handler("return 'second'"));
    expect((await deploy('--canary', '25%')).stdout).toContain('canary');
    const answers = await Promise.all(
      Array.from({ length: 400 }, async () => mill.invoke('work', {})),
    );
    const share = answers.filter((answer) => answer === 'second').length;
    expect(share).toBeGreaterThan(50);
    expect(share).toBeLessThan(150);
    const { canary, calls } = (await mill.inspect.functions())[0] ?? {};
    expect({ calls, canary }).toMatchObject({
      calls: 400,
      canary: { calls: share, errors: 0, share: 0.25, stable: { calls: 400 - share, errors: 0 } },
    });
    expect((await run('rollback', 'work')).stdout).toContain('on 2 workers');
    expect(
      new Set(await Promise.all(Array.from({ length: 50 }, async () => mill.invoke('work', {})))),
    ).toEqual(new Set(['first']));
    await deploy('--canary', '25%');
    expect((await run('promote', 'work')).stdout).toContain('on 2 workers');
    expect(
      new Set(await Promise.all(Array.from({ length: 50 }, async () => mill.invoke('work', {})))),
    ).toEqual(new Set(['second']));
    expect((await mill.deploys.versions('work')).map(({ state }) => state)).toEqual([
      'running',
      'previous',
    ]);
  });

  it.runIf(isLong)(
    'is taken back by itself when it fails more often, and its events are handled all the same',
    async () => {
      await write('work.ts', handler(good));
      await deploy();
      await Promise.all([startWorker(), startWorker()]);
      await write('work.ts', handler("throw new Error('no')"));
      await deploy('--canary', '20%');
      const ids = Array.from({ length: 200 }, (_, index) => `event-${index}`);
      for (const id of ids) await mill.publish('deploy.canary', {}, { id });
      await until(
        'it is taken back',
        async () => (await mill.deploys.list())[0]?.canary === undefined,
        20_000,
      );
      const [{ takenBack, version } = { takenBack: undefined, version: '' }] =
        await mill.deploys.list();
      expect(takenBack?.why).toMatch(/^\d+ of \d+ calls failed/);
      expect(takenBack?.version).not.toBe(version);
      await until(
        'all events are handled',
        async () => (await mill.inspect.list('seen', { limit: 1_000 })).items.length === ids.length,
        20_000,
      );
      expect(await mill.dead.list()).toEqual([]);
      expect(await mill.invoke('work', {})).toBe('good');
    },
  );

  it('is refused where it could not run beside the other version', async () => {
    await write('work.ts', handler(good));
    await deploy();
    await write('work.ts', "on: 'deploy.elsewhere', handler: () => 1");
    const { stderr, status } = await run('deploy', '--canary', '10%');
    expect(stderr).toContain('cannot run as a canary');
    expect(status).toBe(1);
  });
});
