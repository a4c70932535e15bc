import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { READY_ID, type Answer, type Command, type Commands, type Role } from './protocol.ts';
import { stopProcess } from './stop-process.ts';
import { within } from './within.ts';

const START_MS = 30_000;
const STOP_MS = 10_000;

interface Waiting {
  resolve(result: never): void;
  reject(error: Error): void;
}

export interface ProcessSetup {
  /** What `buildChild` made. */
  readonly childFile: string;
  readonly url: string;
  readonly profileDir: string | undefined;
  /** Beside the parent's own. */
  readonly env?: Readonly<Record<string, string>>;
}

function profiling(folder: string, name: string): string[] {
  return ['--cpu-prof', `--cpu-prof-dir=${folder}`, `--cpu-prof-name=${name}.cpuprofile`];
}

/** A caller's or a worker's process, as the parent sees it. Every question has a bounded wait. */
export class BenchProcess {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  #nextId = READY_ID + 1;

  private constructor(setup: ProcessSetup, role: Role, peer: string) {
    this.name = `${peer} ${role}`;
    const { childFile, url, profileDir, env } = setup;
    this.#child = fork(childFile, [role, peer, url], {
      cwd: fileURLToPath(new URL('..', import.meta.url)),
      env: { ...process.env, ...env },
      execArgv: profileDir === undefined ? [] : profiling(profileDir, `${peer}-${role}`),
    });
    this.#child.on('message', (answer: Answer) => this.#settle(answer));
    this.#child.on('exit', (code, signal) => this.#failAll(`ended with ${signal ?? code}`));
    this.#child.on('error', (error) => this.#failAll(error.message));
  }

  static async start(setup: ProcessSetup, role: Role, peer: string): Promise<BenchProcess> {
    const started = new BenchProcess(setup, role, peer);
    try {
      await within(started.#answerTo(READY_ID), START_MS, `${started.name} start`);
    } catch (error) {
      await stopProcess(started.#child);
      throw error;
    }
    return started;
  }

  ask<C extends Command>(
    command: C,
    argument: Commands[C]['argument'],
    waitMs: number,
  ): Promise<Commands[C]['result']> {
    const id = this.#nextId++;
    const answer = this.#answerTo<Commands[C]['result']>(id);
    this.#child.send({ id, command, argument }, (error) => {
      if (error !== null) this.#settle({ id, failed: error.message });
    });
    return within(answer, waitMs, `${this.name} ${command}`);
  }

  /** Never rejects: at the end the process is gone, politely or not. */
  async stop(): Promise<void> {
    if (this.#child.connected) await this.ask('stop', null, STOP_MS).catch(() => null);
    const exited = new Promise((resolve) => this.#child.once('exit', resolve));
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      // Writing a profile takes a moment after the answer to `stop`.
      await within(exited, STOP_MS, `${this.name} exit`).catch(() => stopProcess(this.#child));
    }
  }

  #answerTo<T>(id: number): Promise<T> {
    return new Promise<T>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  #settle(answer: Answer): void {
    const waiting = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if ('failed' in answer) waiting?.reject(new Error(`${this.name}: ${answer.failed}`));
    else waiting?.resolve(answer.result as never);
  }

  #failAll(reason: string): void {
    for (const waiting of this.#waiting.values()) {
      waiting.reject(new Error(`${this.name}: ${reason}`));
    }
    this.#waiting.clear();
  }
}
