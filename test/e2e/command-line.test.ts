import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { defineFunction } from 'millrace';
import { findBroker } from '../../src/broker/index.ts';
import { freePort } from '../../src/broker/port.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { Command, millrace } from '../support/cli.ts';
import { startTestWorker } from '../support/worker.ts';
import { isAlive } from '../support/processes.ts';
import { until } from '../support/wait.ts';
import { isLong } from '../support/long.ts';

let scratch: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'millrace-cli-'));
});
afterAll(async () => {
  await rm(scratch, { recursive: true, force: true });
});

describe('the command line', () => {
  let broker: TestBroker;
  let worker: Command;
  beforeAll(async () => {
    broker = await startTestBroker();
    worker = new Command(['worker', '--server', broker.url]);
    await worker.says('is ready');
  });
  afterAll(async () => {
    await worker.end();
    await broker.stop();
  });
  const run = (...commandLine: string[]): ReturnType<typeof millrace> =>
    millrace(...commandLine, '--server', broker.url);

  it('invokes a function and prints its result', async () => {
    const { status, stdout, stderr } = await run('invoke', 'sum', '{"num1":1,"num2":2}');
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '3\n', stderr: '' });
  });

  it('prints a result as JSON', async () => {
    const { status, stdout } = await run('invoke', 'sum', '{"num1":1,"num2":2}', '--json');
    expect({ status, stdout }).toEqual({ status: 0, stdout: '3\n' });
  });

  it('prints bytes as they are, and as base64 with --json', async () => {
    const bytes = Buffer.from([0, 255, 10, 128]);
    const own = await startTestWorker(broker.url, [
      defineFunction({ name: 'bytes', handler: () => bytes }),
    ]);
    const raw = new Command(['invoke', 'bytes', '--server', broker.url]);
    const chunks: Buffer[] = [];
    raw.child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
    expect((await raw.finished).status).toBe(0);
    expect(Buffer.concat(chunks)).toEqual(bytes);
    const { stdout } = await run('invoke', 'bytes', '--json');
    expect(JSON.parse(stdout)).toEqual({ base64: bytes.toString('base64') });
    await own.stop();
  });

  it('ends quietly when nobody reads its output to the end', async () => {
    const command = new Command(['inspect', 'functions', '--server', broker.url]);
    command.child.stdout?.destroy();
    expect(await command.finished).toMatchObject({ status: 0, stderr: '' });
  });

  it('reads data from standard input', async () => {
    const command = new Command(['invoke', 'sum', '-', '--server', broker.url], {
      stdin: '{"num1":20,"num2":22}',
    });
    expect(await command.finished).toMatchObject({ status: 0, stdout: '42\n' });
  });

  it('takes the server from NATS_URL', async () => {
    const command = new Command(['invoke', 'sum', '{"num1":1,"num2":1}'], {
      env: { NATS_URL: broker.url },
    });
    expect(await command.finished).toMatchObject({ status: 0, stdout: '2\n' });
  });

  it('publishes an event that runs a function', async () => {
    const { status, stdout } = await run(
      'publish',
      'calc.sum',
      '{"num1":5,"num2":5}',
      '--id',
      'e1',
    );
    expect({ status, stdout }).toEqual({ status: 0, stdout: 'published e1 on calc.sum\n' });
    await until('it has run', async () => {
      const { stdout: json } = await run('inspect', 'functions', '--json');
      const { functions } = JSON.parse(json) as {
        functions: { name: string; subjects: Record<string, number> }[];
      };
      return functions.find(({ name }) => name === 'sum')?.subjects['calc.sum'] === 1;
    });
  });

  it('publishes an event later', async () => {
    const began = Date.now();
    const data = '{"num1":5,"num2":5}';
    const { status, stdout } = await run(
      'publish',
      'calc.sum',
      data,
      '--id',
      'e2',
      '--delay',
      '1s',
    );
    const told = 'stored e2 in millrace-later as number 1\n';
    expect({ status, stdout }).toEqual({ status: 0, stdout: told });
    await until('it has run', async () => {
      const { stdout: json } = await run('inspect', 'functions', '--json');
      return json.includes('"calc.sum":2');
    });
    expect(Date.now() - began).toBeGreaterThan(1_000);
  });

  it('shows workers and functions as tables, and as JSON on demand', async () => {
    const workers = await run('inspect', 'workers');
    expect(workers.stdout).toMatch(/^WORKER +STATE +PID/);
    expect(workers.stdout).toContain(String(worker.child.pid));
    const json = JSON.parse((await run('inspect', 'workers', '--json')).stdout) as object;
    expect(json).toMatchObject({
      workers: [
        {
          pid: worker.child.pid,
          state: 'running',
          functions: [
            'open',
            'total',
            'transfer',
            'calculator',
            'sum',
            'github-tally',
            'github-webhook',
            'charge',
            'outage',
            'place-order',
            'ship',
            'add-flight',
            'add-hotel',
            'book-trip',
            'cancel-trip',
            'reserve-room',
            'reserve-seat',
          ],
          partitions: Array.from({ length: 8 }, (_, id) => id),
        },
      ],
    });
    expect((await run('inspect', 'functions')).stdout).toMatch(/sum +[0-9a-f]{12} +calc\.sum/);
  });

  it('measures a function', async () => {
    const { status, stdout } = await run(
      'bench',
      'sum',
      '{"num1":1,"num2":2}',
      '--seconds',
      '1',
      '--json',
    );
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ function: 'sum', concurrency: 64, errors: 0 });
  });

  it('ends with status 1 and one sentence with the code for a failure', async () => {
    const { status, stdout, stderr } = await run('invoke', 'sum', '{"num1":"x","num2":2}');
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/^millrace: .*num1.* \[INVALID_INPUT\]\n$/);
    const verbose = await run('invoke', 'sum', '{"num1":"x","num2":2}', '--verbose');
    expect(verbose.stderr).toMatch(/\n\s+at /);
  });

  const wrong: [string, string[]][] = [
    ['an unknown command', ['nonsense']],
    ['help on an unknown command', ['help', 'nonsense']],
    ['an unknown command with --help', ['nonsense', '--help']],
    ['an unknown flag', ['invoke', 'sum', '--nonsense']],
    ['a missing argument', ['invoke']],
    ['data that is not JSON', ['invoke', 'sum', '{']],
    ['something that cannot be inspected', ['inspect', 'nonsense']],
    ['a number out of range', ['worker', '--concurrency', '0']],
    ['a log level that does not exist', ['worker', '--log-level', 'loud']],
    ['an empty server', ['invoke', 'sum', '--server', '']],
    ['an empty one of several servers', ['invoke', 'sum', '--server', 'nats://127.0.0.1:4222,']],
    ['a namespace that is not legal', ['inspect', 'workers', '--namespace', 'a b']],
    ['an empty id', ['invoke', 'sum', '--id', '']],
    ['an empty folder name', ['worker', '--functions', '']],
    ['a header without a value', ['publish', 'a.b', '--header', 'x']],
    ['a delay without a unit', ['publish', 'a.b', '--delay', '5']],
    ['a delay of more than a year', ['publish', 'a.b', '--delay', '400d']],
    ['a time without a zone', ['publish', 'a.b', '--at', '2026-12-24T18:00:00']],
    ['a time and a delay', ['publish', 'a.b', '--delay', '5s', '--at', '2026-12-24T18:00:00Z']],
    ['a server that is no URL', ['invoke', 'sum', '--server', 'nats://127.0.0.1:99999']],
    ['a server that is no NATS server', ['worker', '--server', 'http://127.0.0.1:4222']],
    ['a server whose user is missing', ['dev', '--server', 'nats://:secret@127.0.0.1']],
    ['a credentials file that is not there', ['invoke', 'sum', '--creds', 'nowhere.creds']],
    ['a settings file that is not there', ['invoke', 'sum', '--config', 'nowhere.json']],
  ];
  it.each(wrong)('ends with status 2 for %s', async (_, commandLine) => {
    const { status, stdout, stderr } = await millrace(...commandLine);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(/^millrace: [^\n]+ \[USAGE\]\n$/);
  });

  it('ends with status 2 for wrong usage though nobody reads the sentence', async () => {
    const command = new Command(['help', 'nonsense']);
    command.child.stderr?.destroy();
    expect((await command.finished).status).toBe(2);
  });

  it.each(['{"concurrency":0}', '{"nonsense":1}', '7', '{'])(
    'names the settings file that holds %s',
    async (text) => {
      const file = join(scratch, 'settings.json');
      await writeFile(file, text);
      for (const command of [['invoke', 'sum'], ['worker'], ['dev']]) {
        const { status, stderr } = await millrace(...command, '--config', file);
        expect(status).toBe(2);
        expect(stderr).toContain(file);
      }
    },
  );

  it('does not show the password of a server', async () => {
    const url = broker.url.replace('//', '//alice:secret@');
    for (const server of [url, 'nats://alice:secret@127.0.0.1:99999', 'ws://alice:secret@a']) {
      const { stdout, stderr } = await millrace('invoke', 'nonsense', '--server', server);
      expect(stdout + stderr).not.toContain('secret');
    }
    const dev = new Command(['dev', '--server', url, '--workers', '1']);
    await dev.says(`millrace listens at ${url.replace('secret', '***')}`);
    const { stdout, stderr } = await dev.end('SIGINT');
    expect(stdout + stderr).not.toContain('secret');
  });

  it('says which function was probably meant', async () => {
    const { status, stderr } = await run('invoke', 'calculater');
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /^millrace: [^\n]*did you mean calculator\?\)\. \[UNKNOWN_FUNCTION\]\n$/,
    );
    expect((await run('invoke', 'something-else')).stderr).toContain('inspect functions');
  });

  it('shows the help, and then what is wrong, without a command', async () => {
    const { status, stdout, stderr } = await millrace();
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(/^Usage: millrace[^]*\nmillrace: [^\n]+ \[USAGE\]\n$/);
  });

  it('says every error in one line; as many as it has only with --verbose', async () => {
    const folder = await mkdtemp(join(scratch, 'broken-'));
    for (const name of ['a.ts', 'b.ts']) await writeFile(join(folder, name), 'export default {');
    const { status, stderr } = await run('worker', '--functions', folder);
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /^millrace: [^\n]*a\.ts:1: [^\n]*b\.ts:1: [^\n]* \[FUNCTION_LOAD_FAILED\]\n$/,
    );
    const verbose = await run('worker', '--functions', folder, '--verbose');
    expect(verbose.stderr.split('\n').length).toBeGreaterThan(3);
  });

  it('takes an empty NATS_URL as one that is not set', async () => {
    const { stderr } = await new Command(['invoke', 'sum', '--timeout', '1'], {
      env: { NATS_URL: '', NATS_CREDS: ' ' },
    }).finished;
    expect(stderr).not.toContain('[USAGE]');
  });

  it('explains itself', async () => {
    for (const commandLine of [['--help'], ['worker', '--help'], ['dev', '--help']]) {
      const { status, stdout } = await millrace(...commandLine);
      expect(status).toBe(0);
      expect(stdout).toContain('Usage: millrace');
    }
  });
});

describe('millrace dev', () => {
  const hello = (text: string): string =>
    `import { defineFunction } from 'millrace';\nexport default defineFunction({ name: 'hello', handler: () => '${text}' });\n`;

  async function startDev(): Promise<{ dev: Command; url: string; file: string; store: string }> {
    const folder = await mkdtemp(join(scratch, 'functions-'));
    const file = join(folder, 'hello.ts');
    await writeFile(file, hello('one'));
    const port = await freePort(0);
    const store = await mkdtemp(join(scratch, 'store-'));
    const flags = ['--port', String(port), '--store', store, '--functions', folder];
    const dev = new Command(['dev', ...flags]);
    await dev.says('millrace listens at');
    return { dev, url: `nats://127.0.0.1:${port}`, file, store };
  }
  const ask = async (url: string): Promise<string> =>
    (await millrace('invoke', 'hello', '--server', url)).stdout.trim();

  it('runs functions, reloads an edit, keeps the old version at a broken one, and stops all at Ctrl-C', async () => {
    const { dev, url, file, store } = await startDev();
    expect(await ask(url)).toBe('"one"');

    await writeFile(file, hello('two'));
    await dev.says('reloaded: hello');
    expect(await ask(url)).toBe('"two"');

    await writeFile(file, 'export default {\n');
    await dev.says('not reloaded, the old version keeps running');
    expect(dev.stderr).toMatch(/hello\.ts:\d+: /);
    expect(await ask(url)).toBe('"two"');

    await writeFile(file, hello('three'));
    await until('the mended file is loaded', async () => (await ask(url)) === '"three"');

    const workers = JSON.parse(
      (await millrace('inspect', 'workers', '--json', '--server', url)).stdout,
    ) as {
      workers: { pid: number }[];
    };
    const pids = workers.workers.map(({ pid }) => pid);
    expect(pids).toHaveLength(2);
    const brokerPid = Number.parseInt(
      await readFile(join(store, 'broker.pid'), 'utf8').then(pidIn),
      10,
    );
    expect((await dev.end('SIGINT')).status).toBe(0);
    for (const pid of [...pids, brokerPid]) {
      await until(`process ${pid} is gone`, () => !isAlive(pid));
    }
  });

  it.runIf(isLong)(
    'starts a killed worker again, and ends all of them when it is killed itself',
    async () => {
      const { dev, url } = await startDev();
      const list = async (): Promise<number[]> => {
        const { stdout } = await millrace('inspect', 'workers', '--json', '--server', url);
        const { workers } = JSON.parse(stdout || '{"workers":[]}') as {
          workers: { pid: number }[];
        };
        return workers.map(({ pid }) => pid);
      };
      const [victim = 0, ...rest] = await list();
      expect(rest).toHaveLength(1);
      expect(victim).toBeGreaterThan(0);
      process.kill(victim, 'SIGKILL');
      const pids = await until('two others run', async () => {
        const now = await list();
        return now.length === 2 && !now.includes(victim) && now;
      });
      await dev.end('SIGKILL');
      for (const pid of pids) await until(`worker ${pid} is gone`, () => !isAlive(pid));
    },
    90_000,
  );

  it('refuses a port that is in use', async () => {
    const broker = await startTestBroker();
    const store = await mkdtemp(join(scratch, 'store-'));
    const { status, stderr } = await millrace(
      'dev',
      '--port',
      String(broker.port),
      '--store',
      store,
    );
    expect(stderr).toMatch(/^millrace: .*\[BROKER_PORT_BUSY\]\n$/);
    expect(status).toBe(1);
    await broker.stop();
  });

  it('starts no broker where a server is given', async () => {
    const broker = await startTestBroker();
    const dev = new Command(['dev', '--server', broker.url, '--workers', '1']);
    await dev.says(`millrace listens at ${broker.url}`);
    expect(dev.stdout).not.toContain('nats-server');
    expect((await dev.end('SIGINT')).status).toBe(0);
    await broker.stop();
  });
});

function pidIn(lock: string): string {
  return /\d+/.exec(lock)?.[0] ?? '';
}

it('the tests use the nats-server that users get', async () => {
  expect((await findBroker({})).version).toMatch(/^2\.(1[4-9]|[2-9]\d)\./);
});
