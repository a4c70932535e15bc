/**
 * A lock file that survives its holder's death without blocking the next one.
 *
 * L1 A lock appears whole (link, rename), so nobody reads half of one.
 * L2 While its owner or its server lives, nobody but the owner changes or removes it.
 * L3 A dead lock is replaced only by who holds the claim on it: a second lock, named after the dead one's text.
 *    Whoever comes late with that claim finds another text in the lock and changes nothing. A claim whose
 *    holder died is itself a dead lock.
 */
import { createHash, randomUUID } from 'node:crypto';
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { identityOf, isAlive, type ProcessIdentity } from './identity.ts';

const MAX_ATTEMPTS = 40;
const RETRY_MS = 25;
/** Claims on claims on claims: each level needs a process that died within a few milliseconds. */
const MAX_CLAIMS = 4;

/** Who uses what is locked: the server itself, and the process that started it and takes it down. */
export interface Holder {
  server: ProcessIdentity;
  owner: ProcessIdentity;
}

export interface Lock {
  text: string;
  /** Absent if the text is none of ours, for example empty after a power cut: a dead lock. */
  holder?: Holder;
}

/** No two locks have the same text. */
export function formatLock(holder: Holder): string {
  return JSON.stringify({ ...holder, id: randomUUID() });
}

function parseHolder(text: string): Holder | undefined {
  try {
    const { server, owner } = JSON.parse(text) as Partial<Holder>;
    const whole = Number.isInteger(server?.pid) && Number.isInteger(owner?.pid);
    return whole && server && owner ? { server, owner } : undefined;
  } catch {
    return undefined;
  }
}

export async function readLock(path: string): Promise<Lock | undefined> {
  try {
    const text = await readFile(path, 'utf8');
    const holder = parseHolder(text);
    return holder === undefined ? { text } : { text, holder };
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw thrown;
  }
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw thrown;
  }
}

/** L3. False if somebody else does it, or did. */
async function replaceDead(path: string, dead: string, draft: string, depth: number) {
  const self = identityOf(process.pid);
  const claim = `${path}.${createHash('sha256').update(dead).digest('hex').slice(0, 16)}`;
  const claimText = formatLock({ server: self, owner: self });
  if ((await take(claim, claimText, depth + 1)) !== undefined) return false;
  try {
    if ((await readLock(path))?.text !== dead) return false;
    await rename(draft, path);
    return true;
  } finally {
    await leave(claim, claimText);
  }
}

/** Undefined when the lock was taken with `text`, otherwise who holds it. Throws what the file system throws. */
export async function take(path: string, text: string, depth = 0): Promise<Holder | undefined> {
  const draft = `${path}.${randomUUID()}`;
  let last: Holder | undefined;
  try {
    await writeFile(draft, text);
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      if (await linked(draft, path)) return undefined;
      const found = await readLock(path);
      if (found === undefined) continue;
      last = found.holder;
      if (last !== undefined && isAlive(last.server)) return last;
      // With a living owner the server has just ended, and the owner is about to remove the lock (L2).
      const isDead = last === undefined || !isAlive(last.owner);
      if (isDead && depth < MAX_CLAIMS && (await replaceDead(path, found.text, draft, depth))) {
        return undefined;
      }
      await delay(RETRY_MS);
    }
  } finally {
    await rm(draft, { force: true });
  }
  if (last !== undefined) return last;
  throw new Error(`${path} changes hands all the time`);
}

/** For the owner: the same lock with another text. */
export async function handOver(path: string, text: string): Promise<void> {
  const draft = `${path}.${randomUUID()}`;
  await writeFile(draft, text);
  await rename(draft, path);
}

/** For the owner: removes the lock if it still has this text. */
export async function leave(path: string, text: string): Promise<void> {
  if ((await readLock(path))?.text === text) await rm(path, { force: true });
}
