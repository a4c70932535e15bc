/** The nats-server of a test, or three that are a cluster: started, killed and started again. */
import { join } from 'node:path';
import {
  type Broker,
  findBroker,
  freeClusterPorts,
  startBroker,
  startCluster,
} from '../broker/index.ts';

export interface TestServers {
  /** By server. */
  readonly urls: readonly string[];
  /** Resolves when it has ended (SIGKILL). */
  kill(server: number): Promise<void>;
  /** Of one that was killed. Resolves when all are one cluster again. */
  restart(server: number): Promise<void>;
  stop(): Promise<void>;
}

/** With an empty store in this folder, on free ports of this machine. */
export async function startServers(count: 1 | 3, folder: string): Promise<TestServers> {
  const binary = await findBroker({});
  if (count === 3) {
    let stopped = false;
    const cluster = await startCluster({
      binary,
      directory: folder,
      ports: await freeClusterPorts(),
      // Whose connection goes through a link must not hear of a way past it.
      flags: ['--no_advertise'],
    });
    return {
      urls: cluster.urls,
      kill: async (server) => killed(cluster.servers[server]),
      async restart(server) {
        if (stopped) return;
        await cluster.restart(server);
        await cluster.ready();
      },
      async stop() {
        stopped = true;
        await cluster.stop();
      },
    };
  }
  const storeDir = join(folder, 'broker');
  let broker = await startBroker({ binary, port: 0, storeDir });
  const { port, url } = broker;
  let stopped = false;
  return {
    urls: [url],
    kill: async () => killed(broker),
    async restart() {
      if (stopped) return;
      broker = await startBroker({ binary, port, storeDir });
    },
    async stop() {
      stopped = true;
      await broker.stop();
    },
  };
}

async function killed(server: Broker | undefined): Promise<void> {
  if (server === undefined || server.status() !== undefined) return;
  process.kill(server.pid, 'SIGKILL');
  await server.exited;
}
