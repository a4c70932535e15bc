import { randomUUID } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf, MillraceError } from '../core/errors.ts';
import { identityOf, isAlive } from './identity.ts';
import { formatLock, handOver, type Holder, leave, readLock, take } from './lock.ts';

/** Longer than an orphaned broker may take to end (see GUARD in process.ts). */
const ORPHAN_WAIT_MS = 7_000;
const POLL_MS = 50;

export interface StoreLock {
  /** Once the server runs: the lock is the server's, so that it outlives a killed owner. */
  handTo(serverPid: number): Promise<void>;
  release(): Promise<void>;
}

export function unwritable(storeDir: string, thrown: unknown): MillraceError {
  const message = `The broker's store ${storeDir} cannot be written (${messageOf(thrown)}); make that folder writable or choose another one.`;
  return new MillraceError('BROKER_STORE_UNWRITABLE', message, { cause: thrown });
}

/** As `mkdir` with `recursive`, which tries for ever where a folder refuses all names, as /proc does. */
async function makeFolder(path: string, parents = true): Promise<void> {
  try {
    await mkdir(path);
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    if (code !== 'ENOENT' || !parents) throw thrown;
    await makeFolder(dirname(path));
    await makeFolder(path, false);
  }
}

/** Makes the folder and writes a file into it. Throws BROKER_STORE_UNWRITABLE. */
export async function prepareStore(storeDir: string): Promise<void> {
  const probe = join(storeDir, `.probe-${randomUUID()}`);
  try {
    await makeFolder(storeDir);
    await writeFile(probe, '');
    await rm(probe);
  } catch (thrown) {
    throw unwritable(storeDir, thrown);
  }
}

/** A broker whose owner was killed is on its way out: wait for it rather than refuse a quick restart. Never throws. */
export async function waitForOrphan(storeDir: string): Promise<void> {
  const deadline = performance.now() + ORPHAN_WAIT_MS;
  while (performance.now() < deadline) {
    const holder = (await readLock(join(storeDir, 'broker.pid')).catch(() => undefined))?.holder;
    if (holder === undefined || isAlive(holder.owner) || !isAlive(holder.server)) return;
    await delay(POLL_MS);
  }
}

/**
 * Two servers on one store would destroy it, so `<storeDir>/broker.pid` names the one that runs. The lock of
 * processes that are gone is taken over. Throws BROKER_STORE_UNWRITABLE with the living holder's pid.
 */
export async function lockStore(storeDir: string): Promise<StoreLock> {
  const path = join(storeDir, 'broker.pid');
  const owner = identityOf(process.pid);
  let mine = formatLock({ server: owner, owner });
  let other: Holder | undefined;
  try {
    other = await take(path, mine);
  } catch (thrown) {
    throw unwritable(storeDir, thrown);
  }
  if (other !== undefined) {
    const { pid } = isAlive(other.server) ? other.server : other.owner;
    const message = `The broker's store ${storeDir} is in use by process ${pid}; stop that one or choose another store.`;
    throw new MillraceError('BROKER_STORE_UNWRITABLE', message, { details: { storeDir, pid } });
  }
  return {
    async handTo(serverPid) {
      const next = formatLock({ server: identityOf(serverPid), owner });
      await handOver(path, next);
      mine = next;
    },
    release: () => leave(path, mine),
  };
}
