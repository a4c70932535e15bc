/** Secrets as files of workers in processes of their own: docs/security.md. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type * as Testing from '../../src/testing/index.ts';
import { Command, type Finished } from '../support/cli.ts';

const VALUE = 'the value of TOKEN';

let mill: Testing.TestMill;
let folder: string;
const run = (...words: string[]): Promise<Finished> => new Command(words, { cwd: folder }).finished;
const source = (secret: string, more = ''): string =>
  `import { defineFunction } from 'millrace';
export default defineFunction({ secrets: ['${secret}'], ${more}
  handler: ({ data }, ctx) => data === 'throw' ? Promise.reject(new Error(ctx.secret('${secret}'))) : ctx.secret('${secret}').length,
});\n`;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-secrets-test-'));
  for (const each of ['own', 'functions', 'secrets']) await mkdir(join(folder, each));
  await writeFile(join(folder, 'own', 'here.ts'), source('TOKEN'));
  await writeFile(join(folder, 'own', 'apart.ts'), source('TOKEN', "isolation: 'thread',"));
  await writeFile(join(folder, 'functions', 'paid.ts'), source('STRIPE_KEY'));
  // As it is built.
  const { startTestMill } = (await import(
    String(new URL('../../dist/testing/index.js', import.meta.url))
  )) as typeof Testing;
  mill = await startTestMill({
    functions: join(folder, 'own'),
    secrets: { TOKEN: VALUE },
    logLevel: 'silent',
  });
});
afterAll(async () => {
  await mill.close();
  await rm(folder, { recursive: true, force: true });
});

describe('secrets', () => {
  it.each(['here', 'apart'])(
    'reach the function on the worker’s thread and its own: %s',
    async (name) => {
      expect(await mill.invoke(name)).toBe(VALUE.length);
      await expect(mill.invoke(name, 'throw')).rejects.toMatchObject({
        code: 'FUNCTION_FAILED',
        message: `${name} failed: [TOKEN]`,
      });
    },
  );

  it('keep a deploy from being switched to while a worker lacks them', async () => {
    const { status, stderr } = await run('deploy', '--server', mill.url);
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /paid needs the secret STRIPE_KEY, which is neither in .* nor in the en/,
    );
    expect(await mill.deploys.list()).toEqual([]);
  });

  it('keep a worker from starting that lacks them, and are read where --secrets says', async () => {
    const words = ['worker', '--server', mill.url, '--local'];
    const without = await run(...words);
    expect(without.status).toBe(1);
    expect(without.stderr).toMatch(
      /paid needs the secret STRIPE_KEY, .*neither in a folder given with --secrets nor in the environment.*\[FUNCTION_LOAD_FAILED\]/s,
    );
    await writeFile(join(folder, 'secrets', 'STRIPE_KEY'), 'sk_test_123\n');
    const worker = new Command([...words, '--secrets', 'secrets'], { cwd: folder });
    await worker.says('is ready');
    expect(await mill.invoke('paid')).toBe('sk_test_123'.length);
    expect((await worker.end()).status).toBe(0);
  });
});
