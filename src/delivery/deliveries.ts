/** The durable events of one worker's functions: who dispatches which, from where, and what may be removed. */
import type { Logger } from 'pino';
import type { Caller } from '../bus/caller.ts';
import type { Bus } from '../bus/connection.ts';
import { EventStreams, type Source } from '../bus/event-streams.ts';
import { hash32 } from '../core/hash.ts';
import type { Settings } from '../core/settings.ts';
import type { LoadedFunction } from '../function/load.ts';
import type { StateService } from '../state/service.ts';
import { Cursors, lowestOf } from './cursors.ts';
import { Dispatcher, type DispatcherOptions } from './dispatcher.ts';

export interface DeliveriesOptions {
  bus: Bus;
  settings: Settings;
  log: Logger;
  workerId: string;
  caller: Caller;
  service: StateService;
  readonly runHere: DispatcherOptions['runHere'];
}

const ELECT_MS = 1_000;
const TRIM_MS = 10_000;

interface Registered {
  loaded: LoadedFunction;
  sources: Source[];
}

export class Deliveries {
  readonly #options: DeliveriesOptions;
  readonly #streams: EventStreams;
  readonly #cursors: Cursors;
  #registered = new Map<string, Registered>();
  /** `<function> <stream>` → its dispatcher, or that there will be one. */
  readonly #dispatchers = new Map<string, Dispatcher | 'starting'>();
  #electing: NodeJS.Timeout | undefined;
  #trimming: NodeJS.Timeout | undefined;
  /** Some cursor has gone on since the streams were trimmed. */
  #trimmable = false;
  #closed = false;

  private constructor(options: DeliveriesOptions, cursors: Cursors) {
    this.#options = options;
    this.#streams = new EventStreams(options.bus, options.settings);
    this.#cursors = cursors;
  }

  static async open(options: DeliveriesOptions): Promise<Deliveries> {
    return new Deliveries(options, await Cursors.open(options.bus, options.settings));
  }

  /**
   * Captures the events of these functions; those that are new begin now. To be called before they are announced. Throws
   * STREAM_UNUSABLE, UNAVAILABLE.
   */
  async register(functions: readonly LoadedFunction[]): Promise<void> {
    const registered = new Map<string, Registered>();
    for (const loaded of functions) {
      const { name, definition } = loaded;
      const { on, delivery, from } = definition;
      if (delivery !== 'durable' || on.length === 0) continue;
      const sources = await this.#streams.sourcesOf(name, on);
      for (const { stream } of sources) {
        const { last } = await this.#streams.bounds(stream);
        await this.#cursors.create(name, stream, from === 'start' ? 1 : last + 1);
      }
      registered.set(name, { loaded, sources });
    }
    this.#registered = registered;
    if (registered.size === 0) return;
    this.#electing ??= setInterval(() => this.#elect(), ELECT_MS);
    this.#trimming ??= setInterval(() => void this.#trim().catch(() => {}), TRIM_MS);
  }

  /** Those of functions that this worker dispatches. */
  waitingOf(functionName: string): number {
    let waiting = 0;
    for (const [key, dispatcher] of this.#dispatchers) {
      if (dispatcher !== 'starting' && key.startsWith(`${functionName} `)) {
        waiting += dispatcher.waiting;
      }
    }
    return waiting;
  }

  /** By function. Throws UNAVAILABLE, TIMEOUT. */
  deadLetters(): Promise<Map<string, number>> {
    return this.#streams.deadLetters();
  }

  /** Dispatches no more: others begin where this one has stopped. */
  async close(timeoutMs: number): Promise<void> {
    this.#closed = true;
    clearInterval(this.#electing);
    clearInterval(this.#trimming);
    const dispatchers = [...this.#dispatchers.values()].filter((each) => each !== 'starting');
    this.#dispatchers.clear();
    await Promise.all(dispatchers.map(async (each) => each.stop(timeoutMs)));
  }

  /** Functions that have come, gone or changed, workers that have. */
  #elect(): void {
    if (this.#closed) return;
    const wanted = new Map<string, [LoadedFunction, Source]>();
    for (const [name, { loaded, sources }] of this.#registered) {
      if (!this.#isDispatcher(name)) continue;
      for (const source of sources) wanted.set(keyOf(name, source), [loaded, source]);
    }
    for (const [key, dispatcher] of this.#dispatchers) {
      if (dispatcher === 'starting') continue;
      const [loaded] = wanted.get(key) ?? [];
      if (loaded !== undefined) dispatcher.loaded = loaded;
      else {
        this.#dispatchers.delete(key);
        void dispatcher.stop(this.#options.settings.handoverMs);
      }
    }
    for (const [key, [loaded, source]] of wanted) {
      if (!this.#dispatchers.has(key)) void this.#start(key, loaded, source);
    }
  }

  async #start(key: string, loaded: LoadedFunction, source: Source): Promise<void> {
    const { service, log, ...rest } = this.#options;
    this.#dispatchers.set(key, 'starting');
    try {
      const cursor = await this.#cursors.get(loaded.name, source.stream);
      if (cursor === undefined) throw new Error('the cursor cannot be read');
      if (this.#closed) return;
      const { transactions, ring, cluster } = service;
      const ownerOf = (of: string): string | undefined => cluster.ownerOf(ring.partitionOf(of));
      const cursors = this.#cursors;
      const onSaved = (): void => {
        this.#trimmable = true;
      };
      const options = { ...rest, log, transactions, cursors, source, loaded, ownerOf, onSaved };
      this.#dispatchers.set(key, new Dispatcher(options, cursor));
    } catch (error) {
      log.debug({ err: error, function: loaded.name }, 'durable events are not dispatched yet');
      this.#dispatchers.delete(key);
    }
  }

  /** The highest of the hashes of all workers that have the function and are there: each computes it alike. */
  #isDispatcher(functionName: string): boolean {
    const { caller, service, workerId } = this.#options;
    const weight = (id: string): number => hash32(`${functionName} ${id}`);
    const own = weight(workerId);
    return caller.members.directory
      .workersOf(functionName)
      .filter(({ id, state }) => state === 'running' && service.cluster.members.has(id))
      .every(({ id }) => weight(id) < own || (weight(id) === own && id <= workerId));
  }

  /** Whoever dispatches something from the platform's own stream. */
  async #trim(): Promise<void> {
    if (!this.#trimmable) return;
    this.#trimmable = false;
    const { own, dead } = this.#streams;
    for (const name of this.#registered.keys()) {
      if (!this.#isDispatcher(name)) continue;
      const cursor = await this.#cursors.get(name, dead);
      if (cursor !== undefined) await this.#streams.trimReplayed(name, lowestOf(cursor));
    }
    if (![...this.#dispatchers.keys()].some((key) => key.endsWith(` ${own}`))) return;
    const lowest = await this.#cursors.lowest(own);
    if (lowest !== undefined) await this.#streams.trim(lowest);
  }
}

/** With the subjects: when they change another dispatcher begins. */
function keyOf(functionName: string, { stream, subjects }: Source): string {
  return `${functionName} ${subjects.join(',')} ${stream}`;
}
