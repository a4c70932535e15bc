import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findBroker } from '../../src/broker/index.ts';
import { assertChromium } from './chromium.ts';
import { PID_DIRECTORY, isAlive } from './processes.ts';

/**
 * Fetches nats-server once, before tests that run side by side would all want to. At the end no broker and no worker
 * that a test started may be left: then the run fails.
 */
export default async function setup(): Promise<() => Promise<void>> {
  const { path } = await findBroker({ onProgress: (line) => process.stderr.write(`${line}\n`) });
  process.env['NATS_SERVER_BIN'] = path;
  const skipped = assertChromium();
  if (skipped !== undefined) process.stderr.write(`${skipped}\n`);
  const pids = await mkdtemp(join(tmpdir(), 'millrace-pids-'));
  process.env[PID_DIRECTORY] = pids;
  return async () => {
    const left = (await readdir(pids)).map(Number).filter(isAlive);
    for (const pid of left) process.kill(pid, 'SIGKILL');
    await rm(pids, { recursive: true, force: true });
    if (left.length > 0) throw new Error(`Tests left processes behind: ${left.join(', ')}.`);
  };
}
