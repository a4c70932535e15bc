import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Bus } from '../bus/connection.ts';
import { Mill, openBus } from '../client/client.ts';
import type { DeadEvent } from '../client/dead.ts';
import { MillraceError } from '../core/errors.ts';
import { dueNow } from './due-now.ts';
import { Faults, type FaultyWorker } from './faults.ts';
import { checkInvariant, type InvariantCheck, type InvariantReport } from './invariant.ts';
import { Link } from './link.ts';
import { startServers, type TestServers } from './servers.ts';
import { contentTypeOf, decodePayload } from '../core/payload.ts';
import { parseSettings, type Settings, type SettingsInput } from '../core/settings.ts';
import { WorkerProcess } from '../dev/worker-process.ts';

export interface TestMillOptions {
  /** The folder of functions; default `functions`. */
  functions?: string;
  /** Worker processes, 1 to 16; default 1. */
  workers?: number;
  /** One nats-server, or three that are a cluster and keep everything three times; default 1. */
  servers?: 1 | 3;
  settings?: SettingsInput;
  /** What `ctx.secret` gives, by name. */
  secrets?: Readonly<Record<string, string>>;
  /** Workers reach the broker through this process, so that `faults` can keep back their messages; default false. */
  faults?: boolean;
  /** Of the workers; default: this process's. */
  env?: NodeJS.ProcessEnv;
  /** What workers print on standard output; default `warn`. */
  logLevel?: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';
}

export interface RecordedEvent {
  subject: string;
  id: string;
  data: unknown;
}

const MAX_WORKERS = 16;
/** How long what is under way may take, unless it is said. */
const SETTLED_TIMEOUT_MS = 20_000;
/** Nothing may be under way in so many looks, one after the other: an event may be on its way from its stream. */
const QUIET_LOOKS = 4;
const LOOK_EVERY_MS = 50;
/** Kept of one recording; what comes then is not recorded. */
const MAX_RECORDED = 10_000;

/**
 * Starts a broker, or three, on free ports of this machine, with empty stores, and workers in processes of their own. Rejects with
 * FUNCTION_LOAD_FAILED's sentence on standard error and UNAVAILABLE when a worker does not start.
 */
export async function startTestMill(options: TestMillOptions = {}): Promise<TestMill> {
  const { workers = 1, servers: count = 1 } = options;
  if (!Number.isInteger(workers) || workers < 1 || workers > MAX_WORKERS) {
    throw new MillraceError('INVALID_INPUT', `workers must be 1 to ${MAX_WORKERS}.`);
  }
  if (count !== 1 && count !== 3) {
    throw new MillraceError('INVALID_INPUT', 'servers must be 1 or 3.');
  }
  const given: SettingsInput = { replicas: count, ...options.settings };
  const settings = parseSettings(given);
  const folder = await mkdtemp(join(tmpdir(), 'millrace-testing-'));
  const servers = await startServers(count, folder);
  const config = join(folder, 'config.json');
  await writeFile(config, JSON.stringify(given));
  await writeSecrets(join(folder, SECRETS), options.secrets);
  const { bus } = await openBus(
    { servers: [...servers.urls], settings: given },
    'millrace-testing',
  );
  const mill = new TestMill(bus, settings, { servers, folder, config, options });
  try {
    await Promise.all(Array.from({ length: workers }, async () => mill.startWorker()));
    return mill;
  } catch (error) {
    await mill.close();
    throw error;
  }
}

const SECRETS = 'secrets';

async function writeSecrets(
  folder: string,
  secrets: Readonly<Record<string, string>> = {},
): Promise<void> {
  await mkdir(folder);
  for (const [name, value] of Object.entries(secrets)) {
    await writeFile(join(folder, name), value, { mode: 0o600 });
  }
}

interface Parts {
  servers: TestServers;
  /** Removed at the end. */
  folder: string;
  config: string;
  options: TestMillOptions;
}

/** A client with the means of a test. It is closed with `close`, or by `await using`. */
export class TestMill extends Mill {
  readonly #parts: Parts;
  readonly #events: Bus;
  readonly #limits: Settings;
  readonly #workers: FaultyWorker[] = [];
  /** What can go wrong, on purpose: docs/testing.md. */
  readonly faults: Faults;
  #skippedMs = 0;
  #closed = false;

  constructor(bus: Bus, settings: Settings, parts: Parts) {
    super(bus, settings);
    this.#events = bus;
    this.#limits = settings;
    this.#parts = parts;
    this.faults = new Faults({
      namespace: settings.namespace,
      workers: () => this.#workers,
      kill: async (id) => this.killWorker(id),
      servers: parts.servers,
    });
  }

  /** For other clients; of three servers with commas. */
  get url(): string {
    return this.#parts.servers.urls.join(',');
  }

  get servers(): number {
    return this.#parts.servers.urls.length;
  }

  /** Ids of the workers that this test has started and not killed, the oldest first. */
  get workers(): string[] {
    return this.#workers.map(({ process: { id } }) => id);
  }

  /** Gives its id once it is ready. */
  async startWorker(): Promise<string> {
    const { config, folder, options } = this.#parts;
    const { functions = 'functions', logLevel = 'warn', env = process.env } = options;
    const words = ['worker', '--local', '--functions', resolve(functions)];
    words.push('--config', config, '--log-level', logLevel);
    if (options.secrets !== undefined) words.push('--secrets', join(folder, SECRETS));
    const link = options.faults === true ? await Link.open(this.#parts.servers.urls) : undefined;
    const NATS_URL = link?.url ?? this.url;
    const worker: FaultyWorker = {
      process: new WorkerProcess(words, undefined, { ...env, NATS_URL }),
      link,
    };
    if (link !== undefined) link.judge = (said) => this.faults.judge(worker, said);
    this.#workers.push(worker);
    await worker.process.ready;
    return worker.process.id;
  }

  /** Kills a worker in the midst of what it does, as a machine does that loses its power: the oldest one, or the one with this id. Throws NOT_FOUND. */
  async killWorker(id?: string): Promise<string> {
    const index = id === undefined ? 0 : this.#workers.findIndex((one) => one.process.id === id);
    const [worker] = index < 0 ? [] : this.#workers.splice(index, 1);
    if (worker === undefined) throw new MillraceError('NOT_FOUND', 'There is no such worker.');
    worker.process.kill();
    await worker.process.exited;
    await worker.link?.close();
    return worker.process.id;
  }

  /**
   * Runs a load while things go wrong, and looks again and again, and at the end when all is at rest, whether what must always hold does.
   * Rejects with INVARIANT_BROKEN, which names the seed and what happened: docs/testing.md.
   */
  async checkInvariant(check: InvariantCheck): Promise<InvariantReport> {
    return checkInvariant(this, check);
  }

  /** A committed value; undefined where there is none. Rejects as `inspect.state` does otherwise. `Value` is taken on trust. */
  async state<Value = unknown>(collection: string, key: string): Promise<Value | undefined> {
    try {
      return (await this.inspect.state<Value>(collection, key)).value;
    } catch (error) {
      if ((error as MillraceError).code === 'NOT_FOUND') return undefined;
      throw error;
    }
  }

  /**
   * Lets time pass for events that are to come later: those that are due within `ms`, counted on from what was skipped before, are
   * published now. Gives how many. It moves nothing else: schedules, retries, deadlines and rate limits go by the real time.
   */
  async skip(ms: number): Promise<number> {
    this.#skippedMs += ms;
    const untilMs = Date.now() + this.#skippedMs;
    const { namespace } = this.#limits;
    return dueNow(this.#parts.servers.urls, namespace, untilMs);
  }

  /** Events that were given up, with why. */
  async deadLetters(): Promise<DeadEvent[]> {
    return this.dead.list();
  }

  /**
   * What is published on a subject, NATS wildcards allowed, from now on, in the order in which it comes. At most 10,000. An event
   * that comes again under its id, as it may when a worker dies, is recorded once: no function is given it twice either.
   */
  record(subject: string): RecordedEvent[] {
    const recorded: RecordedEvent[] = [];
    const seen = new Set<string>();
    this.#events.subscribe(subject, (message) => {
      const id = message.headers?.get('Nats-Msg-Id') ?? '';
      const name = `${message.subject} ${id}`;
      if (recorded.length >= MAX_RECORDED || (id !== '' && seen.has(name))) return;
      seen.add(name);
      const type = contentTypeOf(message.headers?.get('Content-Type'));
      const data = decodePayload(type, message.data, this.#limits);
      recorded.push({ subject: message.subject, id, data });
    });
    return recorded;
  }

  /**
   * Resolves when nothing is under way: no durable event waits, no function runs, no transaction is open. What is published by delay or
   * schedule is not waited for. Rejects with TIMEOUT, saying what still is; `timeoutMs` is 20,000 by default.
   */
  async settled(timeoutMs = SETTLED_TIMEOUT_MS): Promise<void> {
    const deadlineMs = performance.now() + timeoutMs;
    let quiet = 0;
    let busy = 'no worker has answered';
    while (quiet < QUIET_LOOKS) {
      try {
        const found = await this.#busy();
        quiet = found === undefined ? quiet + 1 : 0;
        busy = found ?? busy;
      } catch (error) {
        // Just after a worker was killed nobody may answer.
        quiet = 0;
        busy = (error as Error).message;
      }
      if (performance.now() > deadlineMs) {
        throw new MillraceError('TIMEOUT', `Not settled within ${timeoutMs} ms: ${busy}.`);
      }
      await delay(LOOK_EVERY_MS);
    }
  }

  async #busy(): Promise<string | undefined> {
    const [functions, transactions, partitions] = await Promise.all([
      this.inspect.functions(),
      this.inspect.transactions(),
      this.inspect.partitions(),
    ]);
    const waiting = functions.filter(({ pending }) => pending > 0);
    if (waiting.length > 0) {
      return waiting.map(({ name, pending }) => `${pending} of ${name}`).join(', ');
    }
    const unread = functions.find(({ dispatched }) => !dispatched);
    if (unread !== undefined) return `nobody reads the events of ${unread.name}`;
    if (transactions.active.length > 0)
      return `${transactions.active.length} transactions are open`;
    const lost = partitions.filter(({ owner }) => owner === null).length;
    return lost > 0 ? `${lost} partitions have no owner` : undefined;
  }

  override async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    // Nobody needs what they still do.
    for (const worker of this.#workers) worker.process.kill();
    await Promise.all(this.#workers.map(async (worker) => worker.process.exited));
    await Promise.all(this.#workers.map(async ({ link }) => link?.close()));
    await super.close();
    await this.#parts.servers.stop();
    await rm(this.#parts.folder, { recursive: true, force: true });
  }
}
