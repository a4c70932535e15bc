/** How `millrace dev` starts its children again, and how it is stopped. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from 'millrace';
import { isAlive } from '../../src/broker/identity.ts';
import { freePort } from '../../src/broker/port.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { Command, millrace } from '../support/cli.ts';
import { until } from '../support/wait.ts';
import { isLong } from '../support/long.ts';

/** Less than a drain takes (the setting `drainTimeoutMs`), and enough on a busy machine. */
const AT_ONCE_MS = 5_000;

/** A killed process that nobody has collected yet runs no more. */
const running = (pid: number): boolean => isAlive({ pid, started: '' });

const define = (body: string, before = ''): string =>
  `import { defineFunction } from 'millrace';\n${before}\nexport default defineFunction({ ${body} });\n`;
const HANGS = define('handler: () => new Promise(() => {}), timeoutMs: 60_000');

let broker: TestBroker;
let scratch: string;
const commands: Command[] = [];

beforeAll(async () => {
  broker = await startTestBroker();
  scratch = await mkdtemp(join(tmpdir(), 'millrace-dev-'));
});
afterAll(async () => {
  await Promise.all(commands.map((command) => command.end('SIGKILL')));
  await broker.stop();
  await rm(scratch, { recursive: true, force: true });
});

async function folderWith(text: string): Promise<{ folder: string; file: string }> {
  const folder = await mkdtemp(join(scratch, 'functions-'));
  const file = join(folder, 'one.ts');
  await writeFile(file, text);
  return { folder, file };
}

async function start(commandLine: string[], says: string): Promise<Command> {
  const command = new Command(commandLine);
  commands.push(command);
  await command.says(says);
  return command;
}

describe('millrace dev', () => {
  it.runIf(isLong)(
    'waits longer each time before it restarts a worker that crashes, and an edit ends the wait',
    { timeout: 120_000 },
    async () => {
      // Later than it is ready, also on a busy machine.
      const crashes = define(
        "handler: () => 'crashes'",
        'setTimeout(() => process.exit(3), 1_500);',
      );
      const { folder, file } = await folderWith(crashes);
      const flags = ['--server', broker.url, '--functions', folder, '--workers', '1'];
      const dev = await start(['dev', ...flags], 'millrace listens at');
      for (const waitMs of [500, 1_000, 2_000, 4_000, 8_000]) {
        await dev.says(`a worker ended with status 3; another is started in ${waitMs} ms\n`);
      }
      const said = Date.now();
      await writeFile(file, define("handler: () => 'mended'"));
      await using mill = await connect({ servers: broker.url });
      await until('the mended function answers', () =>
        mill.invoke('one').then(
          (answer) => answer === 'mended',
          () => false,
        ),
      );
      expect(Date.now() - said).toBeLessThan(8_000);
      expect((await dev.end('SIGINT')).status).toBe(0);
    },
  );

  it('ends with status 1 and the reason when the functions do not load at first', async () => {
    const { folder } = await folderWith('setInterval(() => {}, 1_000);\nexport default 3;');
    const { status, stderr } = await millrace('dev', '--server', broker.url, '--functions', folder);
    expect(status).toBe(1);
    expect(stderr).toContain('one.ts: its default export is not a function');
  });

  it.runIf(isLong)('waits longer each time before it restarts a broker that crashes', async () => {
    const { folder } = await folderWith(define('handler: () => 1'));
    const store = await mkdtemp(join(scratch, 'store-'));
    const port = String(await freePort(0));
    const dev = await start(
      ['dev', '--port', port, '--store', store, '--functions', folder, '--workers', '1'],
      'millrace listens at',
    );

    const pid = async (): Promise<number> =>
      Number(/\d+/.exec(await readFile(join(store, 'broker.pid'), 'utf8').catch(() => ''))?.[0]);
    for (const waitMs of [500, 1_000]) {
      const victim = await until('it runs', async () => {
        const now = await pid();
        return now > 0 && running(now) && now;
      });
      process.kill(victim, 'SIGKILL');
      await dev.says(`the broker was ended by SIGKILL; it is started again in ${waitMs} ms\n`);
      await until('another runs', async () => {
        const { status } = await millrace('invoke', 'one', '--server', `nats://127.0.0.1:${port}`);
        return status === 0;
      });
    }
    expect((await dev.end('SIGINT')).status).toBe(0);
  });
});

describe('a second Ctrl-C', () => {
  async function hang(): Promise<void> {
    const mill = await connect({ servers: broker.url });
    mill.invoke('one').catch(() => {});
    await until('it runs', async () => (await mill.inspect.functions())[0]?.pending === 1);
    await mill.close();
  }

  async function statusOfSecond(command: Command): Promise<number | null> {
    command.child.kill('SIGINT');
    await command.says(command.stdout.includes('millrace listens') ? 'stopping' : 'drains');
    const from = Date.now();
    const { status } = await command.end('SIGINT');
    expect(Date.now() - from).toBeLessThan(AT_ONCE_MS);
    return status;
  }

  it('ends `dev` and its workers at once, with status 130', async () => {
    const { folder } = await folderWith(HANGS);
    const dev = await start(
      ['dev', '--server', broker.url, '--functions', folder, '--workers', '2'],
      'millrace listens at',
    );
    await hang();
    const { stdout } = await millrace('inspect', 'workers', '--json', '--server', broker.url);
    const { workers } = JSON.parse(stdout) as { workers: { pid: number }[] };
    expect(workers).toHaveLength(2);
    expect(await statusOfSecond(dev)).toBe(130);
    for (const { pid } of workers) await until(`worker ${pid} is gone`, () => !running(pid), 1_000);
  });

  it('ends `worker` at once, with status 130', async () => {
    const { folder } = await folderWith(HANGS);
    const worker = await start(
      ['worker', '--server', broker.url, '--functions', folder],
      'is ready',
    );
    await hang();
    expect(await statusOfSecond(worker)).toBe(130);
  });
});
