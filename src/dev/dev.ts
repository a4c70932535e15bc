/**
 * Everything on one machine for development: the broker, the workers, and the watch on the functions folder.
 *
 * - D1  Children are in process groups of their own: Ctrl-C in a terminal reaches only this process, which stops
 *       the workers first and the broker last.
 * - D2  A child that dies is started again, with growing pauses (backoff.ts), an edit ending a worker's pause; one that
 *       cannot start at first ends the start.
 * - D3  Whatever way this process ends, its children end: workers notice the closed channel, the broker its guard.
 */
import { findBroker, startBroker, type Broker, type BrokerBinary } from '../broker/index.ts';
import { MillraceError } from '../core/errors.ts';
import { Backoff } from './backoff.ts';
import { Restarts } from './restarts.ts';
import { FunctionsWatch } from './watch.ts';
import { WorkerProcess } from './worker-process.ts';

export interface DevOptions {
  /** A NATS server that runs already; undefined starts one. */
  server: string | undefined;
  port: number;
  storeDirectory: string;
  functionsDirectory: string;
  workers: number;
  /** What is to be done when the broker runs and nothing else does. */
  beforeWorkers?: ((server: string) => Promise<void>) | undefined;
  /** Beside `worker`. */
  workerArguments: readonly string[];
  /** Beside `gateway`; undefined for none. */
  gatewayArguments: readonly string[] | undefined;
  /** The workers'; they find the server's URL in it. */
  environment: NodeJS.ProcessEnv;
  say: (line: string) => void;
  complain: (line: string) => void;
}

export class Dev {
  readonly #options: DevOptions;
  readonly #workers = new Set<WorkerProcess>();
  #gateway: WorkerProcess | undefined;
  readonly #workerRestarts = new Restarts();
  readonly #brokerRestarts = new Restarts();
  readonly #brokerBackoff = new Backoff();
  readonly #abort = new AbortController();
  #broker: Broker | undefined;
  readonly #watch: FunctionsWatch;
  #started = false;
  /** An edit was seen before all workers had started. */
  #changed = false;
  #stopping = false;
  #reloading: Promise<void> = Promise.resolve();
  #fail: (error: unknown) => void = () => {};
  /** Rejects when the broker cannot be brought back. */
  readonly failed: Promise<never> = new Promise((_, reject) => {
    this.#fail = reject;
  });

  constructor(options: DevOptions) {
    this.#options = options;
    this.#watch = new FunctionsWatch({
      onChange: () => this.#onChange(),
      onError: ({ message }) => options.complain(`edits may not be seen: ${message}`),
    });
    // Nobody may be waiting for it yet, or any more.
    this.failed.catch(() => {});
  }

  /** Resolves with the broker's URL when everything runs; throws when something cannot start. */
  async start(): Promise<string> {
    const { say, server, workers } = this.#options;
    let url = server;
    if (url === undefined) {
      const binary = await findBroker({ onProgress: say, signal: this.#abort.signal });
      url = await this.#startBroker(binary);
      say(`nats-server ${binary.version} runs, data in ${this.#options.storeDirectory}`);
    }
    await this.#options.beforeWorkers?.(url);
    // Before anything is loaded, so that no edit is missed.
    await this.#watch.add([this.#options.functionsDirectory]);
    // One alone first: if the functions do not load, that is said once.
    const inputs = await this.#startWorker(url, new Backoff());
    const others = Array.from({ length: workers - 1 }, () => this.#startWorker(url, new Backoff()));
    await Promise.all([...others, this.#watch.add(inputs), this.#startGateway(url, new Backoff())]);
    this.#started = true;
    if (this.#changed) this.#onChange();
    return url;
  }

  /** http://…; '' without a gateway. */
  get gatewayUrl(): string {
    return this.#gateway?.id ?? '';
  }

  /** Workers drain, then the broker ends. May be called at any time. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#abort.abort();
    this.#workerRestarts.clear();
    this.#brokerRestarts.clear();
    await this.#watch.close();
    // It answers what it has while there are workers.
    await this.#gateway?.stop();
    await Promise.all([...this.#workers].map((worker) => worker.stop()));
    await this.#broker?.stop();
  }

  /** For somebody who does not wait for `stop`: kills the workers. The broker's guard ends it with this process (D3). */
  kill(): void {
    this.#stopping = true;
    for (const child of [...this.#workers, this.#gateway]) child?.kill();
  }

  async #startBroker(binary: BrokerBinary): Promise<string> {
    const { port, storeDirectory } = this.#options;
    const broker = await startBroker({ binary, port, storeDir: storeDirectory });
    const readyAtMs = performance.now();
    this.#broker = broker;
    void broker.exited.then(({ unexpected, code, signal }) => {
      if (!unexpected || this.#stopping) return;
      const why = signal === null ? `ended with status ${code}` : `was ended by ${signal}`;
      this.#restartBroker(binary, performance.now() - readyAtMs, `the broker ${why}`);
    });
    // Stopped while it was starting.
    if (this.#stopping) await broker.stop();
    return broker.url;
  }

  #restartBroker(binary: BrokerBinary, ranForMs: number, why: string): void {
    const waitMs = this.#brokerRestarts.plan(this.#brokerBackoff, ranForMs, () => {
      this.#startBroker(binary).catch((error: unknown) => {
        if (this.#stopping) return;
        // Another program on its port or a store that cannot be written does not pass by itself.
        if (!(error instanceof MillraceError && error.retryable)) this.#fail(error);
        else this.#restartBroker(binary, 0, `the broker did not start: ${error.message}`);
      });
    });
    this.#options.complain(`${why}; it is started again in ${waitMs} ms`);
  }

  /** Resolves with the files that its functions were built from. */
  async #startWorker(url: string, backoff: Backoff, again = false): Promise<string[]> {
    if (this.#stopping) return [];
    // Not as --server: a password in it would stand in the list of processes.
    const worker = new WorkerProcess(['worker', ...this.#options.workerArguments], undefined, {
      ...this.#options.environment,
      NATS_URL: url,
    });
    this.#workers.add(worker);
    void worker.exited.then((why) => {
      this.#workers.delete(worker);
      if (this.#stopping || !(worker.wasReady || again)) return;
      const waitMs = this.#workerRestarts.plan(backoff, worker.readyForMs(), () => {
        // What keeps it from starting it has said itself; the next attempt follows its exit.
        this.#startWorker(url, backoff, true).catch(() => {});
      });
      this.#options.complain(`a worker ${why}; another is started in ${waitMs} ms`);
    });
    return worker.ready;
  }

  async #startGateway(url: string, backoff: Backoff): Promise<void> {
    const { gatewayArguments, environment, complain } = this.#options;
    if (gatewayArguments === undefined || this.#stopping) return;
    const gateway = new WorkerProcess(['gateway', ...gatewayArguments], undefined, {
      ...environment,
      NATS_URL: url,
    });
    this.#gateway = gateway;
    void gateway.exited.then((why) => {
      if (this.#stopping) return;
      const waitMs = this.#workerRestarts.plan(backoff, gateway.readyForMs(), () => {
        this.#startGateway(url, backoff).catch(() => {});
      });
      complain(`the gateway ${why}; it is started again in ${waitMs} ms`);
    });
    await gateway.ready;
  }

  #onChange(): void {
    this.#changed = true;
    if (!this.#started) return;
    this.#workerRestarts.hurry();
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
    await this.#watch.add(outcome.inputs);
    say(`reloaded: ${outcome.functions.join(', ')}`);
  }
}
