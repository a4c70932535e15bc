/**
 * Three servers on this machine that are one cluster, with the files of config/cluster: for trying, tests and benchmarks.
 * Whoever needs a cluster to survive the loss of a machine starts the servers on three of them.
 */
import { randomInt } from 'node:crypto';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { MillraceError } from '../core/errors.ts';
import type { BrokerBinary } from './find.ts';
import { freePort, HOST } from './port.ts';
import { startBroker, type Broker } from './start.ts';

export const CLUSTER_SERVERS = 3;

export interface ClusterPorts {
  client: number;
  route: number;
  monitor: number;
}

export interface StartClusterOptions {
  binary: BrokerBinary;
  /** The servers keep what they have in its folder `.millrace/cluster`, as the files say. */
  directory: string;
  /** By server. Default: those of the files. */
  ports?: readonly ClusterPorts[];
  /** Where clients and other servers are to go, by server, if not to the server itself: a proxy. */
  advertised?: readonly { client: number; route: number }[];
  /** More of the command line of each server. */
  flags?: readonly string[];
  onLog?: (server: number, line: string) => void;
  /** Default 30,000. */
  readyTimeoutMs?: number;
}

export interface BrokerCluster {
  /** All servers, for `--server`. */
  readonly urls: string[];
  readonly ports: readonly ClusterPorts[];
  /** By server, as JetStream names them. */
  readonly names: string[];
  /** By server; replaced by `restart`. */
  readonly servers: Broker[];
  /** Starts a server that has ended, on the same ports and store. Resolves when it answers clients. */
  restart(server: number): Promise<void>;
  /** Resolves when all servers that run agree on a leader and have caught up. Throws BROKER_FAILED. */
  ready(): Promise<void>;
  /** Ends all servers. */
  stop(): Promise<void>;
}

const CONFIG_DIRECTORY = fileURLToPath(new URL('../../config/cluster/', import.meta.url));
const READY_TIMEOUT_MS = 30_000;
const HEALTH_TIMEOUT_MS = 1_000;
const POLL_MS = 50;
const FIRST_FREE_PORT = 20_000;
const LAST_FREE_PORT = 32_000;
const MAX_PORT_TRIES = 20;

/** The ports in config/cluster, or as many above another first one. */
export function clusterPorts(first = 4222): ClusterPorts[] {
  return Array.from({ length: CLUSTER_SERVERS }, (_, server) => ({
    client: first + server,
    route: first + 2_000 + server,
    monitor: first + 4_000 + server,
  }));
}

/**
 * Ports that were free a moment ago; below those that systems give to connections, so that one is still free when its server
 * is started again.
 */
export async function freeClusterPorts(): Promise<ClusterPorts[]> {
  const taken = new Set<number>();
  const port = async (): Promise<number> => {
    for (let tries = 1; ; tries += 1) {
      const drawn = randomInt(FIRST_FREE_PORT, LAST_FREE_PORT);
      if (taken.has(drawn)) continue;
      taken.add(drawn);
      try {
        return await freePort(drawn);
      } catch (error) {
        if (tries >= MAX_PORT_TRIES) throw error;
      }
    }
  };
  const ports: ClusterPorts[] = [];
  for (let server = 0; server < CLUSTER_SERVERS; server += 1) {
    ports.push({ client: await port(), route: await port(), monitor: await port() });
  }
  return ports;
}

/**
 * Starts three servers and waits until they are one cluster. They end with `stop` or with this process. Throws as `startBroker`
 * does; nothing is left running then.
 */
export async function startCluster(options: StartClusterOptions): Promise<BrokerCluster> {
  const { binary, onLog, ports = clusterPorts() } = options;
  const directory = resolve(options.directory);
  const storeDir = join(directory, '.millrace/cluster');
  const advertised = options.advertised ?? ports;
  const routes = advertised.map(({ route }) => `nats://${HOST}:${route}`).join(',');
  const startServer = async (server: number): Promise<Broker> => {
    const { client, route, monitor } = ports[server] as ClusterPorts;
    const file = `server-${server + 1}`;
    const said = {
      port: client,
      http_port: monitor,
      cluster: `nats://${HOST}:${route}`,
      routes,
      client_advertise: `${HOST}:${advertised[server]?.client}`,
      cluster_advertise: `${HOST}:${advertised[server]?.route}`,
    };
    const own = Object.entries(said).flatMap(([flag, value]) => [`--${flag}`, `${value}`]);
    return startBroker({
      binary,
      port: client,
      storeDir: join(storeDir, file),
      cwd: directory,
      configFile: join(CONFIG_DIRECTORY, `${file}.conf`),
      name: nameOf(server),
      flags: [...own, ...(options.flags ?? [])],
      ...(onLog === undefined ? {} : { onLog: (line) => onLog(server, line) }),
    });
  };
  const started = await Promise.allSettled(ports.map(async (_, server) => startServer(server)));
  const servers = started.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
  const stop = async (): Promise<void> => {
    await Promise.all(servers.map(async (server) => server.stop()));
  };
  const failed = started.find((each) => each.status === 'rejected');
  if (failed !== undefined) {
    await stop();
    throw failed.reason;
  }
  const ready = async (): Promise<void> => {
    const deadlineMs = performance.now() + (options.readyTimeoutMs ?? READY_TIMEOUT_MS);
    for (;;) {
      const healthy = await Promise.all(ports.map(async ({ monitor }) => isHealthy(monitor)));
      if (healthy.every(Boolean)) return;
      if (performance.now() >= deadlineMs) {
        throw new MillraceError(
          'BROKER_FAILED',
          `The cluster was not ready in time; read ${storeDir}/server-*/broker.log for the reason.`,
        );
      }
      await delay(POLL_MS);
    }
  };
  const cluster: BrokerCluster = {
    urls: servers.map(({ url }) => url),
    names: ports.map((_, server) => nameOf(server)),
    ports,
    servers,
    async restart(server) {
      servers[server] = await startServer(server);
    },
    ready,
    stop,
  };
  try {
    await ready();
  } catch (error) {
    await stop();
    throw error;
  }
  return cluster;
}

/** As in the files. */
function nameOf(server: number): string {
  return `millrace-${server + 1}`;
}

/** As the server itself sees it: JetStream runs, its leader is known, and what it should have is there. */
async function isHealthy(monitorPort: number): Promise<boolean> {
  try {
    const { ok } = await fetch(`http://${HOST}:${monitorPort}/healthz`, {
      signal: AbortSignal.timeout(HEALTH_TIMEOUT_MS),
    });
    return ok;
  } catch {
    return false;
  }
}
