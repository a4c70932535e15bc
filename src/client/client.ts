/** What a program uses to publish events, invoke functions and inspect. */
import { asCallError } from '../bus/call-errors.ts';
import { Caller } from '../bus/caller.ts';
import type { TlsFiles } from '../bus/authentication.ts';
import { Bus } from '../bus/connection.ts';
import { FRAME_OVERHEAD_BYTES } from '../bus/frame.ts';
import type { InternalOptions, InvokeOptions, StreamCallOptions } from '../bus/invoke.ts';
import { Placement } from '../bus/placement.ts';
import { Publisher, type PublishOptions, type PublishReceipt } from '../bus/publisher.ts';
import { StreamedAnswer } from '../bus/streamed-answer.ts';
import { CachedCalls } from '../cache/calls.ts';
import type { StrategyFactory } from '../core/balance/strategy.ts';
import { MillraceError } from '../core/errors.ts';
import { quote } from '../core/names.ts';
import { inboxPrefixReason, ROLES, type Role } from '../core/permissions.ts';
import type { CacheReport } from '../core/report.ts';
import { parseSettings, type Settings, type SettingsInput } from '../core/settings.ts';
import { openTracing, type TelemetryOptions } from '../telemetry/open.ts';
import type { Tracing } from '../telemetry/tracing.ts';
import { keyOf } from '../function/key-of.ts';
import {
  givenName,
  nameOf,
  type FunctionReference,
  type InputOf,
  type OutputOf,
  type PartOf,
} from '../function/reference.ts';
import { DeadLetters } from './dead.ts';
import { inspectThrough, type Inspection } from './inspect.ts';
import { Deploys } from './deploys.ts';
import { Partitions } from './partitions.ts';
import { FunctionLogs } from './logs.ts';
import { RunTraces } from './traces.ts';
import { tracedInvoke, tracedPublish } from './traced.ts';

export interface ConnectOptions {
  /** NATS URL or URLs; empty ones count as not given. Default: the environment's `NATS_URL`, else `nats://127.0.0.1:4222`. */
  servers?: string | readonly string[];
  /** Path of a NATS credentials file. Default: the environment's `NATS_CREDS`. */
  credentials?: string;
  /** Path of a file with the seed of an nkey. Default: the environment's `NATS_NKEY`. */
  nkey?: string;
  /** PEM files for TLS: `ca` and, for mutual TLS, `cert` and `key`. Default: the environment's `NATS_CA`, `NATS_CERT`, `NATS_KEY`. */
  tls?: TlsFiles;
  /**
   * Which permissions of `millrace permissions` the NATS user has: answers come to the role's own inbox, and functions are called
   * as from outside. Default: the environment's `MILLRACE_ROLE`, else none, for users who may do everything.
   */
  role?: Role;
  /** Where answers come, if not below `_INBOX.<role>`. Default: the environment's `NATS_INBOX_PREFIX`. */
  inboxPrefix?: string;
  /** Which installation to talk to. Default `millrace`. */
  namespace?: string;
  /** Shown by the broker in its list of connections. Default `millrace-client`. */
  name?: string;
  /** Any of the settings in config/README.md. */
  settings?: SettingsInput;
  /** Users' own ways to balance calls, by the name that functions give as `balance`. */
  strategies?: Readonly<Record<string, StrategyFactory>>;
  /** Traces of what this program publishes and invokes. Default: as the settings and the environment say. */
  telemetry?: TelemetryOptions;
  /** Told of what concerns no single call, such as a permission that the broker refuses. */
  onProblem?: (problem: MillraceError) => void;
}

export const DEFAULT_SERVER = 'nats://127.0.0.1:4222';

export class Mill implements AsyncDisposable {
  /** What the workers say of themselves and of state, by request-reply. */
  readonly inspect: Inspection;
  readonly #bus: Bus;
  readonly #caller: Caller;
  readonly #publisher: Publisher;
  readonly #placement: Placement;
  readonly #cached: CachedCalls;
  readonly #tracing: Tracing | undefined;

  /** What functions write with `ctx.log`. */
  readonly logs: FunctionLogs;
  /** Runs as they end, and what caused them. */
  readonly traces: RunTraces;
  /** Durable events that were given up. */
  readonly dead: DeadLetters;
  /** How many partitions the keys of the state lie on. */
  readonly partitions: Partitions;
  /** Which versions of deployed functions run. */
  readonly deploys: Deploys;

  constructor(
    bus: Bus,
    settings: Settings,
    strategies: Readonly<Record<string, StrategyFactory>> = {},
    tracing?: Tracing,
  ) {
    this.#bus = bus;
    this.#tracing = tracing;
    this.#caller = new Caller(bus, settings);
    for (const [name, strategy] of Object.entries(strategies)) {
      this.#caller.balancer.register(name, strategy);
    }
    this.#placement = new Placement(bus, settings);
    this.#caller.ownerOf = (key) => this.#placement.ownerOf(key);
    this.#cached = new CachedCalls(bus, settings, this.#caller);
    this.#publisher = new Publisher(bus, settings);
    this.inspect = inspectThrough(bus, settings);
    this.dead = new DeadLetters(bus, settings);
    this.deploys = new Deploys(bus, settings);
    this.partitions = new Partitions(bus, settings);
    this.traces = new RunTraces(bus, settings);
    this.logs = new FunctionLogs(bus, settings, this.inspect);
  }

  /**
   * Publishes an event. Resolves when a stream has stored it, or, where no stream captures the subject, when the
   * broker has taken it. With `delayMs` or `at` it resolves when the event is stored, and the event is published later,
   * once. Rejects with INVALID_INPUT, PAYLOAD_TOO_LARGE, UNAVAILABLE or TIMEOUT.
   */
  async publish(subject: string, data: unknown, options?: PublishOptions): Promise<PublishReceipt> {
    if (this.#tracing !== undefined) {
      return tracedPublish(this.#tracing, this.#publisher, subject, data, options);
    }
    return this.#publisher.send(this.#publisher.prepare(subject, data, options));
  }

  /**
   * Runs a function on some worker and resolves with its result. Rejects with a CallError: its `code` is one of
   * docs/errors.md, `retryable` says whether trying again may help.
   */
  invoke<F extends FunctionReference>(
    target: F,
    data: InputOf<F>,
    options?: InvokeOptions,
  ): Promise<OutputOf<F>>;
  invoke(target: string, data?: unknown, options?: InvokeOptions): Promise<unknown>;
  invoke(
    target: string | FunctionReference,
    data?: unknown,
    options?: InvokeOptions,
  ): Promise<unknown> {
    let name: string;
    try {
      name = nameOf(target);
    } catch (error) {
      return Promise.reject(asCallError(givenName(target), error));
    }
    const key = options?.key ?? keyOf(target, data, options ?? {});
    const call = key === undefined ? options : { ...options, key };
    if (this.#tracing === undefined) return this.#cached.invoke(name, target, data, call);
    return tracedInvoke(this.#tracing, name, call, (traced) =>
      this.#cached.invoke(name, target, data, traced),
    );
  }

  /**
   * Runs a function that answers in parts, an async generator for example, and gives them as they come; the result of any other one is
   * its only part. Leaving the loop, or the `signal`, cancels the run. The loop throws a CallError where the run fails; only when it ends
   * without one the run is committed: docs/streaming.md.
   */
  stream<F extends FunctionReference>(
    target: F,
    data: InputOf<F>,
    options?: StreamCallOptions,
  ): AsyncGenerator<PartOf<F>, void, void>;
  stream(
    target: string,
    data?: unknown,
    options?: StreamCallOptions,
  ): AsyncGenerator<unknown, void, void>;
  async *stream(
    target: string | FunctionReference,
    data?: unknown,
    options?: StreamCallOptions,
  ): AsyncGenerator<unknown, void, void> {
    const answer = await this.invokeInParts(target, data, options);
    if (answer instanceof StreamedAnswer) yield* answer;
    else yield answer;
  }

  /** As `invoke`, but what is answered in parts is a StreamedAnswer: its `return` cancels at once, even while `next` waits. */
  invokeInParts(
    target: string | FunctionReference,
    data: unknown,
    options: StreamCallOptions = {},
  ): Promise<unknown> {
    const inParts: StreamCallOptions & InternalOptions = { ...options, parts: true };
    return this.invoke(target as string, data, inParts);
  }

  /** By function: how often this client had its answer already, since it is connected. */
  get caches(): Readonly<Record<string, CacheReport>> {
    return this.#cached.report();
  }

  /** Calls that are still in flight are refused as UNAVAILABLE. */
  async close(): Promise<void> {
    const reads = this.#caller.streams.size > 0;
    this.#caller.close();
    // The workers are to hear that nobody reads any more.
    if (reads && this.#bus.up) await this.#bus.flush().catch(() => {});
    this.#placement.close();
    this.#cached.close();
    this.#publisher.close();
    await this.#bus.close();
    await this.#tracing?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Throws CONNECTION_FAILED, BROKER_TOO_OLD or USAGE. */
export async function connect(options: ConnectOptions = {}): Promise<Mill> {
  const { bus, settings, tracing } = await openBus(options, 'millrace-client');
  return new Mill(bus, settings, options.strategies, tracing);
}

/** Throws INVALID_INPUT. */
export function settingsOf({ settings, namespace }: ConnectOptions): Settings {
  return parseSettings({ ...settings, ...(namespace === undefined ? {} : { namespace }) });
}

/** The connection of a client or a worker, and the settings as they hold on it. */
export async function openBus(
  options: ConnectOptions,
  defaultName: string,
  /** The process is a worker of ours, not a program that uses us. */
  own = false,
): Promise<{ bus: Bus; settings: Settings; tracing: Tracing | undefined }> {
  const settings = settingsOf(options);
  const tracing = await openTracing({
    options: options.telemetry,
    settings,
    environment: process.env,
    service: options.name ?? defaultName,
    global: own,
  });
  const bus = await Bus.open({
    servers: serversOf(options.servers) ?? serversOf(process.env['NATS_URL']) ?? [DEFAULT_SERVER],
    ...authenticationOf(options),
    // Of our own there may be many.
    name: options.name ?? (own ? `${defaultName}-${process.pid}` : defaultName),
    namespace: settings.namespace,
    ...(options.onProblem === undefined ? {} : { onProblem: options.onProblem }),
  });
  // A payload travels in a frame beside its id and headers: the broker's limit holds for all of that together.
  const roomBytes = bus.maxMessageBytes - FRAME_OVERHEAD_BYTES;
  return {
    bus,
    tracing,
    settings: {
      ...settings,
      maxPayloadBytes: Math.min(settings.maxPayloadBytes, roomBytes),
      frameMaxBytes: Math.min(settings.frameMaxBytes, roomBytes),
    },
  };
}

function authenticationOf(options: ConnectOptions) {
  const { env } = process;
  const { ca, cert, key } = options.tls ?? {};
  const nkey = given(options.nkey);
  // One that is named goes before what the environment says of the other.
  const credentials =
    given(options.credentials) ?? (nkey === undefined ? given(env['NATS_CREDS']) : undefined);
  return {
    credentials,
    nkey: nkey ?? (credentials === undefined ? given(env['NATS_NKEY']) : undefined),
    tls: {
      ca: given(ca) ?? given(env['NATS_CA']),
      cert: given(cert) ?? given(env['NATS_CERT']),
      key: given(key) ?? given(env['NATS_KEY']),
    },
    role: roleOf(given(options.role) ?? given(env['MILLRACE_ROLE'])),
    inboxPrefix: inboxPrefixOf(given(options.inboxPrefix) ?? given(env['NATS_INBOX_PREFIX'])),
  };
}

function roleOf(text: string | undefined): Role | undefined {
  const role = ROLES.find((each) => each === text);
  if (role !== undefined || text === undefined) return role;
  const known = ROLES.join(', ');
  throw new MillraceError('USAGE', `There is no role ${quote(text)}; there are: ${known}.`);
}

function inboxPrefixOf(text: string | undefined): string | undefined {
  const reason = text === undefined ? undefined : inboxPrefixReason(text);
  if (reason === undefined) return text;
  throw new MillraceError('USAGE', `The inbox prefix ${quote(text)} ${reason}.`);
}

/** A variable that is set to nothing, as `NATS_URL= millrace …` does, counts as one that is not set. */
function given(text: string | undefined): string | undefined {
  return text === undefined || text.trim() === '' ? undefined : text;
}

function serversOf(servers: string | readonly string[] | undefined): string[] | undefined {
  const urls = [servers ?? []].flat().filter((url) => given(url) !== undefined);
  return urls.length > 0 ? urls : undefined;
}
