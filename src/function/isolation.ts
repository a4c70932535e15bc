/** Where handlers run: on the worker's own thread, or in threads of the function's own. */
import { availableParallelism } from 'node:os';
import { fields, whole } from './checks.ts';

/** `'thread'`: as `{}`, with the defaults. */
export type Isolation =
  | 'none'
  | 'thread'
  | {
      /** Runs at once, each in a thread of its own: 1 to 256. Default: one less than there are cores, one at least. */
      threads?: number;
      /**
       * A thread whose objects come to need more ends, with its run: 16 to 65,536 MiB, default 512. It is V8's limit: the bytes of buffers
       * do not count, and a single object that is larger than what is left ends the whole process, as it does anywhere in Node.
       */
      maxMemoryMib?: number;
    };

export interface IsolationDefinition {
  readonly threads: number;
  readonly maxMemoryMib: number;
}

const MAX_THREADS = 256;
const MIN_MEMORY_MIB = 16;
const MAX_MEMORY_MIB = 65_536;
const DEFAULT_MEMORY_MIB = 512;

const isolationFields = fields(
  {},
  { threads: whole(1, MAX_THREADS), maxMemoryMib: whole(MIN_MEMORY_MIB, MAX_MEMORY_MIB) },
);

/** What is wrong with the option `isolation`, to be put behind its name. */
export function isolationReason(given: unknown): string | undefined {
  if (given === 'none' || given === 'thread') return undefined;
  return isolationFields(given)?.replace(/^must be \{/, "must be 'none', 'thread' or {");
}

/** Undefined for the worker's own thread. */
export function toIsolation(given: Isolation = 'none'): IsolationDefinition | undefined {
  if (given === 'none') return undefined;
  const { threads, maxMemoryMib = DEFAULT_MEMORY_MIB } = given === 'thread' ? {} : given;
  return Object.freeze({
    threads: threads ?? Math.min(MAX_THREADS, Math.max(1, availableParallelism() - 1)),
    maxMemoryMib,
  });
}

/** Runs of the function at once on one worker: more than it has threads would only wait for one. */
export function slotsOf(
  { isolation }: { isolation?: IsolationDefinition | undefined },
  concurrency: number,
): number {
  return isolation === undefined ? concurrency : Math.min(concurrency, isolation.threads);
}
