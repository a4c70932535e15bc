import { writeFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { startTestBroker } from '../support/broker.ts';
import { Command, millrace } from '../support/cli.ts';

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

it('millrace dev sees edits that are made while it still starts', async () => {
  const broker = await startTestBroker();
  const folder = await mkdtemp(join(tmpdir(), 'millrace-early-'));
  const shared = join(folder, '_shared.ts');
  await writeFile(shared, "export const text = 'before';");
  await writeFile(
    join(folder, 'early.ts'),
    `import { defineFunction } from 'millrace';
    import { text } from './_shared.ts';
    export default defineFunction({ handler: () => text });`,
  );
  const dev = new Command(['dev', '--server', broker.url, '--functions', folder, '--workers', '2']);
  // The first one has loaded the old text, the second one only begins.
  await dev.says('is ready');
  writeFileSync(shared, "export const text = 'after';");
  await dev.says('reloaded: early');
  expect((await millrace('invoke', 'early', '--server', broker.url)).stdout).toBe('"after"\n');
  expect((await dev.end('SIGINT')).status).toBe(0);
  await broker.stop();
  await rm(folder, { recursive: true, force: true });
});
