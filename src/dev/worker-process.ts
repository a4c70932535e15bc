/** A worker, or a gateway, in a process of its own, as its parent sees it. */
import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { MillraceError } from '../core/errors.ts';
import type { FromWorker, ToWorker } from '../worker/supervision.ts';

const THIS_MAIN = fileURLToPath(new URL('../cli/main.js', import.meta.url));
/** Beyond the worker's own drain: then it is killed. */
const STOP_TIMEOUT_MS = 35_000;
const RELOAD_TIMEOUT_MS = 30_000;

type ReloadOutcome = Extract<FromWorker, { type: 'reloaded' | 'reload-failed' }>;

export class WorkerProcess {
  readonly #child: ChildProcess;
  /** Resolves with the files that its functions were built from; rejects when it ends before it is ready. */
  readonly ready: Promise<string[]>;
  /** Resolves with how it ended, to follow "a worker …". */
  readonly exited: Promise<string>;
  #onReload: ((outcome: ReloadOutcome) => void) | undefined;
  #readyAtMs: number | undefined;
  /** Of a worker its id, of a gateway its URL; '' until it is ready. */
  id = '';

  /** `main` is the file of the `millrace` command that is run, `environment` its own: this process's by default. */
  constructor(commandLine: readonly string[], main = THIS_MAIN, environment?: NodeJS.ProcessEnv) {
    this.#child = spawn(process.execPath, [main, ...commandLine], {
      env: environment,
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      detached: true,
    });
    this.exited = new Promise((resolve) => {
      this.#child.once('error', (error) => resolve(`could not be started: ${error.message}`));
      this.#child.once('exit', (code, signal) => {
        resolve(signal === null ? `ended with status ${code}` : `was ended by ${signal}`);
      });
    });
    this.ready = new Promise((resolve, reject) => {
      this.#child.on('message', (message: FromWorker) => {
        if (message.type === 'ready') {
          this.#readyAtMs = performance.now();
          this.id = message.id;
          resolve(message.inputs);
        } else this.#onReload?.(message);
      });
      void this.exited.then((why) => reject(notStarted(why)));
    });
    // Not everybody who starts a worker waits for it.
    this.ready.catch(() => {});
  }

  get wasReady(): boolean {
    return this.#readyAtMs !== undefined;
  }

  /** For how many ms it has been ready; 0 where it was not yet. */
  readyForMs(): number {
    return this.#readyAtMs === undefined ? 0 : performance.now() - this.#readyAtMs;
  }

  /** Never rejects: a worker that dies or hangs meanwhile has not reloaded. */
  async reload(): Promise<ReloadOutcome> {
    const failed = (message: string): ReloadOutcome => ({ type: 'reload-failed', message });
    let timer: NodeJS.Timeout | undefined;
    const outcome = new Promise<ReloadOutcome>((resolve) => {
      this.#onReload = resolve;
      timer = setTimeout(() => resolve(failed('the worker did not answer')), RELOAD_TIMEOUT_MS);
      void this.exited.then((why) => resolve(failed(`the worker ${why}`)));
    });
    const message: ToWorker = { type: 'reload' };
    if (this.#child.connected) this.#child.send(message, () => {});
    return outcome.finally(() => clearTimeout(timer));
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.kill(), STOP_TIMEOUT_MS);
    await this.exited;
    clearTimeout(timer);
  }

  /** At once, with what it has started itself. */
  kill(): void {
    this.signal('SIGKILL');
  }

  /** To it and to what it has started itself. */
  signal(name: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void {
    const { pid, exitCode, signalCode } = this.#child;
    // Once it has been collected, its number may be another's.
    if (pid === undefined || exitCode !== null || signalCode !== null) return;
    try {
      process.kill(process.platform === 'win32' ? pid : -pid, name);
    } catch {
      // It has ended just now.
    }
  }
}

function notStarted(why: string): MillraceError {
  return new MillraceError('UNAVAILABLE', `A worker ${why} before it was ready.`);
}
