import { readdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { MillraceError } from '../core/errors.ts';
import { compareText } from './failure.ts';

/** Far above what a person keeps in one folder; a wrong folder, such as the root of a disk, is noticed early. */
export const MAX_FUNCTION_FILES = 1_000;
const MAX_ENTRIES = 100_000;

const SOURCE = /\.(?:ts|mts|js|mjs)$/;
const NOT_A_FUNCTION = /\.d\.m?ts$|\.(?:test|spec)\.[^.]+$/;

/** Is this file, by its name alone, one that must export a function? */
export function isFunctionFile(name: string): boolean {
  return !isSkipped(name) && SOURCE.test(name) && !NOT_A_FUNCTION.test(name);
}

function isSkipped(name: string): boolean {
  return name.startsWith('_') || name.startsWith('.') || name === 'node_modules';
}

/** The default name of a function: the file's name without its extension. */
export function defaultNameOf(file: string): string {
  return file.replace(/^.*[/\\]/, '').replace(SOURCE, '');
}

/**
 * The functions' files below `directory`, absolute, sorted by path. Links are followed: mounted configuration consists
 * of them. `shown` is the folder as messages name it. Throws FUNCTION_LOAD_FAILED when there is no folder, nothing in
 * it, or too much.
 */
export async function findFunctionFiles(directory: string, shown: string): Promise<string[]> {
  const found: string[] = [];
  const visited = new Set<string>();
  let entries = 0;

  const walk = async (folder: string): Promise<void> => {
    const real = await realpath(folder);
    // A link to a folder above would otherwise go round for ever.
    if (visited.has(real)) return;
    visited.add(real);
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      entries += 1;
      if (entries > MAX_ENTRIES) throw tooMany(shown, `${MAX_ENTRIES} files and folders`);
      if (isSkipped(entry.name)) continue;
      const path = join(folder, entry.name);
      const target = entry.isSymbolicLink() ? await statOrNothing(path) : entry;
      if (target?.isDirectory()) await walk(path);
      else if (target?.isFile() && isFunctionFile(entry.name)) found.push(path);
      if (found.length > MAX_FUNCTION_FILES)
        throw tooMany(shown, `${MAX_FUNCTION_FILES} functions`);
    }
  };

  try {
    await walk(directory);
  } catch (thrown) {
    throw thrown instanceof MillraceError ? thrown : unreadable(shown, thrown);
  }
  if (found.length === 0)
    throw new MillraceError(
      'FUNCTION_LOAD_FAILED',
      `${shown}: the folder holds no functions (.ts .mts .js .mjs; names beginning with "_" or "." are skipped).`,
    );
  return found.sort(compareText);
}

async function statOrNothing(path: string) {
  try {
    return await stat(path);
  } catch {
    // A link to nowhere, or a file that was removed just now.
    return undefined;
  }
}

function tooMany(shown: string, bound: string): MillraceError {
  return new MillraceError(
    'FUNCTION_LOAD_FAILED',
    `${shown}: the folder holds more than ${bound}; is it the right one?`,
  );
}

function unreadable(shown: string, thrown: unknown): MillraceError {
  const { code, message } = thrown as NodeJS.ErrnoException;
  const reasons: Record<string, string> = {
    ENOENT: 'there is no such folder for functions.',
    ENOTDIR: 'the functions must be in a folder, this is a file.',
  };
  const reason = reasons[code ?? ''] ?? `the functions folder cannot be read: ${message}.`;
  return new MillraceError('FUNCTION_LOAD_FAILED', `${shown}: ${reason}`, { cause: thrown });
}
