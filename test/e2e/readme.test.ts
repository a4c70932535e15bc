import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect as connectNats } from 'nats';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { Command, millrace } from '../support/cli.ts';
import { notePid } from '../support/processes.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
const { scripts } = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
) as {
  scripts: Record<string, string>;
};

/** The lines of the README's shell blocks, without their comments. */
const shellLines = [...readme.matchAll(/```sh\n(.*?)```/gs)]
  .flatMap(([, block = '']) => block.split('\n'))
  .map((line) => line.replace(/\s+#.*$/, '').trim())
  .filter((line) => line !== '');

/** A command line as a shell splits it; the README uses single quotes only. */
function words(line: string): string[] {
  return [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? '');
}

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

/** 10,000 transfers, and the disk of a busy machine. */
const DEMO_TIMEOUT_MS = 240_000;

describe('the README', () => {
  const npmLines = shellLines.filter((line) => /\bnpm (run |start|test)/.test(line));
  it.each(npmLines)('names a script that there is: %s', (line) => {
    const [, script = ''] = /npm (?:run )?(start|test|(?<=run )[\w:]+)/.exec(line) ?? [];
    expect(Object.keys(scripts)).toContain(script);
  });

  const asking = shellLines.filter((line) =>
    /^npx millrace (invoke|publish|inspect|--help)/.test(line),
  );
  it.each(asking)('has a command that works: %s', async (line) => {
    const { status, stderr } = await millrace(...words(line).slice(2), ...server(line));
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });

  const starting = shellLines.filter((line) => line.startsWith('npx millrace worker'));
  it.each(starting)('has a command that adds a worker: %s', async (line) => {
    const added = new Command([...words(line).slice(2), '--server', broker.url]);
    await added.says('is ready');
    expect((await added.end('SIGTERM')).status).toBe(0);
  });

  const requests = shellLines.filter((line) => line.startsWith('nats req '));
  it.each(requests)('has a request that any NATS client can make: %s', async (line) => {
    const [, , subject = '', payload = ''] = words(line);
    const nats = await connectNats({ servers: broker.url });
    const answer = await nats.request(subject, payload, { timeout: 5_000 });
    expect(answer.headers?.get('Nats-Service-Error-Code') ?? '').toBe('');
    const [, shown] = new RegExp(`${subject} .*# (\\S+)`).exec(readme) ?? [];
    expect(answer.string()).toContain(shown ?? '');
    await nats.close();
  });

  it('has at least one of each', () => {
    for (const lines of [npmLines, asking, starting, requests]) expect(lines).not.toEqual([]);
  });

  it('shows the calculator’s answer as it is', async () => {
    const [, shown] = /invoke calculator .*?# (.*)/.exec(readme) ?? [];
    const { stdout } = await millrace(
      'invoke',
      'calculator',
      '{"left":1,"right":2}',
      '--server',
      broker.url,
    );
    expect(stdout.trim()).toBe(shown);
  });

  it('has a demo that ends with status 0 and says so', { timeout: DEMO_TIMEOUT_MS }, async () => {
    const demo = spawn(process.execPath, ['--import', 'tsx', 'demo/demo.ts'], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    notePid(demo.pid);
    let output = '';
    demo.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    const status = await new Promise((resolve) => demo.once('close', resolve));
    expect(status).toBe(0);
    expect(output).toContain('Publishing 329 webhooks');
    expect(output).toContain('The tally is what was sent.');
    expect(output).toContain('19 + 23 = 42');
    expect(output).toContain('each transfer happened exactly once');
    expect(output.trim().endsWith('All as expected.')).toBe(true);
  });
});

function server(line: string): string[] {
  return line.includes('--help') ? [] : ['--server', broker.url];
}
