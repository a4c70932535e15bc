import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { connect as connectNats } from 'nats';
import { connect, MillraceError, type Mill } from 'millrace';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { Command, millrace } from '../support/cli.ts';
import { until } from '../support/wait.ts';
import { isLong } from '../support/long.ts';

/** Longer than the setting `missedAfterMs` and a beat. */
const MISSED_MS = 5_000;

let broker: TestBroker;
let mill: Mill;
let scratch: string;
const commands: Command[] = [];
const callers: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  broker = await startTestBroker();
  mill = await connect({ servers: broker.url });
  scratch = await mkdtemp(join(tmpdir(), 'millrace-e2e-'));
});

afterEach(async () => {
  await Promise.all(callers.splice(0).map((stop) => stop()));
  await Promise.all(commands.splice(0).map((command) => command.end('SIGKILL')));
  await until('no worker is left', async () => (await workerCount()) === 0);
});

afterAll(async () => {
  await mill.close();
  await broker.stop();
  await rm(scratch, { recursive: true, force: true });
});

async function workerCount(): Promise<number> {
  try {
    return (await mill.inspect.workers()).length;
  } catch (error) {
    if (error instanceof MillraceError && error.code === 'UNAVAILABLE') return 0;
    throw error;
  }
}

async function startWorker(...flags: string[]): Promise<Command> {
  const command = new Command(['worker', '--server', broker.url, ...flags]);
  commands.push(command);
  await command.says('is ready');
  return command;
}

async function functionsFolder(files: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(scratch, 'functions-'));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(folder, name, '..'), { recursive: true });
    await writeFile(join(folder, name), text);
  }
  return folder;
}

async function calculations(): Promise<number> {
  const functions = await mill.inspect.functions();
  return functions.find(({ name }) => name === 'calculator')?.calls ?? 0;
}

/** Enough failures to give up at. */
const MANY = 100;

/** Calls without a pause, `lanes` at once, until told to stop; gives how many were answered and what failed. */
function keepCalling(lanes: number): () => Promise<{ answered: number; failed: unknown[] }> {
  const run = { stopped: false };
  let answered = 0;
  const failed: unknown[] = [];
  const lane = async (): Promise<void> => {
    while (!run.stopped && failed.length < MANY) {
      try {
        const { sum } = (await mill.invoke('calculator', { left: answered, right: 1 })) as {
          sum: number;
        };
        answered += Number.isInteger(sum) ? 1 : 0;
      } catch (error) {
        failed.push(error);
      }
    }
  };
  const running = Promise.all(Array.from({ length: lanes }, lane));
  const stop = async (): Promise<{ answered: number; failed: unknown[] }> => {
    run.stopped = true;
    await running;
    return { answered, failed };
  };
  callers.push(stop);
  return stop;
}

describe('workers as processes', () => {
  it('share the work; one that is killed is not noticed by callers', async () => {
    const [victim] = [await startWorker(), await startWorker()];
    await startWorker();
    await until('three workers are known', async () => (await workerCount()) === 3);
    const stop = keepCalling(64);
    await until('all of them have worked', async () => (await calculations()) > 1_000);
    victim.child.kill('SIGKILL');
    await until('inspect knows that it is gone', async () => (await workerCount()) === 2);
    const { answered, failed } = await stop();
    expect(failed).toEqual([]);
    expect(answered).toBeGreaterThan(1_000);
  });

  it('drain on SIGTERM without a failed call, and exit with status 0', async () => {
    const first = await startWorker();
    await startWorker();
    await until('two workers are known', async () => (await workerCount()) === 2);
    const stop = keepCalling(64);
    const ended = await first.end('SIGTERM');
    const added = await startWorker();
    await until('two workers are known again', async () => (await workerCount()) === 2);
    const { failed } = await stop();
    expect(failed).toEqual([]);
    expect(ended).toMatchObject({ status: 0, stderr: '' });
    expect(added.ended).toBe(false);
  });

  it('finish a slow invocation before they leave', async () => {
    const folder = await functionsFolder({
      'slow.ts': `import { defineFunction } from 'millrace';
        export default defineFunction({ handler: async (_, ctx) => {
          await ctx.emit('slow.started', 1);
          await new Promise((resolve) => setTimeout(resolve, 500));
          return 'finished';
        } });`,
    });
    const worker = await startWorker('--functions', folder);
    const call = mill.invoke('slow', 1, { retry: false });
    await until('it runs', async () => (await mill.inspect.functions())[0]?.pending === 1);
    expect((await worker.end('SIGTERM')).status).toBe(0);
    expect(await call).toBe('finished');
  });

  it('survive what user code does wrong outside of its handler', async () => {
    const folder = await functionsFolder({
      'careless.ts': `import { defineFunction } from 'millrace';
        export default defineFunction({ handler: () => {
          void Promise.reject(new Error('nobody handles this'));
          return 'answered';
        } });`,
    });
    const worker = await startWorker('--functions', folder);
    expect(await mill.invoke('careless')).toBe('answered');
    await worker.says('nobody handles this');
    expect(await mill.invoke('careless')).toBe('answered');
  });

  it('answer again after the broker was restarted, and no call in between fails', async () => {
    const worker = await startWorker();
    const stop = keepCalling(16);
    await until('it works', async () => (await calculations()) > 50);
    await broker.restart();
    expect(await mill.invoke('sum', { num1: 1, num2: 2 })).toBe(3);
    const { failed } = await stop();
    expect(failed).toEqual([]);
    expect(worker.ended).toBe(false);
  });
});

describe('a plain request of a function whose only worker was killed', () => {
  it('is answered UNAVAILABLE by another worker', async () => {
    const folder = await functionsFolder({
      'alone.ts': `import { defineFunction } from 'millrace';
        export default defineFunction({ handler: () => 'here' });`,
    });
    await startWorker();
    const only = await startWorker('--functions', folder);
    await until('two workers are known', async () => (await workerCount()) === 2);
    const nats = await connectNats({ servers: broker.url });
    // Each goes to one of both, too, as the one that looks after requests which nobody answers.
    for (let request = 0; request < 10; request += 1) {
      expect((await nats.request('millrace.fn.alone')).string()).toBe('"here"');
    }
    // By then the other one has asked for such a request whether the worker lives: the next one needs its own answer.
    await new Promise((done) => setTimeout(done, 150));
    only.child.kill('SIGKILL');
    await only.finished;
    const answer = await nats.request('millrace.fn.alone', '', { timeout: 5_000 });
    expect(answer.json()).toMatchObject({ error: { code: 'UNAVAILABLE', retryable: true } });
    await nats.close();
  });
});

describe('a worker that computes for longer than its beats may be missing', () => {
  it.runIf(isLong)(
    'runs the calls and the plain requests that come meanwhile, when it is done',
    async () => {
      const folder = await functionsFolder({
        'busy.ts': `import { defineFunction } from 'millrace';
        export default defineFunction({ handler: ({ data }) => {
          const end = Date.now() + Number(data);
          while (Date.now() < end);
        } });`,
        'quick.ts': `import { defineFunction } from 'millrace';
        export default defineFunction({ handler: () => 'here' });`,
      });
      await startWorker();
      await startWorker('--functions', folder);
      await until('two workers are known', async () => (await workerCount()) === 2);
      const nats = await connectNats({ servers: broker.url });
      const busy = mill.invoke('busy', MISSED_MS + 1_500);
      await delay(MISSED_MS);
      const request = nats.request('millrace.fn.quick', '', { timeout: 2 * MISSED_MS });
      expect(await mill.invoke('quick')).toBe('here');
      expect((await request).string()).toBe('"here"');
      await busy;
      await nats.close();
    },
  );
});

describe('a worker that is stopped and continued', () => {
  it.runIf(isLong)('keeps the calls it has, and gets no new ones once it is missed', async () => {
    const folder = await functionsFolder({
      'who.ts': `import { defineFunction } from 'millrace';
        export default defineFunction({ handler: ({ attempt }, ctx) =>
          ({ attempt, worker: ctx.invocation.worker }) });`,
    });
    const stopped = await startWorker('--functions', folder);
    await startWorker('--functions', folder);
    await mill.invoke('who');
    await until('two workers are known', async () => (await workerCount()) === 2);
    stopped.child.kill('SIGSTOP');
    const held = Promise.all(
      Array.from({ length: 30 }, () => mill.invoke('who', 1, { timeoutMs: 20_000 })),
    );
    // Looked at below; a failure before that must not count as one that nobody handled.
    held.catch(() => {});
    await until('the stopped one is shown as such', async () =>
      (await mill.inspect.workers()).some(
        ({ state, pid }) => state === 'unresponsive' && pid === null,
      ),
    );
    await delay(MISSED_MS);
    const other = (await mill.inspect.workers()).find(({ state }) => state === 'running');
    for (let call = 0; call < 20; call += 1) {
      expect(await mill.invoke('who')).toEqual({ attempt: 1, worker: other?.id });
    }
    stopped.child.kill('SIGCONT');
    const answers = (await held) as { attempt: number; worker: string }[];
    expect(answers.map(({ attempt }) => attempt)).toEqual(answers.map(() => 1));
    // One chance in 2^30 that none of them went to the stopped one.
    expect(new Set(answers.map(({ worker }) => worker)).size).toBe(2);
    await until('both run again', async () =>
      (await mill.inspect.workers()).every(({ state }) => state === 'running'),
    );
  });
});

describe('a broker that is killed', () => {
  it('and started again brings back every call, and nobody has to be started again', async () => {
    const own = await startTestBroker();
    const worker = new Command(['worker', '--server', own.url]);
    commands.push(worker);
    await worker.says('is ready');
    await using client = await connect({ servers: own.url });
    const call = (): Promise<unknown> => client.invoke('calculator', { left: 1, right: 1 });
    await call();
    const before = Array.from({ length: 500 }, call);
    process.kill(own.pid, 'SIGKILL');
    const during = Array.from({ length: 500 }, call);
    await own.restart();
    const answers = await Promise.all([...before, ...during]);
    expect(answers.every((answer) => (answer as { sum: number }).sum === 2)).toBe(true);
    expect(worker.ended).toBe(false);
    expect((await worker.end('SIGTERM')).status).toBe(0);
    await own.stop();
  });
});

describe('a worker refuses to start, with status 1 and one sentence,', () => {
  const define = (options: string): string =>
    `import { defineFunction } from 'millrace';\n\nexport default defineFunction({\n${options}\n});\n`;
  const cases: [string, Record<string, string>, RegExp][] = [
    ['a syntax error', { 'a.ts': 'export default {\n  x: \n};' }, /a\.ts:3: /],
    ['an import that is not there', { 'a.ts': "import './nope.ts';" }, /a\.ts:1: .*nope/],
    ['code that throws', { 'a.ts': "\nthrow new Error('at load');" }, /a\.ts:2: .*at load/],
    [
      'a name that is not legal',
      { 'a.ts': define("  name: 'a b', handler: () => 1") },
      /a\.ts:3: .*a b/,
    ],
    [
      'a subject that is not legal',
      { 'a.ts': define("  on: 'a..b', handler: () => 1") },
      /a\.ts:3: /,
    ],
    [
      'a subject of the platform',
      { 'a.ts': define("  on: 'millrace.fn.x', handler: () => 1") },
      /millrace\.fn\.x/,
    ],
    [
      'two functions of one name',
      { 'a/same.ts': define('  handler: () => 1'), 'b/same.ts': define('  handler: () => 2') },
      /b\/same\.ts.*a\/same\.ts|a\/same\.ts.*b\/same\.ts/s,
    ],
    ['an empty folder', {}, /no function/i],
  ];
  it.each(cases)('at %s', async (_, files, expected) => {
    const folder = await functionsFolder(files);
    const { status, stderr } = await millrace(
      'worker',
      '--server',
      broker.url,
      '--functions',
      folder,
    );
    expect(stderr).toMatch(expected);
    expect(stderr).not.toMatch(/^\s+at /m);
    expect(status).toBe(1);
  });

  it('at a server that does not answer', async () => {
    const { status, stderr } = await millrace('worker', '--server', 'nats://127.0.0.1:1');
    expect(stderr).toMatch(
      /No NATS server answers at nats:\/\/127\.0\.0\.1:1.*\[CONNECTION_FAILED\]/,
    );
    expect(status).toBe(1);
  });
});
