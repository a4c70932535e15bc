import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  findBroker,
  freeClusterPorts,
  startCluster,
  type BrokerCluster,
} from '../../src/broker/index.ts';
import { notePid } from './processes.ts';
import { Proxy } from './proxy.ts';

interface MonitoredStream {
  name: string;
  cluster?: { leader?: string };
}

/**
 * Three real servers that are one cluster, with the files of config/cluster. All connections, of clients as well as between the
 * servers, go through proxies, so that the network can be slow or in parts.
 */
export class TestCluster {
  readonly urls: string[];
  readonly directory: string;
  readonly #cluster: BrokerCluster;
  readonly #clients: Proxy[];
  readonly #routes: Proxy[];

  private constructor(
    directory: string,
    cluster: BrokerCluster,
    clients: Proxy[],
    routes: Proxy[],
  ) {
    this.directory = directory;
    this.#cluster = cluster;
    this.#clients = clients;
    this.#routes = routes;
    this.urls = clients.map(({ port }) => `nats://127.0.0.1:${port}`);
    for (const { pid } of cluster.servers) notePid(pid);
  }

  /** `flags`: more of each server's command line; `parent`: the folder in which all three have their stores. */
  static async start(flags: readonly string[] = [], parent = tmpdir()): Promise<TestCluster> {
    const directory = await mkdtemp(join(parent, 'millrace-cluster-'));
    const ports = await freeClusterPorts();
    const clients = await Promise.all(ports.map(async ({ client }) => Proxy.open(client)));
    const routes = await Promise.all(ports.map(async ({ route }) => Proxy.open(route)));
    const cluster = await startCluster({
      binary: await findBroker({}),
      directory,
      ports,
      advertised: ports.map((_, server) => ({
        client: clients[server]?.port ?? 0,
        route: routes[server]?.port ?? 0,
      })),
      flags,
    });
    return new TestCluster(directory, cluster, clients, routes);
  }

  /** For `--server`. */
  get url(): string {
    return this.urls.join(',');
  }

  /** Past the proxies. */
  directUrl(server: number): string {
    return this.#cluster.urls[server] ?? '';
  }

  monitor(server: number): string {
    return `http://127.0.0.1:${this.#cluster.ports[server]?.monitor}`;
  }

  pid(server: number): number {
    const { pid } = this.#cluster.servers[server] ?? {};
    // Not 0, which would mean all processes of the test's group.
    if (pid === undefined) throw new Error(`there is no server ${server}`);
    return pid;
  }

  async kill(server: number): Promise<void> {
    process.kill(this.pid(server), 'SIGKILL');
    await this.#cluster.servers[server]?.exited;
  }

  /** Of one that has ended. */
  async restart(server: number): Promise<void> {
    await this.#cluster.restart(server);
    notePid(this.pid(server));
  }

  /** Resolves when all servers are healthy by their own word. */
  async ready(): Promise<void> {
    return this.#cluster.ready();
  }

  /** Nobody hears this server, and it hears nobody; what it has open stays open. `clients`: neither do clients. */
  isolateServer(server: number, clients: boolean): void {
    const name = `millrace-${server + 1}`;
    this.#routes.forEach((proxy, to) => proxy.apart((from) => to === server || from === name));
    if (clients) this.#clients[server]?.apart(() => true);
  }

  /** No server hears clients that are named so. */
  isolateClient(name: string): void {
    for (const proxy of this.#clients) proxy.apart((from) => from === name);
  }

  heal(): void {
    for (const proxy of [...this.#clients, ...this.#routes]) proxy.together();
  }

  /** What goes between servers, and to clients, takes so much longer each way. */
  slow(delayMs: number): void {
    for (const proxy of [...this.#clients, ...this.#routes]) proxy.delayMs = delayMs;
  }

  /** The server that leads the stream, by the word of the servers that run; undefined while none does. */
  async leaderOf(stream: string): Promise<number | undefined> {
    for (let server = 0; server < this.urls.length; server += 1) {
      const leader = await this.#leaderBy(server, stream);
      if (leader === undefined) continue;
      const found = Number(leader.slice(leader.lastIndexOf('-') + 1)) - 1;
      // A server that was killed is still believed to lead for some seconds.
      if (this.#cluster.servers[found]?.status() === undefined) return found;
    }
    return undefined;
  }

  async stop(): Promise<void> {
    this.heal();
    for (const { pid, status } of this.#cluster.servers) {
      // Nothing of theirs is needed any more: they need not end in order.
      if (status() === undefined) process.kill(pid, 'SIGKILL');
    }
    await this.#cluster.stop();
    await Promise.all([...this.#clients, ...this.#routes].map(async (proxy) => proxy.close()));
    await rm(this.directory, { recursive: true, force: true });
  }

  async #leaderBy(server: number, stream: string): Promise<string | undefined> {
    try {
      const answer = await fetch(`${this.monitor(server)}/jsz?streams=true&accounts=true`, {
        signal: AbortSignal.timeout(1_000),
      });
      const { account_details: accounts = [] } = (await answer.json()) as {
        account_details?: { stream_detail?: MonitoredStream[] }[];
      };
      const streams = accounts.flatMap(({ stream_detail: details = [] }) => details);
      return streams.find(({ name }) => name === stream)?.cluster?.leader;
    } catch {
      return undefined;
    }
  }
}
