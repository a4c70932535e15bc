/**
 * Everything on one machine for development: the broker, the workers, and the watch on the functions folder.
 *
 * - D1  Children are in process groups of their own: Ctrl-C in a terminal reaches only this process, which stops
 *       the workers first and the broker last.
 * - D2  A child that dies is started again, with growing pauses; one that cannot start at first ends the start.
 * - D3  Whatever way this process ends, its children end: workers notice the closed channel, the broker its guard.
 */
import { findBroker, startBroker, type Broker, type BrokerBinary } from '../broker/index.ts';
import { FunctionsWatch } from './watch.ts';
import { WorkerProcess } from './worker-process.ts';

export interface DevOptions {
  /** A NATS server that runs already; undefined starts one. */
  server: string | undefined;
  port: number;
  storeDirectory: string;
  functionsDirectory: string;
  workers: number;
  /** Beside `worker --server URL`. */
  workerArguments: readonly string[];
  say: (line: string) => void;
  complain: (line: string) => void;
}

const FIRST_RESTART_MS = 500;
const LONGEST_RESTART_MS = 30_000;

export class Dev {
  readonly #options: DevOptions;
  readonly #workers = new Set<WorkerProcess>();
  readonly #restarts = new Set<NodeJS.Timeout>();
  #broker: Broker | undefined;
  #watch: FunctionsWatch | undefined;
  #stopping = false;
  #reloading: Promise<void> = Promise.resolve();
  #fail: (error: unknown) => void = () => {};
  /** Rejects when the broker cannot be brought back. */
  readonly failed: Promise<never> = new Promise((_, reject) => {
    this.#fail = reject;
  });

  constructor(options: DevOptions) {
    this.#options = options;
    // Nobody may be waiting for it yet, or any more.
    this.failed.catch(() => {});
  }

  /** Resolves with the broker's URL when everything runs; throws when something cannot start. */
  async start(): Promise<string> {
    const { say, server, workers } = this.#options;
    let url = server;
    if (url === undefined) {
      const binary = await findBroker({ onProgress: say });
      url = await this.#startBroker(binary);
      say(`nats-server ${binary.version} runs, data in ${this.#options.storeDirectory}`);
    }
    // One alone first: if the functions do not load, that is said once.
    const inputs = await this.#startWorker(url);
    const others = Array.from({ length: workers - 1 }, () => this.#startWorker(url));
    await Promise.all(others);
    this.#watch = new FunctionsWatch(this.#options.functionsDirectory, inputs, () =>
      this.#onChange(),
    );
    return url;
  }

  /** Workers drain, then the broker ends. May be called at any time. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const timer of this.#restarts) clearTimeout(timer);
    await this.#watch?.close();
    await Promise.all([...this.#workers].map((worker) => worker.stop()));
    await this.#broker?.stop();
  }

  async #startBroker(binary: BrokerBinary): Promise<string> {
    const { port, storeDirectory } = this.#options;
    const broker = await startBroker({ binary, port, storeDir: storeDirectory });
    this.#broker = broker;
    void broker.exited.then(({ unexpected }) => {
      if (unexpected && !this.#stopping) void this.#restartBroker(binary);
    });
    // Stopped while it was starting.
    if (this.#stopping) await broker.stop();
    return broker.url;
  }

  async #restartBroker(binary: BrokerBinary): Promise<void> {
    this.#options.complain('the broker ended unexpectedly; it is started again');
    try {
      await this.#startBroker(binary);
    } catch (error) {
      this.#fail(error);
    }
  }

  async #startWorker(url: string, attempt = 0): Promise<string[]> {
    if (this.#stopping) return [];
    const worker = new WorkerProcess(['worker', '--server', url, ...this.#options.workerArguments]);
    this.#workers.add(worker);
    void worker.exited.then((why) => {
      this.#workers.delete(worker);
      if (worker.wasReady && !this.#stopping) this.#restartWorker(url, 0, why);
      else if (attempt > 0 && !this.#stopping) this.#restartWorker(url, attempt, why);
    });
    return worker.ready;
  }

  #restartWorker(url: string, attempt: number, why: string): void {
    const waitMs = Math.min(FIRST_RESTART_MS * 2 ** attempt, LONGEST_RESTART_MS);
    this.#options.complain(`a worker ${why}; another is started in ${waitMs} ms`);
    const timer = setTimeout(() => {
      this.#restarts.delete(timer);
      // What keeps it from starting it has said itself; the next attempt follows its exit.
      this.#startWorker(url, attempt + 1).catch(() => {});
    }, waitMs);
    this.#restarts.add(timer);
  }

  #onChange(): void {
    this.#reloading = this.#reloading.then(() => this.#reload());
  }

  /** One worker tries first; only what it could load goes to the others. */
  async #reload(): Promise<void> {
    const { say, complain } = this.#options;
    const [first, ...others] = [...this.#workers].filter((worker) => worker.wasReady);
    if (first === undefined || this.#stopping) return;
    const outcome = await first.reload();
    if (outcome.type === 'reload-failed') {
      complain(`not reloaded, the old version keeps running:\n${outcome.message}`);
      return;
    }
    for (const other of await Promise.all(others.map((worker) => worker.reload()))) {
      if (other.type === 'reloaded') continue;
      complain(
        `a further worker was not reloaded, its old version keeps running:\n${other.message}`,
      );
    }
    this.#watch?.alsoWatch(outcome.inputs);
    say(`reloaded: ${outcome.functions.join(', ')}`);
  }
}
