/** Calls whose answers may be known here already: then no message leaves. */
import { asCallError, cancelled, timedOut } from '../bus/call-errors.ts';
import type { CallRequest } from '../bus/call.ts';
import type { Caller } from '../bus/caller.ts';
import type { Bus } from '../bus/connection.ts';
import {
  callHeaders,
  callRequest,
  decodeAnswer,
  invokeThrough,
  type InternalOptions,
  type InvokeOptions,
} from '../bus/invoke.ts';
import type { Answer } from '../core/answer-cache.ts';
import type { CacheRecord } from '../core/directory.ts';
import type { CallError } from '../core/errors.ts';
import type { PayloadLimits } from '../core/payload.ts';
import type { CacheReport } from '../core/report.ts';
import type { Settings } from '../core/settings.ts';
import type { FunctionEvent } from '../function/context.ts';
import type { FunctionDefinition } from '../function/definition.ts';
import { keyOfRequest } from '../function/key-of.ts';
import type { FunctionReference } from '../function/reference.ts';
import { Answers } from './answers.ts';
import { inputKey, ownKey } from './keys.ts';

export class CachedCalls {
  readonly #caller: Caller;
  readonly #settings: Settings;
  readonly #answers: Answers;
  #closed = false;

  constructor(bus: Bus, settings: Settings, caller: Caller) {
    this.#caller = caller;
    this.#settings = settings;
    this.#answers = new Answers(bus, settings);
  }

  /** As `invokeThrough` does it. `target`: its code, where the caller has it, finds the key. */
  invoke(
    functionName: string,
    target: FunctionReference | string,
    data: unknown,
    options: InvokeOptions & InternalOptions = {},
  ): Promise<unknown> {
    const record = this.#caller.members.directory.cacheOf(functionName);
    // A call with an id is one that was meant to be made.
    const meant = options.cache === false || options.id !== undefined;
    if (record === undefined || meant || this.#closed) {
      return invokeThrough(this.#caller, this.#settings, functionName, data, options);
    }
    let request: CallRequest;
    try {
      request = callRequest(this.#settings, functionName, data, options);
    } catch (error) {
      return Promise.reject(asCallError(functionName, error));
    }
    const key = keyOf(record, target, options, request, this.#settings);
    if (key !== undefined) return this.#cached(record, key, request, options);
    return this.#caller.call(request, (answer) =>
      decodeAnswer(functionName, answer, this.#settings),
    );
  }

  report(): Record<string, CacheReport> {
    const names = this.#answers.names();
    return Object.fromEntries(
      names.map((name) => [name, this.#answers.report(name) as CacheReport]),
    );
  }

  reportOf(functionName: string): CacheReport | undefined {
    return this.#answers.report(functionName);
  }

  close(): void {
    this.#closed = true;
    this.#answers.close();
  }

  async #cached(
    record: CacheRecord,
    key: string,
    request: CallRequest,
    options: InvokeOptions & InternalOptions,
  ): Promise<unknown> {
    const { functionName, signal, timeoutMs } = request;
    const untilMs = performance.now() + timeoutMs;
    if (signal?.aborted === true) throw cancelled(functionName, signal.reason);
    for (;;) {
      const cache = this.#answers.of(functionName, record);
      let own = false;
      const found = cache.get(key, () => {
        own = true;
        // What a worker has kept would be kept here beyond its time.
        const headers = callHeaders({ ...options, cache: false });
        const leftMs = Math.max(1, untilMs - performance.now());
        return this.#call({ ...request, headers, timeoutMs: leftMs });
      });
      const answer = found instanceof Promise ? await inTime(found, request, untilMs) : found;
      if ('encoded' in answer) return decodeAnswer(functionName, answer.encoded, this.#settings);
      // Somebody else's call had less time.
      if (own || answer.error.code !== 'TIMEOUT' || performance.now() >= untilMs) {
        throw asCallError(functionName, answer.error);
      }
    }
  }

  /** Others may wait for it, too: it does not end with its caller's signal. */
  #call(request: CallRequest): Promise<Answer> {
    const call = this.#caller.call({ ...request, signal: undefined }, ({ type, body }) => ({
      // What lies in a frame would keep all of it.
      encoded: { type, body: typeof body === 'string' ? body : Buffer.from(body) },
    }));
    return call.catch((error: CallError) => ({ error }));
  }
}

/** Undefined where it cannot be found here: then a worker does. */
function keyOf(
  { keyed }: CacheRecord,
  target: FunctionReference | string,
  { headers = {} }: InvokeOptions,
  { encoded }: CallRequest,
  limits: PayloadLimits,
): string | undefined {
  if (!keyed) return inputKey(encoded.type, encoded.body);
  const definition = (typeof target === 'string' ? {} : target) as Partial<FunctionDefinition>;
  const find = definition.cache?.key;
  if (find === undefined) return undefined;
  const eventOf = (data: unknown): FunctionEvent => {
    return { id: '', subject: '', data, headers, time: new Date(), attempt: 1 };
  };
  const key = keyOfRequest(find, { input: definition.input }, encoded, limits, eventOf);
  return key === undefined ? undefined : ownKey(encoded.type, key);
}

/** Who waits for an answer has his own deadline and signal. */
function inTime(
  answer: Promise<Answer>,
  { functionName, signal }: CallRequest,
  untilMs: number,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
    const refuse = (error: CallError): void => {
      end();
      reject(error);
    };
    const onAbort = (): void => refuse(cancelled(functionName, signal?.reason));
    const leftMs = Math.max(0, untilMs - performance.now());
    const timer = setTimeout(() => refuse(timedOut(functionName, true)), leftMs);
    signal?.addEventListener('abort', onAbort, { once: true });
    void answer.then((given) => {
      end();
      resolve(given);
    });
  });
}
