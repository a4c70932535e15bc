/** Deployed files on a worker's disk, and the functions in them. What is there already is used, if it is what it should be. */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { MillraceError, messageOf } from '../core/errors.ts';
import { functionNameReason, quote, reservedReason } from '../core/names.ts';
import { isFunctionDefinition } from '../function/define.ts';
import { importModule, importReason } from '../function/import.ts';
import { DEFAULT_IMPORT_TIMEOUT_MS, type LoadedFunction } from '../function/load.ts';
import { packFile, type BuiltFile } from './packed.ts';
import type { FileRecord, VersionRecord } from './records.ts';

/** A file that no worker has loaded for so long belongs to no version that runs. */
const REMOVE_AFTER_MS = 7 * 86_400_000;
// A package.json nearby could otherwise declare the files to be CommonJS.
const MODULE = '{"type":"module"}\n';

export interface FilesOptions {
  /** Absolute. */
  directory: string;
  /** The URL that `import … from 'millrace'` means. */
  packageEntry: string;
  /** Gives a file's content, its hash checked. */
  readonly fetch: (file: FileRecord) => Promise<BuiltFile>;
}

export class DeployedFiles {
  readonly #options: FilesOptions;
  readonly #underWay = new Map<string, Promise<void>>();

  private constructor(options: FilesOptions) {
    this.#options = options;
  }

  /** Throws FUNCTION_LOAD_FAILED when the folder cannot be written. */
  static async open(options: FilesOptions): Promise<DeployedFiles> {
    const { directory, packageEntry } = options;
    const shim = join(directory, 'node_modules', 'millrace');
    await orUnwritable(directory, async () => {
      await mkdir(shim, { recursive: true });
      await write(join(directory, 'package.json'), MODULE);
      await write(join(shim, 'package.json'), '{"type":"module","exports":"./index.js"}\n');
      await write(join(shim, 'index.js'), `export * from ${JSON.stringify(packageEntry)};\n`);
    });
    return new DeployedFiles(options);
  }

  /** Throws FUNCTION_LOAD_FAILED with `source: reason`, or what fetching throws. */
  async load(
    {
      version,
      entry,
      files,
      source,
    }: Pick<VersionRecord, 'version' | 'entry' | 'files' | 'source'>,
    namespace: string,
  ): Promise<LoadedFunction> {
    await Promise.all(files.map((file) => this.#provide(file)));
    process.setSourceMapsEnabled(true);
    const path = join(this.#options.directory, entry);
    const imported = await importModule(path, DEFAULT_IMPORT_TIMEOUT_MS);
    if (!imported.ok) throw refused(source, importReason(imported.thrown));
    const definition = (imported.module as { default?: unknown }).default;
    if (!isFunctionDefinition(definition)) {
      throw refused(
        source,
        'has no default export made by defineFunction; name helper files with a leading underscore',
      );
    }
    const { name = '' } = definition;
    const nameReason = functionNameReason(name);
    if (nameReason !== undefined) throw refused(source, `the name ${quote(name)} ${nameReason}`);
    for (const subject of definition.on) {
      const reason = reservedReason(subject, namespace);
      if (reason !== undefined) throw refused(source, `the subject ${quote(subject)} ${reason}`);
    }
    const module = pathToFileURL(path).href;
    return { definition, name, file: source, version, subjects: definition.on, module };
  }

  /** Removes what no worker has loaded for long. */
  async collect(): Promise<void> {
    const { directory } = this.#options;
    const before = Date.now() - REMOVE_AFTER_MS;
    for (const name of await readdir(directory)) {
      if (!/\.js(\.map)?(\.[0-9a-f]+)?$/.test(name)) continue;
      const path = join(directory, name);
      const stats = await stat(path).catch(() => undefined);
      // Another worker may remove it just now.
      if (stats !== undefined && stats.mtimeMs < before) await rm(path, { force: true });
    }
  }

  #provide(file: FileRecord): Promise<void> {
    let providing = this.#underWay.get(file.path);
    if (providing === undefined) {
      providing = this.#provideOne(file).finally(() => this.#underWay.delete(file.path));
      this.#underWay.set(file.path, providing);
    }
    return providing;
  }

  async #provideOne(file: FileRecord): Promise<void> {
    const { directory, fetch } = this.#options;
    const path = join(directory, file.path);
    if (await isThere(path, file)) return;
    const { code, map } = await fetch(file);
    await orUnwritable(directory, async () => {
      await write(`${path}.map`, map);
      await write(path, code);
    });
  }
}

/** A process that died while it wrote leaves nothing here: the name comes last. */
async function isThere(path: string, { hash }: FileRecord): Promise<boolean> {
  try {
    const [code, map] = await Promise.all([readFile(path), readFile(`${path}.map`)]);
    if (packFile({ code, map }).hash !== hash) return false;
    const now = new Date();
    await Promise.all([utimes(path, now, now), utimes(`${path}.map`, now, now)]);
    return true;
  } catch {
    return false;
  }
}

async function write(path: string, content: string | Uint8Array): Promise<void> {
  const aside = `${path}.${randomBytes(6).toString('hex')}`;
  await writeFile(aside, content);
  await rename(aside, path);
}

async function orUnwritable<T>(directory: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw new MillraceError(
      'FUNCTION_LOAD_FAILED',
      `${directory}: deployed functions cannot be written: ${messageOf(cause)}.`,
      { cause },
    );
  }
}

function refused(source: string, reason: string): MillraceError {
  return new MillraceError('FUNCTION_LOAD_FAILED', `${source}: ${reason}`);
}
