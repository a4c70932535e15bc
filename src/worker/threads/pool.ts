/**
 * The threads of one version of one function. A thread runs one handler at a time; what is more waits in order, as it does for the
 * slots of any function. What a thread does is no concern of others: when it crashes, needs too much memory or does not end in time, it
 * goes with its run, and the next run has a new one.
 */
import { Worker } from 'node:worker_threads';
import { MillraceError } from '../../core/errors.ts';
import type { Context, FunctionEvent } from '../../function/context.ts';
import type { IsolationDefinition } from '../../function/isolation.ts';
import {
  received,
  sendable,
  type ContextCall,
  type FromThread,
  type ThreadData,
  type ToThread,
} from './messages.ts';

/** Beside this file; from the sources there are no threads. */
const ENTRY = new URL('./thread.js', import.meta.url);
/** After its signal has said that its time is over a handler has so long to end; then its thread does. */
const GRACE_MS = 1_000;

interface Run {
  readonly id: number;
  readonly event: FunctionEvent;
  readonly context: Context;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  thread: Worker | undefined;
  /** What calls were refused with, as it was. */
  readonly refusals: Map<number, unknown>;
  readonly cancels: Map<number, AbortController>;
  readonly onAbort: () => void;
}

export class ThreadPool {
  readonly #name: string;
  #data: ThreadData;
  readonly #isolation: IsolationDefinition;
  readonly #secrets: readonly string[];
  readonly #waiting: Run[] = [];
  readonly #idle: Worker[] = [];
  readonly #running = new Map<Worker, Run>();
  #runs = 0;
  #retired = false;

  /** `secrets`: the names of those that its runs are given. */
  constructor(
    functionName: string,
    isolation: IsolationDefinition,
    secrets: readonly string[],
    data: ThreadData,
  ) {
    this.#name = functionName;
    this.#isolation = isolation;
    this.#secrets = secrets;
    this.#data = data;
  }

  /** A handler, as a function's own is. */
  readonly run = (event: FunctionEvent, context: Context): Promise<unknown> =>
    new Promise((resolve, reject) => {
      this.#runs += 1;
      const run: Run = {
        id: this.#runs,
        event,
        context,
        resolve,
        reject,
        thread: undefined,
        refusals: new Map(),
        cancels: new Map(),
        onAbort: () => this.#onAbort(run),
      };
      if (context.signal.aborted) {
        reject(context.signal.reason);
        return;
      }
      context.signal.addEventListener('abort', run.onAbort, { once: true });
      this.#waiting.push(run);
      this.#next();
    });

  /** For threads that are started from now on. */
  renew(data: ThreadData): void {
    this.#data = data;
  }

  /** Its threads end when nothing runs or waits any more. */
  retire(): void {
    this.#retired = true;
    if (this.#running.size > 0 || this.#waiting.length > 0) return;
    for (const thread of this.#idle.splice(0)) void thread.terminate();
  }

  #next(): void {
    while (this.#waiting.length > 0 && this.#running.size < this.#isolation.threads) {
      const run = this.#waiting.shift() as Run;
      let thread: Worker;
      try {
        thread = this.#idle.pop() ?? this.#newThread();
      } catch (error) {
        this.#ended(run, () => run.reject(error));
        continue;
      }
      run.thread = thread;
      this.#running.set(thread, run);
      const { context } = run;
      const event = { ...run.event, data: ownBytes(run.event.data) };
      this.#say(run, {
        kind: 'run',
        run: run.id,
        event,
        invocation: { ...context.invocation },
        secrets: Object.fromEntries(this.#secrets.map((name) => [name, context.secret(name)])),
      });
    }
  }

  #newThread(): Worker {
    const thread = new Worker(ENTRY, {
      workerData: this.#data,
      resourceLimits: { maxOldGenerationSizeMb: this.#isolation.maxMemoryMib },
    });
    // It alone keeps no process alive.
    thread.unref();
    let why: Error | undefined;
    thread.on('message', (message: FromThread) => this.#onMessage(thread, message));
    thread.on('error', (error: Error) => {
      why = error;
      this.#notIdle(thread);
    });
    thread.on('exit', (status) => this.#onExit(thread, why ?? `it ended with status ${status}`));
    return thread;
  }

  #say(run: Run, message: ToThread): void {
    try {
      run.thread?.postMessage(message);
    } catch (error) {
      // It holds what cannot be cloned.
      if (message.kind === 'run') this.#ended(run, () => run.reject(error));
      else if (message.kind === 'answer') {
        this.#say(run, { kind: 'refusal', call: message.call, error: sendable(error) });
      }
    }
  }

  #onMessage(thread: Worker, message: FromThread): void {
    const run = this.#running.get(thread);
    if (message.kind === 'log') writeLog(run?.context, message.line);
    else if (message.kind === 'cancel') run?.cancels.get(message.call)?.abort();
    else if (run?.id !== message.run) {
      if (message.kind === 'call') refuse(thread, message.call, this.#name);
    } else if (message.kind === 'call') void this.#onCall(run, message.call, message.does);
    else if (message.kind === 'returned') this.#ended(run, () => run.resolve(message.value));
    else {
      const { call, error } = message;
      const known = call !== undefined && run.refusals.has(call);
      this.#ended(run, () => run.reject(known ? run.refusals.get(call) : received(error)));
    }
  }

  async #onCall(run: Run, call: number, does: ContextCall): Promise<void> {
    const cancel = new AbortController();
    run.cancels.set(call, cancel);
    try {
      const value = await perform(run.context, does, cancel.signal);
      this.#say(run, { kind: 'answer', call, value });
    } catch (error) {
      run.refusals.set(call, error);
      this.#say(run, { kind: 'refusal', call, error: sendable(error) });
    } finally {
      run.cancels.delete(call);
    }
  }

  /** Its time is over, or the worker stops. */
  #onAbort(run: Run): void {
    const reason: unknown = run.context.signal.reason;
    if (run.thread === undefined) {
      this.#waiting.splice(this.#waiting.indexOf(run), 1);
      run.reject(reason);
      return;
    }
    this.#say(run, { kind: 'abort', error: sendable(reason) });
    const { thread } = run;
    setTimeout(() => {
      if (this.#running.get(thread) === run) void thread.terminate();
    }, GRACE_MS).unref();
  }

  #ended(run: Run, settle: () => void): void {
    run.context.signal.removeEventListener('abort', run.onAbort);
    if (run.thread !== undefined && this.#running.delete(run.thread)) this.#idle.push(run.thread);
    settle();
    this.#next();
    if (this.#retired) this.retire();
  }

  #notIdle(thread: Worker): void {
    const at = this.#idle.indexOf(thread);
    if (at >= 0) this.#idle.splice(at, 1);
  }

  #onExit(thread: Worker, why: Error | string): void {
    this.#notIdle(thread);
    const run = this.#running.get(thread);
    this.#running.delete(thread);
    if (run === undefined) return;
    const text = typeof why === 'string' ? why : why.message;
    const error = new Error(`its thread has ended: ${text}`, { cause: why });
    this.#ended(run, () =>
      run.reject(Object.assign(error, { name: 'ThreadEnded', thread: this.#name })),
    );
  }
}

/** Cloning a view would take along all that its buffer holds, which is what came with it from the broker. */
function ownBytes(data: unknown): unknown {
  return data instanceof Uint8Array ? data.slice() : data;
}

/** As `ctx` refuses it anywhere else. */
function refuse(thread: Worker, call: number, name: string): void {
  const error = new MillraceError('CANCELLED', `ctx was used after ${name} had ended.`);
  const refusal: ToThread = { kind: 'refusal', call, error: sendable(error) };
  thread.postMessage(refusal, []);
}

async function perform(context: Context, does: ContextCall, signal: AbortSignal): Promise<unknown> {
  if (does.what === 'emit') return context.emit(does.subject, does.data, does.options);
  if (does.what === 'invoke') {
    return context.invoke(does.name, does.data, { ...does.options, signal });
  }
  const collection = context.state(does.collection);
  return does.what === 'set'
    ? collection.set(does.key, does.value)
    : collection[does.what](does.key);
}

const LEVELS: Readonly<Record<number, 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal'>> = {
  10: 'trace',
  20: 'debug',
  30: 'info',
  40: 'warn',
  50: 'error',
  60: 'fatal',
};

/** With what the worker's own logger says of a run; what comes when none is under way has nobody to say it of. */
function writeLog(context: Context | undefined, line: string): void {
  if (context === undefined) return;
  const { level, msg, time: _, ...facts } = JSON.parse(line) as Record<string, unknown>;
  context.log[LEVELS[Number(level)] ?? 'info'](facts, typeof msg === 'string' ? msg : '');
}
