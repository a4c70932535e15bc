import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findBroker, startBroker, type Broker } from '../src/broker/index.ts';

export type BenchBroker = Pick<Broker, 'url' | 'pid' | 'version' | 'stop'>;

/**
 * A broker of the benchmark's own, the one that `millrace dev` would start: on a free loopback port, its store in
 * a temporary directory that goes away with it.
 */
export async function startBenchBroker(): Promise<BenchBroker> {
  const binary = await findBroker();
  const storeDir = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
  const removeStore = (): Promise<void> => rm(storeDir, { recursive: true, force: true });
  try {
    const broker = await startBroker({ binary, port: 0, storeDir });
    const { url, pid, version } = broker;
    const stop = async (): Promise<void> => {
      try {
        await broker.stop();
      } finally {
        await removeStore();
      }
    };
    return { url, pid, version, stop };
  } catch (error) {
    await removeStore();
    throw error;
  }
}
