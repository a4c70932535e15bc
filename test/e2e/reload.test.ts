import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { startTestBroker } from '../support/broker.ts';
import { Command } from '../support/cli.ts';

const WATCH_BEGINS_MS = 500;

it('millrace dev says which reloads failed, also those of further workers', async () => {
  const broker = await startTestBroker();
  const folder = await mkdtemp(join(tmpdir(), 'millrace-reload-'));
  const file = join(folder, 'once.ts');
  const define = `import { defineFunction } from 'millrace';
    export default defineFunction({ handler: () => 1 });`;
  await writeFile(file, define);
  const flags = ['--server', broker.url, '--functions', folder, '--workers', '2'];
  const dev = new Command(['dev', ...flags]);
  await dev.says('millrace listens at');
  // The watch on the folder begins a moment later.
  await delay(WATCH_BEGINS_MS);
  // What the first worker loads, the second one cannot.
  const lock = JSON.stringify(join(folder, '_lock'));
  await writeFile(
    file,
    `import { writeFileSync } from 'node:fs';\nwriteFileSync(${lock}, '', { flag: 'wx' });\n${define}`,
  );
  await dev.says('reloaded: once');
  await dev.says('a further worker was not reloaded');
  expect(dev.stderr).toMatch(/once\.ts:\d+: .*EEXIST/);
  expect((await dev.end('SIGINT')).status).toBe(0);
  await broker.stop();
  await rm(folder, { recursive: true, force: true });
});
