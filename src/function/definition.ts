import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { StrategyFactory } from '../core/balance/strategy.ts';
import type { CacheDefinition, CacheOptions, Invalidates } from './cache.ts';
import type { Context, FunctionEvent } from './context.ts';
import type { CronOption, Schedule } from './cron.ts';
import type { HttpOption } from './http.ts';
import type { FlowDefinition, FlowOptions } from './flow.ts';
import type { Isolation, IsolationDefinition } from './isolation.ts';
import type { FunctionReference } from './reference.ts';
import type { Position } from './stack.ts';

/** How events reach a function: held in a stream until handled, or a plain NATS subscription, at most once. */
export type Delivery = 'durable' | 'ephemeral';
/** How a worker is chosen for a call, or an event without a key: by name, or a strategy of the function's own under a new name. */
export type Balance =
  | 'random'
  | 'round-robin'
  | 'weighted'
  | 'least-loaded'
  | { readonly name: string; readonly strategy: StrategyFactory };

export interface Retries {
  maxAttempts: number;
  minDelayMs: number;
  maxDelayMs: number;
}

type Schema = StandardSchemaV1;

/** The type of `event.data`. */
export type DataOf<Input> = Input extends Schema ? StandardSchemaV1.InferOutput<Input> : unknown;
/** What a caller passes. */
export type CallDataOf<Input> = Input extends Schema ? StandardSchemaV1.InferInput<Input> : unknown;
/** The same with all its lists and fields read-only; functions and unknown are left as they are. */
type DeepReadonly<T> = T extends (...values: never[]) => unknown
  ? T
  : T extends object
    ? { readonly [K in keyof T]: DeepReadonly<T[K]> }
    : T;
/** What a handler may return when its result is to fit the schema: the schema only reads it. */
export type ReturnOf<Output> = Output extends Schema
  ? DeepReadonly<StandardSchemaV1.InferInput<Output>>
  : unknown;

/** What `defineFunction` takes. */
export interface FunctionOptions<
  Input extends Schema | undefined,
  Output extends Schema | undefined,
  Returned,
> extends FlowOptions<DataOf<Input>> {
  /** 1 to 64 of `A-Z a-z 0-9 _ -`. Default: the file's name without its extension. */
  name?: string;
  /** For people: shown by inspect and by service discovery. At most 1,000 characters. */
  description?: string;
  /** The subject or subjects whose events run the function; NATS wildcards allowed, but not in the first token. */
  on?: string | readonly string[];
  /** Default `'durable'`. */
  delivery?: Delivery;
  /** Validates what comes in: any Standard Schema (zod, valibot, arktype …). What fails is INVALID_INPUT. */
  input?: Input;
  /** Validates what the handler returned; of an async iterable each part. */
  output?: Output;
  /** Events with the same key are handled in order; the key also decides where. */
  key?: (event: FunctionEvent<DataOf<Input>>) => string;
  /**
   * Which worker runs it. `'random'` (default): any, equally likely. `'round-robin'`: one after the other. `'weighted'`: in proportion to
   * declared capacity and measured speed. `'least-loaded'`: of two, where an answer is likely to come sooner. Or an object of your own,
   * `{ name, strategy }`: callers that do not have the function's code choose at random, unless `connect` is given the strategy.
   */
  balance?: Balance;
  /** Which events a durable function that is new begins with: those from now on (default), or all that its stream still has. */
  from?: 'now' | 'start';
  /**
   * Runs the function regularly, once a tick for all workers together, with `event.data` `{ scheduledAt }` (ISO 8601): a cron
   * expression of five fields, or six with seconds first. With `timeZone` (IANA, default UTC) and `missed`: what becomes of ticks for
   * which no worker was there, `'last'` (default: the last one runs when there is one again), `'skip'` or `'all'`.
   */
  cron?: CronOption;
  /**
   * When a durable event runs again after its handler has thrown, and how often: `maxAttempts` 1 to 1,000 (default 8), then it
   * goes to the dead letters; delays in milliseconds, doubled each time from `minDelayMs` (default 500) to `maxDelayMs` (default
   * 60,000), of which up to half is left to chance. An error with `retryable: false` is not tried again, one with
   * `retryAfterMs` after that time.
   */
  retries?: Partial<Retries>;
  /**
   * Its answers are kept, at its callers and on its workers, and given again without running it: for functions that only read. See
   * CacheOptions. Calls with an id, and of handlers unless they say `cache: true`, are always made.
   */
  cache?: CacheOptions<DataOf<Input>>;
  /** Functions whose kept answers a run of this one makes wrong; they are dropped everywhere when it has committed. */
  invalidates?: Invalidates<DataOf<Input>>;
  /**
   * `'thread'`: its handler runs in threads of its own, so that one which computes for long, leaks or crashes concerns no other function;
   * a thread that does not end in time is stopped. What goes in and out is cloned. Default `'none'`: on the worker's own thread.
   */
  isolation?: Isolation;
  /**
   * A route of its own at the gateway: `{ method: 'POST', path: '/orders/:id' }`. With `webhook` the gateway checks the signature of what
   * comes, and publishes it as an event on the function's first subject. See docs/gateway.md.
   */
  http?: HttpOption;
  /**
   * Names of secrets that `ctx.secret` gives: at most 32, each with a file of its name in the worker's `--secrets` folder, or a variable in
   * its environment. A worker without one of them does not run the function. See docs/security.md.
   */
  secrets?: readonly string[];
  /** How long one run may take, in milliseconds: 1 to 86,400,000 (a day), default 30,000. */
  timeoutMs?: number;
  /**
   * The function itself. What it returns, or its promise resolves with, is the answer to a request: in the request's
   * type (JSON or MessagePack), a Uint8Array as it is with `application/octet-stream`. An async iterable, that of an async generator for
   * example, is an answer in parts: see docs/streaming.md.
   */
  handler: (event: FunctionEvent<DataOf<Input>>, ctx: Context) => Returned;
}

/**
 * A function as `defineFunction` made it: checked, defaults filled in, frozen.
 * `Input` is what a caller passes and `Output` what a caller gets.
 */
export interface FunctionDefinition<Input = unknown, Output = unknown> extends FunctionReference<
  Input,
  Output
> {
  readonly description: string | undefined;
  /** Empty for a function that is only invoked. */
  readonly on: readonly string[];
  readonly delivery: Delivery;
  readonly input: StandardSchemaV1<Input> | undefined;
  readonly output: StandardSchemaV1<unknown, Output> | undefined;
  /** `event.data` must have been validated by `input`. */
  readonly key: ((event: FunctionEvent) => string) | undefined;
  /** The strategy's name. */
  readonly balance: string;
  /** The function's own, if it has one. */
  readonly strategy: StrategyFactory | undefined;
  readonly from: 'now' | 'start';
  readonly cron: Readonly<Schedule> | undefined;
  readonly flow: FlowDefinition | undefined;
  readonly retries: Readonly<Retries>;
  readonly cache: CacheDefinition | undefined;
  readonly isolation: IsolationDefinition | undefined;
  readonly invalidates: Invalidates;
  readonly http: Readonly<HttpOption> | undefined;
  readonly secrets: readonly string[];
  /** In milliseconds. */
  readonly timeoutMs: number;
  /** `event.data` must have been validated by `input`; the result has yet to be, by `output`. */
  readonly handler: (event: FunctionEvent, ctx: Context) => unknown;
  /** Where `defineFunction` was called, mapped to the source where source maps are on; undefined when not known. */
  readonly definedAt: Position | undefined;
}
