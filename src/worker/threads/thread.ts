/** A thread of one function: runs its handler, one run at a time, with a context whose other end is on the worker. */
import { parentPort, workerData, type MessagePort } from 'node:worker_threads';
import pino from 'pino';
import type { Context } from '../../function/context.ts';
import { assignName } from '../../function/define.ts';
import type { FunctionDefinition } from '../../function/definition.ts';
import { keyOf } from '../../function/key-of.ts';
import { nameOf, type FunctionReference } from '../../function/reference.ts';
import type { InvokeOptions } from '../../bus/invoke.ts';
import { isAsyncIterable } from '../parts.ts';
import { noParts } from '../refusals.ts';
import { notNamed } from '../secrets.ts';
import {
  received,
  sendable,
  type ContextCall,
  type FromThread,
  type ThreadData,
  type ToThread,
} from './messages.ts';

const port = parentPort as MessagePort;
const { module, named, logLevel } = workerData as ThreadData;
const say = (message: FromThread): void => port.postMessage(message);

interface Waiting {
  resolve: (value: unknown) => void;
  reject: (error: Error) => void;
}

const waiting = new Map<number, Waiting>();
/** Which call has been refused with it. */
const refusedBy = new WeakMap<Error, number>();
let calls = 0;
let abort = new AbortController();

const log = pino(
  { level: logLevel, base: null },
  { write: (line: string) => say({ kind: 'log', line }) },
);
// As on the worker's own thread: it may come from a run that is over, and is no reason to end another one.
process.on('unhandledRejection', (err) => log.error({ err }, 'unhandled rejection'));
process.setSourceMapsEnabled(true);
const { default: definition } = (await import(module)) as { default: FunctionDefinition };
port.on('message', (message: ToThread) => {
  if (message.kind === 'run') void run(message);
  else if (message.kind === 'abort') abort.abort(received(message.error));
  else settle(message);
});

async function run({
  run: id,
  event,
  invocation,
  secrets,
}: Extract<ToThread, { kind: 'run' }>): Promise<void> {
  abort = new AbortController();
  const secret = (name: string): string => {
    if (Object.hasOwn(secrets, name)) return secrets[name] ?? '';
    throw notNamed(invocation.function, name);
  };
  const context = { ...contextOf(id, abort.signal), secret, invocation } as Context;
  try {
    const value: unknown = await definition.handler(event, context);
    if (isAsyncIterable(value)) throw noParts();
    say({ kind: 'returned', run: id, value });
  } catch (thrown) {
    const call = thrown instanceof Error ? refusedBy.get(thrown) : undefined;
    say({ kind: 'thrown', run: id, error: sendable(thrown), call });
  }
}

function contextOf(id: number, signal: AbortSignal): Omit<Context, 'invocation' | 'secret'> {
  return {
    log,
    signal,
    state: (collection) => ({
      get: async (key) => (await ask(id, { what: 'get', collection, key })) as never,
      set: async (key, value) => {
        await ask(id, { what: 'set', collection, key, value });
      },
      delete: async (key) => {
        await ask(id, { what: 'delete', collection, key });
      },
    }),
    emit: async (subject, data, options) => {
      await ask(id, { what: 'emit', subject, data, options });
    },
    invoke: async (
      target: FunctionReference | string,
      data?: unknown,
      options: InvokeOptions = {},
    ) => {
      const { signal: given, ...rest } = options;
      const key = options.key ?? keyOf(target, data, options);
      const sent = key === undefined ? rest : { ...rest, key };
      const name = await nameFor(target);
      return ask(id, { what: 'invoke', name, data, options: sent }, given) as never;
    },
  };
}

/** Functions that have the name of their file are told it here by the loader, when that is first needed. */
async function nameFor(target: FunctionReference | string): Promise<string> {
  if (typeof target === 'string' || target.name !== undefined) return nameOf(target);
  for (const [name, url] of named) {
    const { default: other } = (await import(url)) as { default: FunctionDefinition };
    if (other.name === undefined) assignName(other, name);
  }
  return nameOf(target);
}

function ask(id: number, does: ContextCall, signal?: AbortSignal): Promise<unknown> {
  calls += 1;
  const call = calls;
  const cancel = (): void => say({ kind: 'cancel', call });
  return new Promise((resolve, reject) => {
    // Throws for what cannot be cloned: then nobody is asked.
    say({ kind: 'call', run: id, call, does });
    waiting.set(call, { resolve, reject });
    if (signal?.aborted === true) cancel();
    else signal?.addEventListener('abort', cancel, { once: true });
  }).finally(() => signal?.removeEventListener('abort', cancel));
}

function settle(message: Extract<ToThread, { call: number }>): void {
  const { call } = message;
  const { resolve, reject } = waiting.get(call) ?? {};
  waiting.delete(call);
  if (message.kind === 'answer') resolve?.(message.value);
  else {
    const error = received(message.error);
    refusedBy.set(error, call);
    reject?.(error);
  }
}
