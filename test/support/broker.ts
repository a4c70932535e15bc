import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findBroker, startBroker, type Broker } from '../../src/broker/index.ts';
import { notePid } from './processes.ts';

export interface TestBroker {
  url: string;
  port: number;
  pid: number;
  storeDir: string;
  /** Ends the server and starts another on the same port and store. */
  restart(): Promise<void>;
  /** Kills the server with SIGKILL; `restart` brings it back. */
  kill(): Promise<void>;
  stop(): Promise<void>;
}

/** A real nats-server of the test's own: free port, empty store in `directory`, both gone after `stop`. */
export async function startTestBroker({
  directory = tmpdir(),
  configFile,
}: { directory?: string; configFile?: string | undefined } = {}): Promise<TestBroker> {
  const storeDir = await mkdtemp(join(directory, 'millrace-test-'));
  const binary = await findBroker({});
  const options = { binary, storeDir, ...(configFile === undefined ? {} : { configFile }) };
  let broker: Broker = await startBroker({ ...options, port: 0 });
  notePid(broker.pid);
  return {
    url: broker.url,
    port: broker.port,
    storeDir,
    get pid() {
      return broker.pid;
    },
    async restart() {
      await broker.stop();
      broker = await startBroker({ ...options, port: broker.port });
      notePid(broker.pid);
    },
    async kill() {
      process.kill(broker.pid, 'SIGKILL');
      await broker.exited;
    },
    async stop() {
      await broker.stop();
      await rm(storeDir, { recursive: true, force: true });
    },
  };
}
