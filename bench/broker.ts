import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  findBroker,
  freeClusterPorts,
  startBroker,
  startCluster,
  type Broker,
  type BrokerCluster,
} from '../src/broker/index.ts';

/** When the broker syncs what it stores: before each acknowledgement as millrace's own does, or every two minutes as NATS does by default. */
export type Sync = 'always' | 'default';

const SYNC_LINE = /^\s*sync_interval:.*$/m;
const CONFIG = new URL('../config/nats-server.conf', import.meta.url);

export type BenchBroker = Pick<Broker, 'url' | 'pid' | 'version' | 'stop'>;

/**
 * A broker of the benchmark's own, the one that `millrace dev` would start: on a free loopback port, its store in
 * a temporary directory that goes away with it.
 */
export async function startBenchBroker(sync: Sync = 'always'): Promise<BenchBroker> {
  const binary = await findBroker();
  const storeDir = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
  const removeStore = (): Promise<void> => rm(storeDir, { recursive: true, force: true });
  try {
    const configFile = join(storeDir, 'bench.conf');
    const config = await readFile(CONFIG, 'utf8');
    await writeFile(configFile, sync === 'always' ? config : config.replace(SYNC_LINE, ''));
    const broker = await startBroker({ binary, port: 0, storeDir, configFile });
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

/** Three servers with the files of config/cluster, on free ports; their stores go away with them. */
export async function startBenchCluster(): Promise<BenchBroker & { cluster: BrokerCluster }> {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
  const removeStores = (): Promise<void> => rm(directory, { recursive: true, force: true });
  try {
    const ports = await freeClusterPorts();
    const cluster = await startCluster({ binary: await findBroker(), directory, ports });
    const [first] = cluster.servers;
    const stop = async (): Promise<void> => {
      try {
        await cluster.stop();
      } finally {
        await removeStores();
      }
    };
    const { pid = 0, version = '' } = first ?? {};
    return { url: cluster.urls.join(','), pid, version, stop, cluster };
  } catch (error) {
    await removeStores();
    throw error;
  }
}
