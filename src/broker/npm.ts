import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
/** npm itself retries a slow registry for about this long. */
const NPM_TIMEOUT_MS = 5 * 60_000;

/** Also true of npx, which sets the same variable; pnpm and yarn set it to themselves and pack something else. */
const IS_NPM = /[\\/]npm-cli\.[cm]?js$/;

function npmCommand(env: NodeJS.ProcessEnv): [command: string, ...first: string[]] {
  const cli = env['npm_execpath'];
  return cli !== undefined && IS_NPM.test(cli) ? [process.execPath, cli] : ['npm'];
}

/** Why npm failed: its last `npm error` line, or what the operating system said. */
function reasonOf(thrown: unknown): string {
  const { stderr, code, message } = thrown as {
    stderr?: string;
    code?: unknown;
    message?: string;
  };
  if (code === 'ENOENT') return 'npm was not found on the PATH';
  const lines = (stderr ?? '').split('\n').filter((line) => /^npm err(or|!)/i.test(line));
  const telling = lines.find((line) => !/^npm err(or|!) (code|errno|syscall)\b/i.test(line));
  return (telling ?? message ?? String(thrown)).split('\n')[0]?.slice(0, 300) ?? '';
}

/**
 * The tarball of a published package, got by the npm client, so that its registry, proxy and credentials apply.
 * `folder` must be empty. Nothing of the package is run or unpacked. Throws an Error with npm's reason.
 */
export async function downloadPackage(
  spec: string,
  folder: string,
  env: NodeJS.ProcessEnv,
  signal?: AbortSignal,
): Promise<Buffer> {
  const [command, ...first] = npmCommand(env);
  const args = [...first, 'pack', spec, '--pack-destination', folder, '--ignore-scripts'];
  try {
    await run(command, args, { env, timeout: NPM_TIMEOUT_MS, ...(signal && { signal }) });
  } catch (thrown) {
    throw new Error(reasonOf(thrown), { cause: thrown });
  }
  const name = (await readdir(folder)).find((file) => file.endsWith('.tgz'));
  if (name === undefined) throw new Error(`npm pack ${spec} left no tarball`);
  return readFile(join(folder, name));
}
