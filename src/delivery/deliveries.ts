/** The durable events of one worker's functions: who dispatches which, and from where. */
import type { Logger } from 'pino';
import type { Caller } from '../bus/caller.ts';
import type { Bus } from '../bus/connection.ts';
import { eachOf } from '../bus/each-of.ts';
import type { Publisher } from '../bus/publisher.ts';
import { EventStreams, type Source } from '../bus/event-streams.ts';
import { valueOf, type ByName, type WorkerRecord } from '../core/directory.ts';
import { hash32 } from '../core/hash.ts';
import { MillraceError, messageOf } from '../core/errors.ts';
import type { FunctionReport } from '../core/report.ts';
import type { Settings } from '../core/settings.ts';
import type { FlowDefinition } from '../function/flow.ts';
import type { LoadedFunction } from '../function/load.ts';
import type { StateService } from '../state/service.ts';
import { CRON_SOURCE } from './cron-tail.ts';
import {
  claimed,
  type Cursors,
  StaleCursor,
  takenOver,
  type CursorEntry,
  type StoredCursor,
} from './cursors.ts';
import { Dispatcher, type DispatcherOptions } from './dispatcher.ts';
import type { DeliveryHeader } from './outcome.ts';
import { Quotas } from './quotas.ts';
import { Upkeep } from './upkeep.ts';
import { identityOf, isDurable, scheduleText } from './identity.ts';

export interface DeliveriesOptions {
  bus: Bus;
  settings: Settings;
  log: Logger;
  workerId: string;
  caller: Caller;
  publisher: Publisher;
  service: StateService;
  readonly runHere: DispatcherOptions['runHere'];
}

const ELECT_MS = 1_000;
const MAX_NOTE_TRIES = 20;
/** Functions whose cursors are made at the same time. */
const REGISTERED_AT_ONCE = 16;
/** An event that its dispatcher has read so much earlier, as a share of that time, may have lost its marker since. */
const OLD_SHARE = 0.2;
/** Of a function, in a report. */
const MAX_WAITING_GROUPS = 100;

interface Registered {
  loaded: LoadedFunction;
  identity: string;
  sources: Source[];
  /** Of each stream, when the function was registered: a subject that is new to it counts from here on. */
  ends: ReadonlyMap<string, number>;
}

/** What a worker's functions need before they are announced is done. */
export interface Registration {
  /** To be announced. */
  identities: ByName<string>;
  /** To be called behind the announcement. */
  begin(): void;
}

export class Deliveries {
  readonly #options: DeliveriesOptions;
  readonly #streams: EventStreams;
  readonly #cursors: Cursors;
  readonly #quotas: Quotas;
  readonly #upkeep: Upkeep;
  #registered = new Map<string, Registered>();
  /** `<function> <stream>` → its dispatcher, or that there will be one. */
  readonly #dispatchers = new Map<string, Dispatcher | 'starting'>();
  /** Whose cursors a newer version has written. */
  readonly #newer = new Set<string>();
  /** Likewise: what they run may still end. */
  readonly #stopping = new Map<string, Promise<void>>();
  /** Likewise: since when this worker waits for the one that dispatches it to stop. */
  readonly #waitingSinceMs = new Map<string, number>();
  #electing: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: DeliveriesOptions, cursors: Cursors) {
    this.#options = options;
    this.#streams = new EventStreams(options.bus, options.settings);
    this.#cursors = cursors;
    this.#quotas = new Quotas(cursors);
    this.#upkeep = new Upkeep({ ...options, streams: this.#streams, cursors });
  }

  /**
   * Captures the events of these functions; those that are new begin now. To be called before they are announced. Throws
   * STREAM_UNUSABLE, UNAVAILABLE.
   */
  async register(functions: readonly LoadedFunction[]): Promise<Registration> {
    const durable = functions.filter(({ definition }) => isDurable(definition));
    await this.#streams.captureTogether(
      durable.flatMap(({ name: functionName, definition: { on } }) =>
        on.map((subject) => ({ functionName, subject })),
      ),
    );
    const registered = new Map<string, Registered>();
    await eachOf(durable, REGISTERED_AT_ONCE, async (loaded) => {
      registered.set(loaded.name, await this.#registerOne(loaded));
    });
    const identities = [...registered].map(([name, { identity }]) => [name, identity] as const);
    return {
      identities,
      begin: () => this.#begin(registered),
    };
  }

  async #registerOne(loaded: LoadedFunction): Promise<Registered> {
    const { name, definition } = loaded;
    const identity = identityOf(definition);
    const sources = await this.#streams.sourcesOf(name, definition.on);
    const ends = new Map<string, number>();
    if (definition.cron !== undefined) {
      sources.push({ stream: CRON_SOURCE, subjects: [scheduleText(definition.cron)] });
    }
    for (const { stream, subjects } of sources) {
      const last = await this.#lastOf(stream);
      ends.set(stream, last + 1);
      const fromStart = definition.from === 'start' && stream !== CRON_SOURCE;
      const next = fromStart ? 1 : last + 1;
      const since = Object.fromEntries(subjects.map((subject) => [subject, next]));
      await this.#cursors.create({
        function: name,
        stream,
        identity,
        subjects: since,
        next,
        open: [],
      });
      await this.#noteComing(name, identity, stream, since);
    }
    return { loaded, identity, sources, ends };
  }

  /** The last sequence so far; ticks have the time as theirs. */
  async #lastOf(stream: string): Promise<number> {
    return stream === CRON_SOURCE ? Date.now() : (await this.#streams.bounds(stream)).last;
  }

  /** A subject that is new to a living function counts from when the first worker has registered it, and is kept from then on. */
  async #noteComing(
    functionName: string,
    identity: string,
    stream: string,
    since: Readonly<Record<string, number>>,
  ): Promise<void> {
    for (let tries = 1; tries <= MAX_NOTE_TRIES; tries += 1) {
      const stored = await this.#cursors.read(functionName, stream);
      if (stored === undefined || stored.entry.identity === identity) return;
      const { entry, revision } = stored;
      const known = { ...entry.coming, ...entry.subjects };
      const added = Object.entries(since).filter(([subject]) => known[subject] === undefined);
      if (added.length === 0) return;
      const coming = { ...entry.coming, ...Object.fromEntries(added) };
      try {
        await this.#cursors.put({ ...entry, coming }, revision);
        return;
      } catch (error) {
        // Its dispatcher has stored it meanwhile.
        if (!(error instanceof StaleCursor)) throw error;
      }
    }
    throw new MillraceError('UNAVAILABLE', `The cursor of ${functionName} changes all the time.`);
  }

  #begin(registered: Map<string, Registered>): void {
    this.#registered = registered;
    if (registered.size === 0) return;
    this.#electing ??= setInterval(() => this.#elect(), ELECT_MS);
    this.#upkeep.begin();
  }

  /** Of what this worker dispatches of a function: how much waits; `why`: and why. */
  waitingOf(
    functionName: string,
    why: boolean,
  ): Pick<FunctionReport, 'waiting' | 'held' | 'dropped' | 'sources' | 'dispatches'> {
    const own = this.#of(functionName);
    const sources = this.#registered.get(functionName)?.sources.length ?? 0;
    const dispatches = own.map(({ stream }) => stream);
    const total = (of: (dispatcher: Dispatcher) => number): number =>
      own.reduce((sum, each) => sum + of(each), 0);
    return {
      waiting: total(({ waiting }) => waiting),
      dropped: total(({ dropped }) => dropped),
      ...(sources === 0 ? {} : { sources, dispatches }),
      ...(why ? { held: groupsOf(own) } : {}),
    };
  }

  #of(functionName: string): Dispatcher[] {
    const own: Dispatcher[] = [];
    for (const [key, dispatcher] of this.#dispatchers) {
      if (dispatcher !== 'starting' && key.startsWith(`${functionName} `)) own.push(dispatcher);
    }
    return own;
  }

  /**
   * Of events that are to be settled: those which were, so long ago that their markers may be gone. Only events with a key that
   * were read a while ago are looked for. Rejects where their cursors cannot be read.
   */
  async past(
    functionName: string,
    deliveries: readonly DeliveryHeader[],
  ): Promise<ReadonlySet<number>> {
    const past = new Set<number>();
    const oldMs = Date.now() - this.#options.settings.answerKeepMs * OLD_SHARE;
    for (const { key, heldAtMs, stream, sequence } of deliveries) {
      if (key === undefined || heldAtMs > oldMs) continue;
      const { next, open } = (await this.#cursors.read(functionName, stream))?.entry ?? {};
      const isOpen = open?.some(([each]) => each === sequence) === true;
      if (sequence < (next ?? 0) && !isOpen) past.add(sequence);
    }
    return past;
  }

  /** By function. Throws UNAVAILABLE, TIMEOUT. */
  deadLetters(): Promise<Map<string, number>> {
    return this.#streams.deadLetters();
  }

  /** Dispatches no more: others begin where this one has stopped. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#electing);
    this.#upkeep.close();
    const dispatchers = [...this.#dispatchers.values()].filter((each) => each !== 'starting');
    this.#dispatchers.clear();
    const stops = dispatchers.map(async (each) => each.stop(this.#stopMs(each.loaded)));
    await Promise.all([...stops, ...this.#stopping.values()]);
    await this.#quotas.store().catch(() => {});
  }

  /** Functions that have come, gone or changed, workers that have. */
  #elect(): void {
    if (this.#closed) return;
    const wanted = new Map<string, [Registered, Source]>();
    for (const [name, registered] of this.#registered) {
      if (!this.#isDispatcher(name, registered.identity)) continue;
      for (const source of registered.sources) {
        wanted.set(keyOf(name, source.stream), [registered, source]);
      }
    }
    for (const [key, dispatcher] of this.#dispatchers) {
      if (dispatcher === 'starting') continue;
      const [registered] = wanted.get(key) ?? [];
      // One with other flow control begins anew: what is held is held by the rules before.
      const before = dispatcher.loaded.definition.flow;
      const same = registered?.identity === dispatcher.identity;
      if (same && registered.loaded.definition.flow === before) {
        dispatcher.loaded = registered.loaded;
      } else this.#stop(key, dispatcher);
    }
    for (const [key, [registered, source]] of wanted) {
      if (!this.#dispatchers.has(key) && !this.#stopping.has(key)) {
        void this.#start(key, registered, source);
      }
    }
  }

  #stop(key: string, dispatcher: Dispatcher): void {
    this.#dispatchers.delete(key);
    const stopped = dispatcher.stop(this.#stopMs(dispatcher.loaded));
    const { name } = dispatcher.loaded;
    const left = async (): Promise<void> => {
      await stopped;
      await this.#quotas.store().catch(() => {});
      this.#stopping.delete(key);
      if (![...this.#dispatchers.keys()].some((each) => each.startsWith(`${name} `))) {
        this.#quotas.drop(name);
      }
    };
    this.#stopping.set(key, left());
  }

  /** How long what runs may take to end: where runs are limited the next dispatcher waits for that. */
  #stopMs({ definition: { flow } }: LoadedFunction): number {
    const { handoverMs, drainTimeoutMs } = this.#options.settings;
    return isLimited(flow) ? drainTimeoutMs : handoverMs;
  }

  async #start(key: string, registered: Registered, source: Source): Promise<void> {
    const { service, log, ...rest } = this.#options;
    const { loaded } = registered;
    this.#dispatchers.set(key, 'starting');
    try {
      const entry = await this.#claim(registered, source);
      if (entry === undefined || this.#closed) {
        this.#dispatchers.delete(key);
        return;
      }
      // Behind the claim: whoever dispatched before has stored his rates until then.
      const { flow } = loaded.definition;
      const quota = flow && (await this.#quotas.of(loaded.name, flow));
      const last = await this.#lastOf(source.stream);
      const { transactions } = service;
      const ownerOf = (of: string): string | undefined => service.ownerOf(of);
      const cursors = this.#cursors;
      const onSaved = (): void => {
        this.#upkeep.wanted();
        // The next cursor brings them as well.
        void this.#quotas.store().catch(() => {});
      };
      const onLost = (): void => {
        const dispatcher = this.#dispatchers.get(key);
        if (dispatcher !== undefined && dispatcher !== 'starting') this.#stop(key, dispatcher);
      };
      const replays = source.stream === this.#streams.dead;
      const own = {
        log,
        transactions,
        cursors,
        source,
        replays,
        last,
        loaded,
        quota,
        ownerOf,
        onSaved,
        onLost,
      };
      this.#dispatchers.set(key, new Dispatcher({ ...rest, ...own }, entry));
    } catch (error) {
      log.debug({ err: error, function: loaded.name }, 'durable events are not dispatched yet');
      if ((error as MillraceError).code === 'NEWER_VERSION' && !this.#newer.has(key)) {
        this.#newer.add(key);
        const why = `${messageOf(error)} [NEWER_VERSION]`;
        log.error({ function: loaded.name }, `its durable events are not dispatched here: ${why}`);
      }
      this.#dispatchers.delete(key);
    }
  }

  /**
   * Whoever dispatched the source before finds out when it stores its cursor the next time. Undefined while there are workers
   * whose version has another identity and has the source.
   */
  async #claim(registered: Registered, source: Source): Promise<StoredCursor | undefined> {
    const { loaded, identity, sources, ends } = registered;
    const { name } = loaded;
    const stored = await this.#cursors.read(name, source.stream);
    if (stored === undefined) throw new Error('there is no cursor');
    const { entry, revision } = stored;
    if (entry.identity === identity) {
      if (!this.#mayFollow(registered, entry)) return undefined;
      const begun = this.#claimed(entry);
      return { entry: begun, revision: await this.#cursors.put(begun, revision) };
    }
    if (this.#workersWith(name, entry.identity).length > 0) return undefined;
    const changed = this.#claimed(
      takenOver(entry, identity, source.subjects, ends.get(source.stream) ?? 1),
    );
    const taken = { entry: changed, revision: await this.#cursors.put(changed, revision) };
    // What the function has no source in any more must not be kept for it.
    const streams = new Set(sources.map(({ stream }) => stream));
    for (const { function: owner, stream } of await this.#cursors.all()) {
      if (owner === name && !streams.has(stream)) await this.#cursors.remove(name, stream);
    }
    return taken;
  }

  /** Where runs are limited: not while whoever dispatched before has runs to end. */
  #mayFollow({ loaded }: Registered, entry: CursorEntry): boolean {
    const { service, workerId, settings } = this.#options;
    const { worker = workerId, stopped = false } = entry;
    const key = keyOf(loaded.name, entry.stream);
    const isThere = worker !== workerId && !stopped && service.cluster.members.has(worker);
    const now = performance.now();
    const sinceMs = this.#waitingSinceMs.get(key) ?? now;
    const waits = isThere && now - sinceMs < settings.drainTimeoutMs + 2 * ELECT_MS;
    if (isLimited(loaded.definition.flow) && waits) {
      this.#waitingSinceMs.set(key, sinceMs);
      return false;
    }
    this.#waitingSinceMs.delete(key);
    return true;
  }

  #claimed(entry: CursorEntry): CursorEntry {
    const { service, workerId } = this.#options;
    const isThere = (id: string): boolean => id === workerId || service.cluster.members.has(id);
    return claimed(entry, workerId, isThere);
  }

  /** Those that drain included: what they run is theirs until they are gone. */
  #workersWith(functionName: string, identity: string): WorkerRecord[] {
    return this.#options.caller.members.directory
      .workersOf(functionName)
      .filter(({ identities }) => valueOf(identities, functionName) === identity);
  }

  /** The highest of the hashes of all workers that have this version or one like it: each computes it alike. */
  #isDispatcher(functionName: string, identity: string): boolean {
    const { service, workerId } = this.#options;
    const weight = (id: string): number => hash32(`${functionName} ${id}`);
    const own = weight(workerId);
    return this.#workersWith(functionName, identity)
      .filter(({ id, state }) => state === 'running' && service.cluster.members.has(id))
      .every(({ id }) => weight(id) < own || (weight(id) === own && id <= workerId));
  }
}

/** Does it say how many may run at once? */
function isLimited(flow: FlowDefinition | undefined): boolean {
  return flow?.concurrency !== undefined || flow?.singleton === true;
}

function keyOf(name: string, stream: string): string {
  return `${name} ${stream}`;
}

/** The largest ones. */
function groupsOf(dispatchers: readonly Dispatcher[]): NonNullable<FunctionReport['held']> {
  const count = dispatchers.reduce((sum, { unread }) => sum + unread, 0);
  const stream = count > 0 ? [{ why: 'stream', key: '', count, untilMs: null }] : [];
  return [...stream, ...dispatchers.flatMap((each) => each.waitingGroups())]
    .sort((left, right) => right.count - left.count)
    .slice(0, MAX_WAITING_GROUPS);
}
