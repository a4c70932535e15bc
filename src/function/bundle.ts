import { join, relative, resolve, sep } from 'node:path';
import {
  build,
  type BuildFailure,
  type BuildResult,
  type Message,
  type Metafile,
  type OutputFile,
  stop,
} from 'esbuild';
import { failure, shownPath, type Outcome } from './failure.ts';
import { BUILD_OPTIONS, refuseNative, runningCopy } from './plugin.ts';
import { hashOf, versionsOf } from './version.ts';

export interface BundleRequest {
  /** Absolute and real, as all paths here. */
  readonly files: readonly string[];
  readonly directory: string;
  readonly buildDirectory: string;
  readonly cwd: string;
  /** The URL that `import … from 'millrace'` means. */
  readonly packageEntry: string;
}

export interface Bundle {
  /** Of everything in it: the same sources in the same places make the same bundle. */
  readonly hash: string;
  /** Path relative to the bundle's folder → content. */
  readonly contents: ReadonlyMap<string, Uint8Array>;
  readonly entries: readonly BundledFile[];
  /** The source files outside of node_modules, absolute, sorted. */
  readonly inputs: string[];
}

export interface BundledFile {
  readonly file: string;
  /** Relative to the bundle's folder. */
  readonly output: string;
  readonly version: string;
}

/**
 * Bundles all functions in one go, so that what several of them import exists once. Nothing is written: the name of
 * the folder is the hash of what goes into it. Source maps hold for `<buildDirectory>/<any one name>/`.
 */
export async function bundleFunctions(request: BundleRequest): Promise<Outcome<Bundle>> {
  const { files, directory, buildDirectory, cwd, packageEntry } = request;
  const folder = join(buildDirectory, 'bundle');
  let result: BuildResult<{ write: false; metafile: true }>;
  try {
    result = await build({
      ...BUILD_OPTIONS,
      // The extension stays in the name: a.ts and a.js may lie side by side.
      entryPoints: files.map((file) => ({ in: file, out: relative(directory, file) })),
      // Paths in the output are relative to this, so that where the process was started does not change the hash.
      absWorkingDir: directory,
      outdir: folder,
      nodePaths: [join(cwd, 'node_modules')],
      plugins: [runningCopy(packageEntry), refuseNative],
    });
  } catch (thrown) {
    return { ok: false, failures: buildFailures(thrown, directory, cwd) };
  }
  return { ok: true, value: toBundle(result, request, folder) };
}

function toBundle(
  { outputFiles, metafile }: { outputFiles: readonly OutputFile[]; metafile: Metafile },
  { files, directory, packageEntry }: BundleRequest,
  folder: string,
): Bundle {
  const contents = new Map(
    outputFiles.map((output) => [inBundle(folder, output.path), output.contents]),
  );
  const imports = new Map<string, string[]>();
  for (const [path, output] of Object.entries(metafile.outputs)) {
    const local = output.imports.filter((one) => !one.external);
    const targets = local.map((one) => inBundle(folder, resolve(directory, one.path)));
    imports.set(inBundle(folder, resolve(directory, path)), targets);
  }
  const texts = new Map(outputFiles.map((output) => [inBundle(folder, output.path), output.text]));
  const versionOf = versionsOf({ texts, imports, packageEntry });
  const entries = files.map((file) => {
    const output = `${relative(directory, file)}.js`;
    return { file, output, version: versionOf(output) };
  });
  const inputs = Object.keys(metafile.inputs)
    .map((path) => resolve(directory, path))
    .filter((path) => !path.split(sep).includes('node_modules'))
    .sort();
  return { hash: hashOf(contents), contents, entries, inputs };
}

function inBundle(folder: string, path: string): string {
  return relative(folder, path);
}

/** What esbuild says, with the user's own file and line. */
export function buildFailures(thrown: unknown, directory: string, cwd: string) {
  const errors: readonly Message[] = (thrown as Partial<BuildFailure>).errors ?? [];
  // Not a mistake in the sources: esbuild itself could not be started, or refused what it was asked.
  if (errors.length === 0)
    return [failure(shownPath(directory, cwd), undefined, `cannot be built: ${String(thrown)}`)];
  return errors.map(({ location, text }) => {
    if (location === null) return failure(shownPath(directory, cwd), undefined, text);
    const file = location.namespace === 'file' || location.namespace === '' ? location.file : '';
    return failure(shownPath(resolve(directory, file), cwd), location.line, text);
  });
}

/**
 * Ends esbuild's own process, which stays with 50 MB after a build; the next build starts it again. To be called when
 * no build is under way in this process.
 */
export async function releaseBundler(): Promise<void> {
  await stop();
}
