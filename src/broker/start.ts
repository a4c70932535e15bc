import { randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { MillraceError } from '../core/errors.ts';
import { isAtLeast, MINIMUM_SERVER_VERSION } from '../core/version.ts';
import type { BrokerBinary } from './find.ts';
import { bareLine, openLog, type BrokerLog } from './log.ts';
import { freePort, HOST, portBusy, readServerInfo } from './port.ts';
import { type ExitStatus, type GuardedProcess, startGuarded } from './process.ts';
import { lockStore, prepareStore, type StoreLock, unwritable, waitForOrphan } from './store.ts';

export interface Broker {
  readonly url: string;
  readonly port: number;
  readonly storeDir: string;
  readonly version: string;
  /** The nats-server's own. */
  readonly pid: number;
  /** Resolves when the process has ended. */
  readonly exited: Promise<ExitStatus>;
  /** Undefined while it runs. */
  readonly status: () => ExitStatus | undefined;
  /** SIGTERM, after 5 s SIGKILL; resolves when the process has ended and the store is free. May be called again. */
  stop(): Promise<void>;
}

export interface StartBrokerOptions {
  binary: BrokerBinary;
  /** 0 for any free one. */
  port: number;
  /** Made if it isn't there. Also holds the broker's log and lock. */
  storeDir: string;
  onLog?: (line: string) => void;
  /** Instead of config/nats-server.conf; must take port and store from the same two variables, or otherwise have them as they are said here. */
  configFile?: string;
  /** Where it is started; relative paths in `configFile` begin here. */
  cwd?: string;
  /** More of the server's command line. */
  flags?: readonly string[];
  /** The server's name; default: one of this start's own, so that no other server is mistaken for it. */
  name?: string;
  /** Default 15,000. */
  readyTimeoutMs?: number;
}

const READY_TIMEOUT_MS = 15_000;
const READY_POLL_MS = 20;
/** Between our choosing a free port and the server's binding it, somebody else may take it. */
const MAX_PORT_ATTEMPTS = 3;
const BIND_FAILED = /Error listening on port: .*address already in use/;
// Two levels up from src/broker as well as from dist/broker.
const CONFIG_FILE = fileURLToPath(new URL('../../config/nats-server.conf', import.meta.url));

function failed(what: string, log: BrokerLog): MillraceError {
  const lastLine = log.lastLine();
  const said = lastLine === '' ? '' : `, its last line being "${bareLine(lastLine)}"`;
  const message = `nats-server ${what}${said}; read ${log.path} for the reason.`;
  return new MillraceError('BROKER_FAILED', message);
}

/** Waits until our own server (by its name) answers and JetStream is up; gives its version. */
async function whenReady(
  server: GuardedProcess,
  log: BrokerLog,
  wanted: { port: number; name: string; timeoutMs: number },
): Promise<string> {
  const deadline = performance.now() + wanted.timeoutMs;
  while (performance.now() < deadline) {
    const status = server.status();
    if (status !== undefined) {
      await server.exited;
      if (BIND_FAILED.test(log.lastLine())) throw await portBusy(wanted.port);
      const how = status.signal === null ? `with code ${status.code}` : `by ${status.signal}`;
      throw failed(`ended ${how} before it was ready`, log);
    }
    const info = await readServerInfo(wanted.port);
    if (info?.server_name === wanted.name && info.jetstream === true) {
      const version = info.version ?? '';
      if (isAtLeast(version, MINIMUM_SERVER_VERSION)) return version;
      const message = `The nats-server that was started is ${version}; use ${MINIMUM_SERVER_VERSION} or newer.`;
      throw new MillraceError('BROKER_TOO_OLD', message);
    }
    await delay(READY_POLL_MS);
  }
  throw failed(`was not ready within ${wanted.timeoutMs} ms`, log);
}

function openStoreLog(storeDir: string, onLog: StartBrokerOptions['onLog']): BrokerLog {
  try {
    return openLog(storeDir, onLog);
  } catch (thrown) {
    throw unwritable(storeDir, thrown);
  }
}

async function startOnce(
  options: StartBrokerOptions,
  port: number,
  storeDir: string,
  lock: StoreLock,
): Promise<Broker> {
  const name = options.name ?? `millrace-${randomUUID()}`;
  const log = openStoreLog(storeDir, options.onLog);
  let server: GuardedProcess | undefined;
  try {
    const config = options.configFile ?? CONFIG_FILE;
    const flags = ['--config', config, '--name', name, ...(options.flags ?? [])];
    server = await startGuarded([options.binary.path, ...flags], {
      cwd: options.cwd,
      outputFd: log.fd,
      env: {
        ...process.env,
        // The server reads these as text of its configuration file: a path has to come in quotes.
        MILLRACE_BROKER_PORT: String(port),
        MILLRACE_BROKER_STORE: JSON.stringify(storeDir),
      },
      onExit: async () => {
        log.close();
        await lock.release();
      },
    });
    await lock.handTo(server.pid);
    const timeoutMs = options.readyTimeoutMs ?? READY_TIMEOUT_MS;
    const version = await whenReady(server, log, { port, name, timeoutMs });
    const { pid, exited, status, stop } = server;
    return { url: `nats://${HOST}:${port}`, port, storeDir, version, pid, exited, status, stop };
  } catch (thrown) {
    await server?.stop();
    log.close();
    throw thrown;
  }
}

/**
 * Starts a nats-server on the loopback interface and waits until it can be used. It ends with `stop()` or with
 * this process, however that ends. Throws BROKER_STORE_UNWRITABLE (also for a store in use), BROKER_PORT_BUSY,
 * BROKER_TOO_OLD, BROKER_FAILED; nothing is left running then.
 */
export async function startBroker(options: StartBrokerOptions): Promise<Broker> {
  const storeDir = resolve(options.storeDir);
  await prepareStore(storeDir);
  await waitForOrphan(storeDir);
  for (let attempt = 1; ; attempt++) {
    const port = await freePort(options.port);
    const lock = await lockStore(storeDir);
    try {
      return await startOnce(options, port, storeDir, lock);
    } catch (thrown) {
      await lock.release();
      const lostRace = thrown instanceof MillraceError && thrown.code === 'BROKER_PORT_BUSY';
      if (options.port !== 0 || !lostRace || attempt >= MAX_PORT_ATTEMPTS) throw thrown;
    }
  }
}
