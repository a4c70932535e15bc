/** A project as `millrace init` makes it: its own tests, its types, its functions. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Command } from '../support/cli.ts';
import { notePid } from '../support/processes.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
let folder: string;
let project: string;

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'millrace-init-')));
  project = join(folder, 'My Mill');
});

afterAll(async () => rm(folder, { recursive: true, force: true }));

async function run(
  bin: string,
  ...words: string[]
): Promise<{ status: number | null; output: string }> {
  // The runner of this test must not be taken for that of the project's.
  const environment = Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !name.startsWith('VITEST') && name !== 'NODE_ENV',
    ),
  );
  const child = spawn(join(ROOT, 'node_modules/.bin', bin), words, {
    cwd: project,
    env: environment,
  });
  notePid(child.pid);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  }
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, output };
}

describe('millrace init', () => {
  it('writes a project, into an empty folder only', async () => {
    const made = await new Command(['init', 'My Mill'], { cwd: folder }).finished;
    expect([made.status, made.stderr]).toEqual([0, '']);
    expect(made.stdout).toContain('npm install');
    const { name, dependencies } = JSON.parse(
      await readFile(join(project, 'package.json'), 'utf8'),
    ) as {
      name: string;
      dependencies: Record<string, string>;
    };
    expect([name, dependencies['millrace']]).toEqual([
      'my-mill',
      `file:${ROOT.replace(/\/$/, '')}`,
    ]);
    expect(await readFile(join(project, '.gitignore'), 'utf8')).toContain('.millrace/');
    const again = await new Command(['init', 'My Mill'], { cwd: folder }).finished;
    expect([again.status, again.stderr]).toEqual([
      2,
      'millrace: My Mill is not empty: name a new folder. [USAGE]\n',
    ]);
    await mkdir(join(folder, 'here'));
    const here = await new Command(['init', '.'], { cwd: join(folder, 'here') }).finished;
    expect(here.stdout).toMatch(/^here is in this folder\. Next:\n\n  npm install\n/);
    await writeFile(join(folder, 'file'), '');
    expect((await new Command(['init', 'file'], { cwd: folder }).finished).status).toBe(2);
  });

  it('whose own tests pass, a killed worker among them, and whose types hold', async () => {
    // As npm install would: the packages of this checkout.
    const modules = join(project, 'node_modules');
    await mkdir(join(modules, '@types'), { recursive: true });
    await symlink(ROOT, join(modules, 'millrace'));
    for (const name of ['zod', 'vitest', 'typescript', '@types/node']) {
      await symlink(join(ROOT, 'node_modules', name), join(modules, name));
    }
    const tests = await run('vitest', 'run');
    expect(tests.output).toContain('2 passed');
    expect(tests.status).toBe(0);
    expect(await run('tsc', '--noEmit')).toEqual({ status: 0, output: '' });
  }, 120_000);
});
