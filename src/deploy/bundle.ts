/** Builds a folder of functions for the object store: the same sources in the same places make the same files, wherever they are built. */
import { createHash } from 'node:crypto';
import { readFile, realpath } from 'node:fs/promises';
import { basename, dirname, extname, join, relative, resolve } from 'node:path';
import { build, type BuildOptions, type BuildResult, type Plugin } from 'esbuild';
import { MillraceError } from '../core/errors.ts';
import { buildFailures } from '../function/bundle.ts';
import { compareText, loadFailed, shownPath } from '../function/failure.ts';
import { defaultNameOf } from '../function/find.ts';
import { BUILD_OPTIONS, refuseNative, runningCopy } from '../function/plugin.ts';
import { MAX_FUNCTION_BYTES, packFile, type BuiltFile, type PackedFile } from './packed.ts';
import type { VersionRecord } from './records.ts';

/** One function, before it was loaded. */
export type BuiltFunction = Pick<VersionRecord, 'version' | 'entry' | 'files' | 'source'>;

export interface DeployBundle {
  functions: BuiltFunction[];
  /** By path. */
  files: ReadonlyMap<string, BuiltFile & PackedFile>;
}

const VERSION_DIGITS = 12;
const SHOWN_INPUTS = 3;
/** What functions import as `millrace`: found beside the files on the worker that runs them (files.ts). */
const PACKAGE = 'millrace';

type Built = BuildResult<{ write: false; metafile: true }>;

/** `files` and `directory` are absolute. Throws FUNCTION_LOAD_FAILED, or PAYLOAD_TOO_LARGE naming what is large. */
export async function bundleForDeploy(
  files: readonly string[],
  directory: string,
  cwd: string,
): Promise<DeployBundle> {
  const outdir = dirname(directory);
  let result: Built;
  try {
    result = await build(await optionsFor(files, directory, outdir, cwd));
  } catch (thrown) {
    throw loadFailed(buildFailures(thrown, directory, cwd));
  }
  const built = new Map(
    result.outputFiles.map(({ path, contents }) => [basename(path), Buffer.from(contents)]),
  );
  const packed = new Map<string, BuiltFile & PackedFile>();
  for (const [path, code] of built) {
    if (!path.endsWith('.js')) continue;
    const file = { code, map: built.get(`${path}.map`) ?? Buffer.alloc(0) };
    packed.set(path, { ...file, ...packFile(file) });
  }
  const functions: BuiltFunction[] = [];
  for (const [path, output] of Object.entries(result.metafile.outputs)) {
    if (output.entryPoint === undefined) continue;
    const source = shownPath(resolve(directory, output.entryPoint), cwd);
    functions.push(functionOf(path, source, result.metafile, packed));
  }
  functions.sort((a, b) => compareText(a.source, b.source));
  return { functions, files: packed };
}

async function optionsFor(
  files: readonly string[],
  directory: string,
  outdir: string,
  cwd: string,
): Promise<BuildOptions & { write: false; metafile: true }> {
  return {
    ...BUILD_OPTIONS,
    entryPoints: files.map((file) => ({ in: file, out: flat(relative(directory, file)) })),
    entryNames: '[name]-[hash]',
    chunkNames: 'chunk-[hash]',
    // Paths in the output are relative to these: where the folder lies does not change the files.
    absWorkingDir: directory,
    outdir,
    nodePaths: [join(cwd, 'node_modules')],
    plugins: [runningCopy(PACKAGE), refuseNative, await named(files)],
  };
}

/** Folders become part of the name: deployed files lie flat. */
function flat(path: string): string {
  return path.replaceAll(/[^A-Za-z0-9_-]+/g, '_').replace(/^[^A-Za-z0-9_]+/, '_');
}

/**
 * A function that has no name of its own is named after its file when its module is loaded, also where another function imports it
 * to call it: there no loader knows of it.
 */
async function named(files: readonly string[]): Promise<Plugin> {
  const own = new Set(await Promise.all(files.map(async (file) => realpath(file))));
  return {
    name: 'millrace-named',
    setup(building) {
      building.onLoad({ filter: /\.m?[jt]s$/, namespace: 'file' }, async ({ path }) => {
        if (!own.has(path)) return undefined;
        const text = await readFile(path, 'utf8');
        const name = JSON.stringify(defaultNameOf(path));
        const self = JSON.stringify(`./${basename(path)}`);
        const naming = `
import * as __millraceSelf from ${self};
{
  const own = __millraceSelf.default;
  const slot = own?.[Symbol.for('millrace.function')];
  if (slot !== undefined && own.name === undefined) slot.assignName(${name});
}
`;
        return {
          contents: `${text}${naming}`,
          loader: extname(path).endsWith('ts') ? 'ts' : 'js',
        };
      });
    },
  };
}

function functionOf(
  path: string,
  source: string,
  { outputs }: Built['metafile'],
  packed: ReadonlyMap<string, BuiltFile & PackedFile>,
): BuiltFunction {
  const visited = new Set<string>();
  const pending = [path];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    if (visited.has(next)) continue;
    visited.add(next);
    const imported = outputs[next]?.imports.filter(({ external }) => external !== true) ?? [];
    pending.push(...imported.map((each) => each.path));
  }
  const paths = [...visited].map((each) => basename(each)).sort(compareText);
  const files = paths.map((each) => {
    const file = packed.get(each) as PackedFile;
    return { path: each, hash: file.hash, bytes: file.bytes.length };
  });
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  if (bytes > MAX_FUNCTION_BYTES) throw tooLarge(source, bytes, visited, outputs);
  const hash = createHash('sha256');
  for (const { path: name } of files) hash.update(`${name}\0`).update(packed.get(name)?.code ?? '');
  const version = hash.digest('hex').slice(0, VERSION_DIGITS);
  return { version, entry: basename(path), files, source };
}

function tooLarge(
  source: string,
  bytes: number,
  visited: ReadonlySet<string>,
  outputs: Built['metafile']['outputs'],
): MillraceError {
  const inputs = [...visited].flatMap((path) => Object.entries(outputs[path]?.inputs ?? {}));
  const largest = inputs
    .sort(([, a], [, b]) => b.bytesInOutput - a.bytesInOutput)
    .slice(0, SHOWN_INPUTS)
    .map(([path, { bytesInOutput }]) => `${path} (${bytesInOutput} bytes)`);
  return new MillraceError(
    'PAYLOAD_TOO_LARGE',
    `${source} has ${bytes} bytes with all that it imports and its source maps; ${MAX_FUNCTION_BYTES} are possible. The largest: ${largest.join(', ')}.`,
    { details: { bytes, limitBytes: MAX_FUNCTION_BYTES } },
  );
}
