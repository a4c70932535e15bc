import { cp, mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { MillraceError } from '../core/errors.ts';
import { print } from './output.ts';
import { PACKAGE_VERSION } from './package-info.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const TEMPLATE = join(ROOT, 'templates/project');
/** What a folder may have that is to become a project. */
const ALLOWED = new Set(['.git', '.DS_Store']);

export function initCommand(program: Command): void {
  program
    .command('init')
    .summary('start a project: functions, a test, one command to run')
    .description(
      'Writes a small project into a folder that is new or empty: three functions, a test, and what it needs.',
    )
    .argument('<dir>', 'the folder')
    .action(async (directory: string) => {
      const folder = resolve(directory);
      await assertEmpty(folder, directory);
      const name = packageName(basename(folder));
      await mkdir(folder, { recursive: true });
      await cp(TEMPLATE, folder, { recursive: true });
      // npm leaves a .gitignore out of what it publishes.
      await rename(join(folder, 'gitignore'), join(folder, '.gitignore'));
      await replace(join(folder, 'package.json'), [
        ['my-mill', name],
        ['"millrace": "^0.1.0"', `"millrace": ${JSON.stringify(ownVersion())}`],
      ]);
      await replace(join(folder, 'README.md'), [['# my-mill', `# ${name}`]]);
      const isHere = folder === process.cwd();
      print(
        `${name} is in ${isHere ? 'this folder' : directory}. Next:\n\n${isHere ? '' : `  cd ${directory}\n`}  npm install\n  npm start\n\nand in another terminal: npx millrace invoke greet '{"name":"Ada"}', or npm test.`,
      );
    });
}

async function assertEmpty(folder: string, shown: string): Promise<void> {
  const entries = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw new MillraceError('USAGE', `${shown} cannot be used: ${error.message}.`, {
      cause: error,
    });
  });
  if (entries.every((entry) => ALLOWED.has(entry))) return;
  throw new MillraceError('USAGE', `${shown} is not empty: name a new folder.`);
}

async function replace(
  file: string,
  changes: readonly (readonly [from: string, to: string])[],
): Promise<void> {
  let text = await readFile(file, 'utf8');
  for (const [from, to] of changes) text = text.replace(from, () => to);
  await writeFile(file, text);
}

/** What npm takes. */
function packageName(folder: string): string {
  const name = folder
    .toLowerCase()
    .replaceAll(/[^a-z0-9._-]+/g, '-')
    .replace(/^[._-]+/, '');
  return name === '' ? 'my-mill' : name.slice(0, 200);
}

/** Run from a checkout, the project uses that one. */
function ownVersion(): string {
  return existsSync(join(ROOT, 'src')) ? `file:${ROOT.replace(/\/$/, '')}` : `^${PACKAGE_VERSION}`;
}
