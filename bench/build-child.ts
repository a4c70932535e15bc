import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/**
 * The measured processes run as plain JavaScript, without a loader, so that nothing but the peers is measured. The file lies where the peers' packages are found and where git,
 * prettier and the linter do not look. Returns its path.
 */
export async function buildChild(): Promise<string> {
  const outfile = here('./peers/node_modules/.cache/child.mjs');
  await mkdir(here('./peers/node_modules/.cache'), { recursive: true });
  await build({
    entryPoints: [here('./child.ts')],
    outfile,
    bundle: true,
    packages: 'external',
    platform: 'node',
    target: 'node20',
    format: 'esm',
    logLevel: 'warning',
  });
  return outfile;
}
