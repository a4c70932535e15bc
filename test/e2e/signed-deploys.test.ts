/** Deploys that are signed, and workers that run nothing else. */
import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { connect, type Mill } from 'millrace';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { Command, type Finished } from '../support/cli.ts';

let broker: TestBroker;
let mill: Mill;
let folder: string;
let worker: Command;

beforeAll(async () => {
  broker = await startTestBroker();
  mill = await connect({ servers: broker.url });
  folder = await mkdtemp(join(tmpdir(), 'millrace-signed-test-'));
  await mkdir(join(folder, 'functions'));
  await mkdir(join(folder, 'work'));
});

afterAll(async () => {
  await mill.close();
  await worker.end();
  await broker.stop();
  await rm(folder, { recursive: true, force: true });
});

const run = (...words: string[]): Promise<Finished> => new Command(words, { cwd: folder }).finished;

async function deploy(answer: string, ...flags: string[]): Promise<Finished> {
  const source = `import { defineFunction } from 'millrace';\nexport default defineFunction({ handler: () => '${answer}' });\n`;
  await writeFile(join(folder, 'functions', 'greet.ts'), source);
  return run('deploy', '--server', broker.url, ...flags);
}

it('workers with --trust run what is signed, and nothing is switched to what is not', async () => {
  const made = await run('deploy-key', 'own.nk');
  const key = made.stdout.trim();
  expect(key).toMatch(/^U[A-Z2-7]{55}$/);
  expect((await stat(join(folder, 'own.nk'))).mode & 0o777).toBe(0o600);
  expect((await run('deploy-key', 'own.nk')).status).toBe(2);
  await run('deploy-key', 'other.nk');

  const words = ['worker', '--server', broker.url, '--trust', key];
  worker = new Command(words, { cwd: join(folder, 'work') });
  await worker.says('is ready');

  const unsigned = await deploy('unsigned');
  expect(unsigned.status).toBe(1);
  expect(unsigned.stderr).toMatch(/is not signed.*\[FUNCTION_LOAD_FAILED\]/s);
  expect(await mill.deploys.list()).toEqual([]);

  const signed = await deploy('signed', '--sign', 'own.nk');
  expect(signed.stderr).toBe('');
  expect(await mill.invoke('greet')).toBe('signed');

  const strange = await deploy('strange', '--sign', 'other.nk');
  expect(strange.stderr).toContain('is not one of --trust');
  expect(await mill.invoke('greet')).toBe('signed');

  // The same code again, now with the right key.
  const again = await deploy('strange', '--sign', 'own.nk');
  expect(again.stderr).toBe('');
  expect(await mill.invoke('greet')).toBe('strange');
}, 120_000);
