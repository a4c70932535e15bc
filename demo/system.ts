/** A broker and worker processes with the sample functions, for the demo. */
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { findBroker, startBroker } from '../src/broker/index.ts';
import { WorkerProcess } from '../src/dev/worker-process.ts';
import { MillraceError, type Mill } from '../src/index.ts';

const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const FUNCTIONS = fileURLToPath(new URL('../functions', import.meta.url));

export interface System {
  url: string;
  /** Starts one more worker. */
  addWorker(): Promise<void>;
  stop(): Promise<void>;
}

export async function startSystem(options: {
  store: string;
  workers: number;
  onProgress: (line: string) => void;
}): Promise<System> {
  const binary = await findBroker({ onProgress: options.onProgress });
  const broker = await startBroker({ binary, port: 0, storeDir: options.store });
  const commandLine = ['worker', '--server', broker.url, '--functions', FUNCTIONS];
  const newWorker = (): WorkerProcess =>
    new WorkerProcess([...commandLine, '--log-level', 'fatal'], MAIN);
  const workers = Array.from({ length: options.workers }, newWorker);
  const stop = async (): Promise<void> => {
    await Promise.all(workers.map((worker) => worker.stop()));
    await broker.stop();
  };
  try {
    await Promise.all(workers.map((worker) => worker.ready));
  } catch (error) {
    await stop();
    throw error;
  }
  const addWorker = async (): Promise<void> => {
    const worker = newWorker();
    workers.push(worker);
    await worker.ready;
  };
  return { url: broker.url, addWorker, stop };
}

type Worker = Awaited<ReturnType<Mill['inspect']['workers']>>[number];
type Answering = Worker & { pid: number };

const ASK_AGAIN_MS = 200;
const ANSWER_WITHIN_MS = 30_000;

/** The workers, once all of them answer: under load one may be silent for a moment, and then nobody knows its process. */
export async function answering(mill: Mill): Promise<[Answering, ...Answering[]]> {
  const untilMs = performance.now() + ANSWER_WITHIN_MS;
  for (;;) {
    const workers = await mill.inspect.workers();
    const [first, ...others] = workers.filter((worker): worker is Answering => worker.pid !== null);
    if (first !== undefined && others.length === workers.length - 1) return [first, ...others];
    if (performance.now() >= untilMs) throw new Error('Not all workers answer.');
    await delay(ASK_AGAIN_MS);
  }
}

/** While partitions move to a worker that has come they have no owner for a moment: then it is asked again, for so long. */
const MOVING_MS = 15_000;

export async function asked<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
  const untilMs = performance.now() + MOVING_MS;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      const again = error instanceof MillraceError && error.retryable;
      if (!again || performance.now() >= untilMs) throw error;
      await delay(50);
    }
  }
}
