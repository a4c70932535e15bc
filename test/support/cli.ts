import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { notePid } from './processes.ts';
import { until } from './wait.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

export interface Finished {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** A `millrace` command in a process of its own, from the build. */
export class Command {
  readonly child: ChildProcess;
  readonly finished: Promise<Finished>;
  stdout = '';
  stderr = '';

  constructor(
    commandLine: readonly string[],
    options: {
      cwd?: string;
      stdin?: string;
      env?: NodeJS.ProcessEnv;
      /** Of another build. */
      main?: string;
    } = {},
  ) {
    const { NATS_URL: _, ...environment } = process.env;
    this.child = spawn(process.execPath, [options.main ?? MAIN, ...commandLine], {
      cwd: options.cwd ?? ROOT,
      env: { ...environment, ...options.env },
      stdio: [options.stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    });
    notePid(this.child.pid);
    this.child.stdout?.on('data', (chunk: Buffer) => (this.stdout += chunk.toString()));
    this.child.stderr?.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()));
    this.child.stdin?.end(options.stdin);
    this.finished = new Promise((resolve) => {
      this.child.once('close', (status, signal) => {
        const { stdout, stderr } = this;
        resolve({ status, signal, stdout, stderr });
      });
    });
  }

  get ended(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  /** Waits for a text on standard output, by default at most 20 s; fails early when the process ends. */
  async says(text: string, timeoutMs = 20_000): Promise<void> {
    await until(
      `"${text}" is printed; so far: ${this.stdout}${this.stderr}`,
      () => this.stdout.includes(text) || this.stderr.includes(text) || this.ended,
      timeoutMs,
    );
    if (!this.stdout.includes(text) && !this.stderr.includes(text)) {
      throw new Error(`It ended without saying "${text}": ${this.stdout}${this.stderr}`);
    }
  }

  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<Finished> {
    if (!this.ended) this.child.kill(signal);
    return this.finished;
  }
}

export function millrace(...commandLine: string[]): Promise<Finished> {
  return new Command(commandLine).finished;
}
