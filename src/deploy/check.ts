/** Loads built functions in a process of its own, before anybody else does, and says what they are. */
import { fork, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MillraceError } from '../core/errors.ts';
import { identityOf } from '../delivery/identity.ts';
import type { LoadedFunction } from '../function/load.ts';
import type { BuiltFunction, DeployBundle } from './bundle.ts';

export interface CheckQuestion {
  directory: string;
  packageEntry: string;
  namespace: string;
  functions: BuiltFunction[];
}

export interface CheckedFacts {
  name: string;
  source: string;
  /** Two versions with the same one can run side by side. */
  identity: string;
}

export interface CheckAnswer {
  /** Of those that load, in their order. */
  facts: CheckedFacts[];
  failures: string[];
}

export type CheckedFunction = BuiltFunction & CheckedFacts;

/** Beside this file; there is none in the sources. */
const ENTRY = fileURLToPath(new URL('./check-process.js', import.meta.url));
const PACKAGE_ENTRY = new URL('../index.js', import.meta.url).href;
/** Together. One that never yields would otherwise keep it for ever. */
const CHECK_TIMEOUT_MS = 60_000;

export function factsOf({ definition, name, file }: LoadedFunction): CheckedFacts {
  const { delivery, flow } = definition;
  const identity = `${identityOf(definition)} ${delivery} ${flow === undefined ? '' : 'flow'}`;
  return { name, source: file, identity: identity.trim() };
}

/** Its process starts with it, so that it is there by the time there is something to check. To be closed. */
export class Checker {
  readonly #child: ChildProcess;
  /** Why it is of no use any more. */
  readonly #ended: Promise<string>;

  constructor() {
    // What functions print while they load is no output of the command.
    const child = fork(ENTRY, { stdio: ['ignore', 2, 2, 'ipc'] });
    this.#child = child;
    this.#ended = new Promise((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('exit', (status, signal) =>
        resolve(`one of them ended the process (${signal ?? `status ${status}`})`),
      );
    });
  }

  close(): void {
    this.#child.kill('SIGKILL');
  }

  /** Once. Throws FUNCTION_LOAD_FAILED with a line for everything that is wrong. */
  async check({ functions, files }: DeployBundle, namespace: string): Promise<CheckedFunction[]> {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-deploy-'));
    try {
      const writing = [...files].flatMap(([path, { code, map }]) => [
        writeFile(join(directory, path), code),
        writeFile(join(directory, `${path}.map`), map),
      ]);
      await Promise.all(writing);
      const question = { directory, packageEntry: PACKAGE_ENTRY, namespace, functions };
      const { facts, failures } = await this.#ask(question);
      const bySource = new Map(functions.map((built) => [built.source, built]));
      const byName = new Map<string, string>();
      for (const { name, source } of facts) {
        const other = byName.get(name);
        if (other !== undefined) {
          failures.push(`${source}: there is another function named ${name}, in ${other}`);
        }
        byName.set(name, source);
      }
      if (failures.length > 0) {
        throw new MillraceError('FUNCTION_LOAD_FAILED', failures.join('\n'), {
          details: { failures },
        });
      }
      return facts.map((fact) => ({ ...(bySource.get(fact.source) as BuiltFunction), ...fact }));
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }

  #ask(question: CheckQuestion): Promise<CheckAnswer> {
    return new Promise((resolve, reject) => {
      const fail = (why: string): void =>
        reject(new MillraceError('FUNCTION_LOAD_FAILED', `The functions do not load: ${why}.`));
      const timer = setTimeout(() => {
        fail(`they took longer than ${CHECK_TIMEOUT_MS} ms`);
        this.close();
      }, CHECK_TIMEOUT_MS);
      this.#child.once('message', (answer: CheckAnswer) => resolve(answer));
      // Without effect where it has answered.
      void this.#ended.then((why) => {
        clearTimeout(timer);
        fail(why);
      });
      this.#child.send(question, () => {});
    });
  }
}
