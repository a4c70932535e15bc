import { realpath } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { assertNamespace } from '../core/names.ts';
import { makeBuildDirectory, writeBuild } from './builds.ts';
import { bundleFunctions, type Bundle } from './bundle.ts';
import { checkModules, type ImportedFile, type LoadedFunction } from './check.ts';
import { failure, loadFailed, shownPath, type LoadFailure } from './failure.ts';
import { findFunctionFiles } from './find.ts';
import { importModule, importReason } from './import.ts';
import { Locator } from './locate.ts';

export type { LoadedFunction } from './check.ts';

export const DEFAULT_IMPORT_TIMEOUT_MS = 10_000;

export interface LoadOptions {
  /** The folder with the functions. Relative paths are relative to `cwd`. */
  directory: string;
  /** Where built functions are written, `<buildDirectory>/<hash>/`; the newest 20 builds are kept. */
  buildDirectory: string;
  /** No function may have a subject under this token. */
  namespace: string;
  /** Default `process.cwd()`. Its node_modules are looked in last, and messages name files relative to it. */
  cwd?: string;
  /** What `import … from 'millrace'` means, a file URL. Default: the entry of the running copy of the package. */
  packageEntry?: string;
  /** How long one module may take to load, in milliseconds; default 10,000. */
  importTimeoutMs?: number;
}

export interface LoadedFunctions {
  /** Sorted by file. */
  readonly functions: LoadedFunction[];
  /** The source files that they are made of, outside of node_modules; absolute, sorted. To be watched for changes. */
  readonly inputs: string[];
}

/**
 * Finds, bundles, loads and checks the functions of a folder. Loading again after an edit gives new definitions; the
 * old ones stay usable. Without a change the same definitions come again, as the modules are not loaded twice.
 *
 * Turns source maps on for the whole process, so that stacks show the user's own lines.
 *
 * Throws FUNCTION_LOAD_FAILED with a line `functions/x.ts:LINE: reason` for everything that is wrong (at most 20) and
 * `details: { failures: [{ file, line, reason }], total }`; INVALID_INPUT when the namespace is not legal.
 */
export async function loadFunctions(options: LoadOptions): Promise<LoadedFunctions> {
  const { namespace, packageEntry = runningEntry() } = options;
  assertNamespace(namespace, 'INVALID_INPUT');
  // esbuild, stacks and file URLs give real paths: all comparisons are made with those.
  const cwd = await realPathOf(options.cwd ?? process.cwd());
  const directory = await realPathOf(resolve(cwd, options.directory));
  const files = await findFunctionFiles(directory, shownPath(directory, cwd));
  const buildDirectory = await makeBuildDirectory(resolve(cwd, options.buildDirectory));

  const bundled = await bundleFunctions({ files, directory, buildDirectory, cwd, packageEntry });
  if (!bundled.ok) throw loadFailed(bundled.failures);
  const bundle = bundled.value;
  const folder = await writeBuild(buildDirectory, bundle);
  const locator = new Locator(folder, bundle.inputs);

  process.setSourceMapsEnabled(true);
  const timeoutMs = options.importTimeoutMs ?? DEFAULT_IMPORT_TIMEOUT_MS;
  const { modules, failures } = await importAll(bundle, { folder, timeoutMs, cwd, locator });
  // Modules that did load are checked even so: all that is wrong is told at once.
  const checked = checkModules(modules, { namespace, cwd, locator });
  if (!checked.ok) failures.push(...checked.failures);
  if (!checked.ok || failures.length > 0) throw loadFailed(failures);
  return { functions: checked.value, inputs: bundle.inputs };
}

async function importAll(
  { entries }: Bundle,
  from: { folder: string; timeoutMs: number; cwd: string; locator: Locator },
): Promise<{ modules: ImportedFile[]; failures: LoadFailure[] }> {
  const modules: ImportedFile[] = [];
  const failures: LoadFailure[] = [];
  // Together: waiting for several modules takes as long as for the slowest one.
  const results = await Promise.all(
    entries.map((entry) => importModule(join(from.folder, entry.output), from.timeoutMs)),
  );
  for (const [index, entry] of entries.entries()) {
    const result = results[index];
    const url = pathToFileURL(join(from.folder, entry.output)).href;
    if (result?.ok) modules.push({ ...entry, module: result.module, url });
    else {
      const place = from.locator.ofError(result?.thrown);
      const file = shownPath(place?.file ?? entry.file, from.cwd);
      failures.push(failure(file, place?.line, importReason(result?.thrown)));
    }
  }
  return { modules, failures };
}

/** What `import … from 'millrace'` means in this process: `index.ts` when this is run from the sources, `index.js` when it was built. */
export function runningEntry(): string {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  return new URL(`../index.${extension}`, import.meta.url).href;
}

/** The path itself where nothing is there (yet). */
async function realPathOf(path: string): Promise<string> {
  return realpath(path).catch(() => path);
}
