/** A broker, or three that are a cluster, and workers, all processes of their own, and what can happen to them. */
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { MillraceError, type Mill } from 'millrace';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { TestCluster } from '../support/broker-cluster.ts';
import { Command } from '../support/cli.ts';
import type { Random } from '../support/random.ts';
import { Disk } from '../support/disk.ts';
import { until } from '../support/wait.ts';

/** What a worker says that could not start for want of a broker. */
const NO_BROKER = /\[(?:UNAVAILABLE|CONNECTION_FAILED|TIMEOUT)\]/;
/** What a worker says that will never serve state, though the broker has JetStream. */
const NO_STATE = 'there is no state on this worker';
/** With three servers, everything is synced three times on the same disk. */
const START_MS = 120_000;
/** How long everything may take, after the last fault, until nothing is open any more. */
const SETTLE_MS = 30_000;

/** Of all journals and claims. */
const LOG_STREAM = 'millrace-log';

export interface Fault {
  what: string;
  startMs: number;
  endMs: number;
}

export interface ClusterOptions {
  /** One, or three with replicas of everything. */
  servers?: 1 | 3 | undefined;
  /** What is done at its broker before workers start. */
  prepare?: (url: string) => Promise<void>;
  /** All brokers have their stores on one whose power can be cut. */
  disk?: boolean | undefined;
}

export class Cluster {
  readonly faults: Fault[] = [];
  /** What workers have said that ended in a way that nobody wanted. */
  readonly broken: string[] = [];
  readonly #broker: TestBroker | undefined;
  readonly #servers: TestCluster | undefined;
  readonly #disk: Disk | undefined;
  readonly #functions: string;
  readonly #workers = new Set<Command>();
  readonly #stopped = new Set<Command>();

  private constructor(broker: TestBroker | TestCluster, functions: string, disk?: Disk) {
    this.#disk = disk;
    this.#broker = broker instanceof TestCluster ? undefined : broker;
    this.#servers = broker instanceof TestCluster ? broker : undefined;
    this.#functions = fileURLToPath(new URL(`../fixtures/${functions}`, import.meta.url));
  }

  /** `functions`: a folder in test/fixtures. */
  static async start(
    workers: number,
    functions: string,
    { servers = 1, prepare, disk }: ClusterOptions = {},
  ): Promise<Cluster> {
    const own = disk === true ? await Disk.open() : undefined;
    const at = own === undefined ? {} : { directory: own.directory };
    const broker =
      servers === 1 ? await startTestBroker(at) : await TestCluster.start([], at.directory);
    const cluster = new Cluster(broker, functions, own);
    try {
      await prepare?.(cluster.url);
      await Promise.all(Array.from({ length: workers }, async () => cluster.addWorker()));
    } catch (error) {
      await cluster.stop();
      throw error;
    }
    return cluster;
  }

  /** Of all servers, with commas. */
  get url(): string {
    return this.#servers?.url ?? this.#broker?.url ?? '';
  }

  get replicas(): number {
    return this.#servers === undefined ? 1 : 3;
  }

  /** Started again, as a supervisor does it, while there is no broker to start with. */
  async addWorker(): Promise<void> {
    for (;;) {
      const where = ['--server', this.url, '--replicas', `${this.replicas}`];
      const worker = new Command(['worker', ...where, '--functions', this.#functions]);
      let ready = false;
      this.#workers.add(worker);
      void worker.finished.then(({ status, signal, stdout, stderr }) => {
        // Those that are to end are taken out before.
        if (!this.#workers.delete(worker) || (!ready && NO_BROKER.test(stderr))) return;
        this.broken.push(`A worker ended by itself (${status ?? signal}): ${stdout}${stderr}`);
      });
      try {
        await worker.says('is ready', START_MS);
        ready = true;
        if (worker.stdout.includes(NO_STATE)) this.broken.push(worker.stdout);
        return;
      } catch (error) {
        if (!worker.ended) throw error;
        // It was picked for the next fault, which starts another one.
        if (worker.child.signalCode === 'SIGKILL') return;
        if (!NO_BROKER.test((await worker.finished).stderr)) throw error;
      }
    }
  }

  /** Kills a worker with SIGKILL; another one is started at once. */
  async replaceWorker(random: Random): Promise<void> {
    const victim = this.#pick(random);
    if (victim === undefined) return;
    await this.#during('a worker is killed and replaced', async () => {
      this.#workers.delete(victim);
      await victim.end('SIGKILL');
      await this.addWorker();
    });
  }

  /** Stops a worker in the middle of what it does, for longer than it takes to lose its partitions, and continues it. */
  async pauseWorker(random: Random, forMs: number): Promise<void> {
    const victim = this.#pick(random);
    if (victim === undefined) return;
    await this.#during(`a worker is stopped for ${Math.round(forMs)} ms`, async () => {
      this.#stopped.add(victim);
      victim.child.kill('SIGSTOP');
      await delay(forMs);
      victim.child.kill('SIGCONT');
      this.#stopped.delete(victim);
    });
  }

  /** Kills all workers; as many others then have nothing but the logs. */
  async startAfresh(): Promise<void> {
    const workers = [...this.#workers];
    this.#workers.clear();
    await Promise.all(workers.map(async (worker) => worker.end('SIGKILL')));
    await Promise.all(workers.map(async () => this.addWorker()));
  }

  async killBroker(downMs: number): Promise<void> {
    await this.#during(`the broker is killed and away for ${Math.round(downMs)} ms`, async () => {
      await this.#broker?.kill();
      await delay(downMs);
      await this.#broker?.restart();
    });
  }

  /** Of a cluster: one server is killed, and started again after a while. Resolves when all are one cluster again. */
  async killServer(server: number, downMs: number): Promise<void> {
    const servers = this.#cluster();
    await this.#during(
      `server ${server} is killed and away for ${Math.round(downMs)} ms`,
      async () => {
        await servers.kill(server);
        await delay(downMs);
        await servers.restart(server);
        await servers.ready();
      },
    );
  }

  /** The server that leads the stream of all journals. */
  async killLeader(downMs: number): Promise<void> {
    const servers = this.#cluster();
    const leader = await until('the log has a leader', async () => {
      const found = await servers.leaderOf(LOG_STREAM);
      return found === undefined ? undefined : { found };
    });
    await this.killServer(leader.found, downMs);
  }

  /** No other server hears it, nor do clients if `clients`; it runs on. */
  async isolateServer(server: number, forMs: number, clients: boolean): Promise<void> {
    const servers = this.#cluster();
    const what = `server ${server} is isolated${clients ? ', from clients as well,' : ''}`;
    await this.#during(`${what} for ${Math.round(forMs)} ms`, async () => {
      servers.isolateServer(server, clients);
      await delay(forMs);
      servers.heal();
      await servers.ready();
    });
  }

  /** A worker that runs hears nothing and is not heard; its connection stays open. */
  async isolateWorker(random: Random, forMs: number): Promise<void> {
    const servers = this.#cluster();
    const victim = this.#pick(random);
    if (victim === undefined) return;
    await this.#during(`a worker is isolated for ${Math.round(forMs)} ms`, async () => {
      servers.isolateClient(`millrace-worker-${victim.child.pid}`);
      await delay(forMs);
      servers.heal();
    });
  }

  async slowLinks(delayMs: number, forMs: number): Promise<void> {
    const servers = this.#cluster();
    await this.#during(
      `all links take ${delayMs} ms each way for ${Math.round(forMs)} ms`,
      async () => {
        servers.slow(delayMs);
        await delay(forMs);
        servers.slow(0);
      },
    );
  }

  /** All servers are killed at the same moment, and started again. */
  async restartAll(): Promise<void> {
    const servers = this.#cluster();
    await this.#during('all servers are killed and started again', async () => {
      const all = servers.urls.map((_, server) => server);
      await Promise.all(all.map(async (server) => servers.kill(server)));
      await Promise.all(all.map(async (server) => servers.restart(server)));
      await servers.ready();
    });
  }

  /** Of all brokers at once; what they have not synced is gone. Workers are on machines of their own. */
  async cutPower(downMs: number): Promise<void> {
    const disk = this.#disk;
    if (disk === undefined) throw new Error('this takes a disk whose power can be cut');
    await this.#during(`the power is away for ${Math.round(downMs)} ms`, async () => {
      const servers = this.#servers;
      const all = servers?.urls.map((_, server) => server) ?? [];
      const pids =
        servers === undefined
          ? [this.#broker?.pid ?? -1]
          : all.map((server) => servers.pid(server));
      await disk.cutPower(pids, async () => {
        await this.#broker?.kill();
        await Promise.all(all.map(async (server) => servers?.kill(server)));
      });
      await delay(downMs);
      await this.#broker?.restart();
      await Promise.all(all.map(async (server) => servers?.restart(server)));
      await servers?.ready();
    });
  }

  /** The broker says nothing for a while, then goes on with all that was sent to it. */
  async pauseBroker(forMs: number): Promise<void> {
    await this.#during(`the broker is stopped for ${Math.round(forMs)} ms`, async () => {
      if (this.#broker === undefined) throw new Error('this takes a single broker');
      const { pid } = this.#broker;
      process.kill(pid, 'SIGSTOP');
      await delay(forMs);
      process.kill(pid, 'SIGCONT');
    });
  }

  /** Gives the milliseconds until every partition is served and no transaction is open. */
  async settled(mill: Mill): Promise<number> {
    const startMs = performance.now();
    let last = '';
    await until(
      'every partition is served and no transaction is open',
      async () => {
        try {
          const partitions = await mill.inspect.partitions();
          const { active } = await mill.inspect.transactions();
          const unserved = partitions.filter(({ state }) => state !== 'serving');
          last = JSON.stringify({ unserved, active });
          return unserved.length === 0 && active.length === 0;
        } catch (error) {
          if (!(error instanceof MillraceError)) throw error;
          last = error.message;
          return false;
        }
      },
      SETTLE_MS,
    ).catch((error: Error) => {
      throw new Error(`${error.message}: ${last}`);
    });
    return performance.now() - startMs;
  }

  /** What the workers that live have logged beyond information, for a failed run. */
  logs(): string[] {
    return [...this.#workers].map(({ stdout, stderr }) => `${stdout}${stderr}`);
  }

  async stop(): Promise<void> {
    const workers = [...this.#workers];
    this.#workers.clear();
    await Promise.all(workers.map(async (worker) => worker.end('SIGKILL')));
    await this.#broker?.stop();
    await this.#servers?.stop();
    await this.#disk?.close();
  }

  #cluster(): TestCluster {
    if (this.#servers === undefined) throw new Error('this takes a cluster of servers');
    return this.#servers;
  }

  #pick(random: Random): Command | undefined {
    const running = [...this.#workers].filter((worker) => !this.#stopped.has(worker));
    return running.length === 0 ? undefined : random.pick(running);
  }

  async #during(what: string, happen: () => Promise<void>): Promise<void> {
    const fault: Fault = { what, startMs: performance.now(), endMs: Number.POSITIVE_INFINITY };
    this.faults.push(fault);
    await happen();
    fault.endMs = performance.now();
  }
}
