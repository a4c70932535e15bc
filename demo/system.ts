/** A broker and worker processes with the sample functions, for the demo. */
import { fileURLToPath } from 'node:url';
import { findBroker, startBroker } from '../src/broker/index.ts';
import { WorkerProcess } from '../src/dev/worker-process.ts';

const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const FUNCTIONS = fileURLToPath(new URL('../functions', import.meta.url));

export interface System {
  url: string;
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
  const workers = Array.from(
    { length: options.workers },
    () => new WorkerProcess([...commandLine, '--log-level', 'warn'], MAIN),
  );
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
  return { url: broker.url, stop };
}
