import {
  mkdir,
  mkdtemp,
  readdir,
  realpath,
  rename,
  rm,
  stat,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { MillraceError, messageOf } from '../core/errors.ts';

/** The newest builds are kept: a running worker may still load parts of an older one on demand. */
export const KEPT_BUILDS = 20;
/** An unfinished build this old was left behind by a process that died. */
const ABANDONED_AFTER_MS = 3_600_000;

const BUILD = /^[0-9a-f]{24}$/;
const UNFINISHED = /^unfinished-/;
// A package.json nearby could otherwise declare the files to be CommonJS.
const PACKAGE = '{"type":"module"}\n';

export interface Build {
  readonly hash: string;
  readonly contents: ReadonlyMap<string, Uint8Array>;
}

/** Makes the folder for builds and gives its real path. Throws FUNCTION_LOAD_FAILED. */
export async function makeBuildDirectory(buildDirectory: string): Promise<string> {
  return orUnwritable(buildDirectory, async () => {
    await mkdir(buildDirectory, { recursive: true });
    return realpath(buildDirectory);
  });
}

/**
 * Writes a build to `<buildDirectory>/<hash>/` and returns that folder. A folder appears complete or not at all, since
 * several workers may build the same functions at the same moment; one that is there already is used as it is.
 * Throws FUNCTION_LOAD_FAILED when it cannot be written.
 */
export async function writeBuild(buildDirectory: string, build: Build): Promise<string> {
  const folder = join(buildDirectory, build.hash);
  return orUnwritable(buildDirectory, async () => {
    // Newest again, before anybody's clean-up looks at it.
    if (!(await touch(folder))) await writeAside(buildDirectory, folder, build.contents);
    await removeOldBuilds(buildDirectory, build.hash);
    return folder;
  });
}

async function orUnwritable<T>(buildDirectory: string, write: () => Promise<T>): Promise<T> {
  try {
    return await write();
  } catch (thrown) {
    throw new MillraceError(
      'FUNCTION_LOAD_FAILED',
      `${buildDirectory}: the built functions cannot be written: ${messageOf(thrown)}.`,
      { cause: thrown },
    );
  }
}

async function touch(folder: string): Promise<boolean> {
  try {
    const now = new Date();
    await utimes(folder, now, now);
    return true;
  } catch {
    return false;
  }
}

async function writeAside(
  buildDirectory: string,
  folder: string,
  contents: ReadonlyMap<string, Uint8Array>,
): Promise<void> {
  const aside = await mkdtemp(join(buildDirectory, 'unfinished-'));
  try {
    await writeFile(join(aside, 'package.json'), PACKAGE);
    for (const [path, content] of contents) {
      await mkdir(dirname(join(aside, path)), { recursive: true });
      await writeFile(join(aside, path), content);
    }
    await rename(aside, folder);
  } catch (thrown) {
    await rm(aside, { recursive: true, force: true });
    // Another process was faster; its build has the same content.
    if (!(await touch(folder))) throw thrown;
  }
}

async function removeOldBuilds(buildDirectory: string, current: string): Promise<void> {
  const aged: { path: string; modifiedMs: number; unfinished: boolean }[] = [];
  for (const name of await readdir(buildDirectory)) {
    // Whatever else lies in this folder is not ours to remove.
    const unfinished = UNFINISHED.test(name);
    if (name === current || (!unfinished && !BUILD.test(name))) continue;
    const path = join(buildDirectory, name);
    const stats = await stat(path).catch(() => undefined);
    if (stats?.isDirectory()) aged.push({ path, modifiedMs: stats.mtimeMs, unfinished });
  }
  const builds = aged.filter(({ unfinished }) => !unfinished);
  const old = builds.sort((a, b) => b.modifiedMs - a.modifiedMs).slice(KEPT_BUILDS - 1);
  const abandoned = aged.filter(
    ({ unfinished, modifiedMs }) => unfinished && Date.now() - modifiedMs > ABANDONED_AFTER_MS,
  );
  for (const { path } of [...old, ...abandoned]) {
    // Another process may be removing it just now, or hold it open: the next load tries again.
    await rm(path, { recursive: true, force: true }).catch(() => undefined);
  }
}
