/**
 * A worker as an operating-system process: signals, exit status, and messages with the process that started it.
 *
 * Exit status: 0 drained; 1 could not start, or some handler did not end in time, or an exception that nobody caught
 * ended it; 130 a second signal.
 */
import { access } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Logger } from 'pino';
import { openBus, settingsOf, type ConnectOptions } from '../client/client.ts';
import { releaseBundler } from '../function/bundle.ts';
import { loadFunctions, runningEntry, type LoadedFunctions } from '../function/load.ts';
import { MetricsServer } from '../telemetry/metrics-server.ts';
import { Deployed, deployedDirectory } from './deployed.ts';
import { createLogger, logProblem } from './logger.ts';
import { Secrets, type SecretsOptions } from './secrets.ts';
import type { FromWorker, ToWorker } from './supervision.ts';
import { startWithin } from './starting.ts';
import { Worker } from './worker.ts';

export interface WorkerProcessOptions {
  connect: ConnectOptions;
  functionsDirectory: string;
  /** Without one, what is deployed is all that it runs. */
  functionsOptional: boolean;
  /** Of two functions of the same name the folder's runs, not the deployed one. */
  preferLocal: boolean;
  /** Names of functions; undefined for all of the folder. */
  only?: readonly string[] | undefined;
  /** Where the secrets of functions are. */
  secrets: SecretsOptions;
  /** Public keys of those whose deploys are run; undefined for anybody's. */
  trusted?: readonly string[] | undefined;
  logLevel: string;
  /** The package's version, for discovery. */
  version: string;
  /** Where Prometheus reads; undefined for nowhere. */
  metrics?: { port: number; host: string } | undefined;
}

const EXIT_OK = 0;
const EXIT_FAILURE = 1;
const EXIT_KILLED = 130;
const BUILD_DIRECTORY = '.millrace/build';

/** Runs until a signal or its parent ends it; resolves with the exit status. Throws what keeps it from starting. */
export async function runWorker(options: WorkerProcessOptions): Promise<number> {
  const secrets = new Secrets(options.secrets);
  const log = secrets.cleanLog(createLogger(options.logLevel));
  const end = endOfProcess(log);
  const { namespace } = settingsOf(options.connect);
  // One load at a time: the parent's wishes to reload are queued.
  const load = async (): Promise<LoadedFunctions> => {
    try {
      return await loadChecked(options, namespace);
    } finally {
      await releaseBundler();
    }
  };
  // The bundler is a process of its own: it works while this one connects.
  const loading = load();
  loading.catch(() => {});
  const { bus, settings, tracing } = await openBus(
    {
      ...options.connect,
      onProblem: (problem) => logProblem(log, problem),
    },
    'millrace-worker',
    true,
  );
  let metrics: MetricsServer | undefined;
  let deployed: Deployed | undefined;
  try {
    const loaded = await loading;
    const worker = new Worker({ bus, settings, log, version: options.version, tracing, secrets });
    const text = async (): Promise<string> => worker.metricsText();
    if (options.metrics !== undefined) {
      metrics = await MetricsServer.open({ ...options.metrics, text });
      log.info(`metrics are at ${metrics.url}`);
    }
    const running = new Deployed({
      bus,
      settings,
      log,
      worker,
      secrets,
      only: options.only,
      preferLocal: options.preferLocal,
      trusted: options.trusted,
      directory: deployedDirectory(process.cwd()),
      packageEntry: runningEntry(),
    });
    deployed = running;
    await startWithin({
      start: () => running.start(loaded.functions),
      onNotYet: ({ code, message }) => log.warn({ code }, `not ready yet: ${message}`),
      end,
    });
    bus.onStatus((up) =>
      log.warn(up ? 'connected to NATS again' : 'the connection to NATS is lost'),
    );
    log.info(
      { functions: deployed.functions().map(({ name }) => name) },
      `worker ${worker.id} is ready`,
    );
    serveParent(worker, deployed, load, loaded);
    const cause = await end;
    deployed.close();
    log.info(`worker ${worker.id} drains: ${cause.why}`);
    const clean = await worker.drain();
    if (!clean) log.error('some handlers did not end in time');
    return clean && !cause.failed ? EXIT_OK : EXIT_FAILURE;
  } finally {
    deployed?.close();
    await metrics?.close();
    await bus.close();
    await tracing?.close();
  }
}

interface EndCause {
  why: string;
  failed: boolean;
}

/** Resolves with the first reason to end. */
function endOfProcess(log: Logger): Promise<EndCause> {
  return new Promise((resolve) => {
    let ending = false;
    const end = (why: string, failed: boolean): void => {
      ending = true;
      resolve({ why, failed });
    };
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        if (ending) process.exit(EXIT_KILLED);
        end(signal, false);
      });
    }
    // The parent is gone, however it ended: nobody would ever stop this worker.
    if (process.send !== undefined)
      process.on('disconnect', () => end('its parent is gone', false));
    process.on('unhandledRejection', (reason) => {
      log.error(
        { err: reason },
        'a promise was rejected and nobody handled it; the worker goes on',
      );
    });
    // Thrown outside of any handler, half of something may be done: finish what runs, then start afresh.
    process.on('uncaughtException', (error) => {
      log.fatal({ err: error }, 'an exception was thrown that nobody caught; the worker ends');
      end('an exception that nobody caught', true);
    });
  });
}

async function loadChecked(
  { functionsDirectory, functionsOptional }: WorkerProcessOptions,
  namespace: string,
): Promise<LoadedFunctions> {
  const directory = resolve(functionsDirectory);
  if (functionsOptional && !(await isThere(directory))) return { functions: [], inputs: [] };
  return loadFunctions({ directory, buildDirectory: resolve(BUILD_DIRECTORY), namespace });
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** Reloads on the parent's word. A set of functions that does not load changes nothing. */
function serveParent(
  worker: Worker,
  deployed: Deployed,
  load: () => Promise<LoadedFunctions>,
  loaded: LoadedFunctions,
): void {
  if (process.send === undefined) return;
  tellParent({ type: 'ready', id: worker.id, inputs: loaded.inputs });
  let reloading: Promise<void> = Promise.resolve();
  const reload = async (): Promise<void> => {
    try {
      const { functions, inputs } = await load();
      await deployed.setLocal(functions);
      tellParent({ type: 'reloaded', inputs, functions: functions.map(({ name }) => name) });
    } catch (error) {
      tellParent({ type: 'reload-failed', message: (error as Error).message });
    }
  };
  process.on('message', (message: ToWorker) => {
    if (message.type === 'reload') reloading = reloading.then(reload);
  });
}

function tellParent(message: FromWorker): void {
  // A parent that is just going away is no failure of the worker.
  process.send?.(message, undefined, undefined, () => {});
}
