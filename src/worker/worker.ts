/**
 * A worker: a process that runs functions. Its life is `open` → (`offer`, again at every reload) → `drain` → closed.
 *
 * - W1  It is announced only after its subscriptions are at the broker, so that no call finds it deaf.
 * - W2  A reload swaps all functions at once, or changes nothing: an invocation runs wholly on the version that
 *       accepted it.
 * - W3  A drain loses nothing: callers are told first, what arrives meanwhile is served, answers are flushed, and
 *       only then the worker leaves.
 * - W4  A call that comes again while it is still running or waiting here is not run twice.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { nuid, type Msg } from 'nats';
import type { Logger } from 'pino';
import { Caller } from '../bus/caller.ts';
import type { Bus } from '../bus/connection.ts';
import { hasJetStream } from '../bus/jetstream-api.ts';
import { Publisher } from '../bus/publisher.ts';
import { Answers } from '../cache/answers.ts';
import { CachedCalls } from '../cache/calls.ts';
import { sayInvalid } from '../cache/invalidations.ts';
import { MillraceError } from '../core/errors.ts';
import { isOwnFunction } from '../core/names.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';
import type { LoadedFunction } from '../function/load.ts';
import { Cursors } from '../delivery/cursors.ts';
import { Deliveries, type DeliveriesOptions, type Registration } from '../delivery/deliveries.ts';
import { isDurable } from '../delivery/identity.ts';
import type { EventFailure } from '../delivery/outcome.ts';
import { StateQuestions } from '../state/questions.ts';
import { StateService } from '../state/service.ts';
import { PartitionChanges } from './partition-changes.ts';
import type { Tracing } from '../telemetry/tracing.ts';
import { Announcer } from './announcer.ts';
import { BlockWatch } from './block-watch.ts';
import { CallSubscriptions } from './call-subscriptions.ts';
import { Canaries } from './canary.ts';
import { counted, dispatchedHere, unwrapped, type Runs } from './delivered.ts';
import { SelfReport, type SelfReportOptions } from './reports.ts';
import { Discovery } from './discovery.ts';
import { Inspector } from './inspect.ts';
import { callKey, runningByCall, type Incoming, type Invocation } from './invocation.ts';
import { Forwards } from './forward.ts';
import { runCached } from './cached-runs.ts';
import { makeHost } from './host.ts';
import { Joins } from './joins.ts';
import { LaterEvents } from './later.ts';
import { cachesOf, fullOf, giveUpAll, loadsOf, offeredOf, registerStrategies } from './load.ts';
import { LiveInvocations } from './live.ts';
import { LoadMeter } from './load-meter.ts';
import { RunLogs } from './logs/run-logs.ts';
import { WorkerMetrics } from './metrics.ts';
import { Replies } from './replies.ts';
import { keepsFromStarting, noJetStream, notAFrame } from './refusals.ts';
import type { RunnerHost } from './runner-host.ts';
import { FunctionRunner } from './runner.ts';
import { Secrets } from './secrets.ts';
import { FunctionStats } from './stats.ts';
import { FunctionSubscriptions } from './subscriptions.ts';
import { failPlain, receiveFrame, receivePlain, type FrameTarget } from './transports.ts';
import { Isolated } from './threads/isolated.ts';
import { unlessDown } from './unless-down.ts';
import { UnknownFunctions } from './unknown-functions.ts';

export interface WorkerOptions {
  bus: Bus;
  settings: Settings;
  log: Logger;
  /** The package's version, for discovery. */
  version: string;
  /** Undefined where traces are off. */
  tracing?: Tracing | undefined;
  /** Default: there are none. */
  secrets?: Secrets;
}

/** How often a drain looks whether all is answered. */
const DRAIN_POLL_MS = 5;
/** After the farewell: time for calls that were already under way to arrive. */
const DRAIN_GRACE_MS = 50;

export class Worker {
  readonly id = nuid.next();
  readonly startedAt = new Date().toISOString();
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #subjects: Subjects;
  readonly #log: Logger;
  readonly #caller: Caller;
  readonly #publisher: Publisher;
  readonly #forwards: Forwards;
  /** Of functions that its handlers call, and of those that it runs. */
  readonly #cached: CachedCalls;
  readonly #answers: Answers;
  readonly #replies: Replies;
  readonly #announcer: Announcer;
  readonly #inspector: Inspector;
  readonly #discovery: Discovery;
  readonly #subscriptions: FunctionSubscriptions;
  readonly #calls: CallSubscriptions;
  readonly #unknown: UnknownFunctions;
  readonly #host: RunnerHost;
  readonly #stopListening: () => void;
  readonly #live = new LiveInvocations();
  readonly #stats = new Map<string, FunctionStats>();
  readonly #meter = new LoadMeter(this.#stats, this.#live);
  readonly #isolated: Isolated;
  readonly #blocks: BlockWatch;
  readonly #joins: Joins;
  readonly #canaries = new Canaries();
  readonly #logs: RunLogs;
  readonly #metrics: WorkerMetrics;
  #runners: ReadonlyMap<string, FunctionRunner> = new Map();
  /** Those of a reload that is under way: a function that it adds may be asked for at once. */
  #next: ReadonlyMap<string, FunctionRunner> | undefined;
  #sweep: NodeJS.Timeout | undefined;
  /** Opened with the first functions; undefined where the broker has no JetStream. */
  #state: { service: StateService; questions: StateQuestions; deliveries: Deliveries } | undefined;
  #changes: PartitionChanges | undefined;
  /** Undefined where there is no state. */
  #later: LaterEvents | undefined;
  #opened: Promise<void> | undefined;
  #draining: Promise<boolean> | undefined;
  #offering: Promise<void> = Promise.resolve();

  constructor({ bus, settings, version, tracing, secrets = new Secrets(), ...of }: WorkerOptions) {
    const log = secrets.cleanLog(of.log);
    this.#bus = bus;
    this.#settings = settings;
    this.#subjects = subjectsOf(settings.namespace);
    this.#log = log.child({ worker: this.id });
    this.#isolated = new Isolated(log.level);
    this.#blocks = new BlockWatch(this.#log, this.#stats, this.#live);
    this.#caller = new Caller(bus, settings);
    this.#publisher = new Publisher(bus, settings);
    this.#forwards = new Forwards(this.#caller, settings, this.id);
    this.#replies = new Replies(bus, settings, () => this.#live.size === 0);
    this.#cached = new CachedCalls(bus, settings, this.#caller);
    this.#answers = new Answers(bus, settings);
    this.#joins = new Joins(bus, settings, this.id, () => this.#state?.service.transactions);
    this.#logs = new RunLogs({ bus, settings, workerId: this.id, log: this.#log });
    this.#host = makeHost({
      bus,
      settings,
      logs: this.#logs,
      secrets,
      tracing,
      workerId: this.id,
      caller: this.#caller,
      cached: this.#cached,
      publisher: this.#publisher,
      live: this.#live,
      state: () => this.#state,
    });
    this.#subscriptions = new FunctionSubscriptions(bus, this.#subjects, (name, message) =>
      this.#onPlain(name, message),
    );
    this.#calls = new CallSubscriptions(bus, this.#subjects, this.id, (message, only) =>
      this.#onFrame(message, only),
    );
    this.#unknown = new UnknownFunctions(bus, settings, this.#caller, (name) =>
      this.#runners.has(name),
    );
    this.#announcer = new Announcer(bus, settings, this.id, {
      full: () => fullOf(this.#users()),
      loads: () => loadsOf(this.#users(), this.#meter),
    });
    this.#stopListening = bus.onStatus((up) => {
      if (up) this.#dropAnswers();
    });
    const own: SelfReportOptions = {
      workerId: this.id,
      startedAt: this.startedAt,
      settings,
      live: this.#live,
      stats: this.#stats,
      meter: this.#meter,
      answers: this.#answers,
      cached: this.#cached,
      runners: () => this.#users(),
      canaries: this.#canaries,
      state: () => this.#state,
      isDraining: () => this.#draining !== undefined,
    };
    const reports = new SelfReport(own);
    const { caller, logs } = { caller: this.#caller, logs: this.#logs };
    this.#metrics = new WorkerMetrics(own, { bus, caller, logs, reports, version });
    this.#inspector = new Inspector(bus, settings, this.#caller.members, this.id, {
      reports,
      state: () => this.#state?.questions,
      deadLetters: async () => (await this.#state?.deliveries.deadLetters()) ?? new Map(),
    });
    this.#discovery = new Discovery(bus, {
      name: settings.namespace,
      workerId: this.id,
      version,
      startedAt: this.startedAt,
      functions: () => reports.discovered(),
    });
  }

  get inFlight(): number {
    return this.#live.size;
  }

  /** What it has counted since its start, in Prometheus' text format: docs/telemetry.md. */
  metricsText(): Promise<string> {
    return this.#metrics.text();
  }

  /**
   * Runs these functions from now on, instead of those offered before (W2). Rejects with UNAVAILABLE when the
   * connection breaks meanwhile; then those offered before go on. One that drains takes nothing on again.
   */
  async offer(functions: readonly LoadedFunction[]): Promise<void> {
    this.#offering = this.#offering.catch(() => {}).then(() => this.#offer(functions));
    await this.#offering;
  }

  async #offer(functions: readonly LoadedFunction[]): Promise<void> {
    if (this.#draining !== undefined) return;
    for (const loaded of functions) this.#host.secrets.need(loaded);
    this.#opened ??= this.#openState();
    await this.#opened;
    if (this.#state !== undefined) {
      this.#later ??= await LaterEvents.open(this.#bus, this.#settings, this.#publisher);
    }
    const all = this.#later === undefined ? functions : [...functions, this.#later.loaded];
    const registration = await this.#register(all);
    const runners = new Map<string, FunctionRunner>();
    for (const loaded of all) {
      const before = this.#runners.get(loaded.name);
      const unchanged = before?.loaded.version === loaded.version;
      if (unchanged) this.#isolated.renew(before.loaded, loaded, all);
      const runner = unchanged ? before : this.#newRunner(all, loaded);
      this.#canaries.set(runner, loaded, (...canary) => this.#newRunner(all, ...canary));
      runners.set(loaded.name, runner);
    }
    const offered = offeredOf(functions, runners, registration);
    this.#announcer.assertFits(offered);
    this.#next = runners;
    try {
      this.#subscriptions.add(functions);
      await this.#bus.flush();
      await this.#subscriptions.keepOnly(functions);
      this.#runners = runners;
      this.#isolated.keepOnly(this.#canaries.loadedOf(runners.values()));
    } catch (error) {
      await unlessDown(this.#subscriptions.keepOnly(this.#users().map(({ loaded }) => loaded)));
      throw error;
    } finally {
      this.#next = undefined;
    }
    registerStrategies(functions, this.#caller.balancer);
    this.#announcer.offer(offered);
    registration?.begin();
    this.#dropAnswers();
    // Where the connection breaks just now, the announcement is made again once it is back.
    await unlessDown(this.#bus.flush());
  }

  /** What callers keep of other versions, or from before changes that this worker's absence has kept from being told. */
  #dropAnswers(): void {
    const cached = cachesOf(this.#users().map(({ loaded }) => loaded));
    const functions = cached.map(([name]): [string, null] => [name, null]);
    if (functions.length > 0) sayInvalid(this.#bus, this.#settings.namespace, { functions });
  }

  /** Their events are captured before anybody can know of the functions. */
  async #register(functions: readonly LoadedFunction[]): Promise<Registration | undefined> {
    if (this.#state !== undefined) return this.#state.deliveries.register(functions);
    const durable = functions.find(({ definition }) => isDurable(definition));
    if (durable === undefined) return undefined;
    throw noJetStream(durable.name);
  }

  /** Without the platform's own functions. */
  #users(): FunctionRunner[] {
    return [...this.#runners.values()].filter(({ loaded }) => !isOwnFunction(loaded.name));
  }

  async #openState(): Promise<void> {
    const [bus, settings, log, workerId] = [this.#bus, this.#settings, this.#log, this.id];
    const [caller, publisher] = [this.#caller, this.#publisher];
    try {
      const cursors = await Cursors.open(bus, settings);
      const service = await StateService.open({ bus, settings, log, workerId, publisher });
      const questions = new StateQuestions(bus, settings, workerId, service);
      const runHere: DeliveriesOptions['runHere'] = (...run) => this.#runHere(...run);
      const own = { bus, settings, log, workerId, caller, publisher, service, runHere };
      const deliveries = new Deliveries(own, cursors);
      this.#state = { service, questions, deliveries };
      this.#changes = new PartitionChanges(bus, settings, this.#inspector, service);
      caller.ownerOf = (key) => service.ownerOf(key);
      service.start();
    } catch (error) {
      // With functions that find no state beside workers that have some, transactions would be torn apart.
      if (keepsFromStarting(error) || (await hasJetStream(bus))) {
        this.#opened = undefined;
        throw error;
      }
      this.#log.warn({ err: error }, 'there is no state on this worker');
    }
  }

  /**
   * Stops taking work, waits for what was taken, and leaves (W3). False when some handler had not ended within
   * `drainTimeoutMs`: its requester is answered UNAVAILABLE. The connection stays open; it is its opener's to close.
   */
  drain(): Promise<boolean> {
    this.#draining ??= this.#drain();
    return this.#draining;
  }

  async #drain(): Promise<boolean> {
    await unlessDown(this.#offering);
    this.#announcer.draining();
    const deadlineMs = performance.now() + this.#settings.drainTimeoutMs;
    await this.#state?.deliveries.close();
    this.#state?.service.leave();
    this.#changes?.close();
    this.#inspector.stopAnswering();
    this.#discovery.close();
    await unlessDown(this.#unknown.drain());
    await unlessDown(this.#subscriptions.keepOnly([]));
    await delay(DRAIN_GRACE_MS);
    // From here on the broker tells callers that their frame reached nobody, and they go elsewhere.
    await unlessDown(this.#calls.drain());
    const isClean = (): boolean => this.#live.size === 0 && this.#forwards.inFlight === 0;
    while (!isClean() && performance.now() < deadlineMs) await delay(DRAIN_POLL_MS);
    const clean = isClean();
    giveUpAll(this.#live, new MillraceError('UNAVAILABLE', 'The worker stops.'));
    clearInterval(this.#sweep);
    this.#meter.close();
    this.#blocks.close();
    this.#metrics.close();
    this.#isolated.keepOnly([]);
    this.#state?.questions.close();
    await this.#state?.service.close();
    this.#replies.flush();
    this.#logs.close();
    this.#host.runTraces?.close();
    this.#stopListening();
    this.#dropAnswers();
    this.#inspector.close();
    this.#announcer.leave();
    await unlessDown(this.#bus.flush());
    this.#replies.close();
    this.#host.streams.close();
    this.#caller.close();
    this.#publisher.close();
    this.#cached.close();
    this.#answers.close();
    return clean;
  }

  #newRunner(
    all: readonly LoadedFunction[],
    loaded: LoadedFunction,
    stats = this.#statsOf(loaded.name),
  ) {
    const isolated = this.#isolated.of(loaded, all);
    return new FunctionRunner(isolated, stats, this.#settings, this.#host);
  }

  #statsOf(name: string): FunctionStats {
    const stats = this.#stats.get(name) ?? new FunctionStats();
    this.#stats.set(name, stats);
    return stats;
  }

  /**
   * W4: a call that comes again while it still runs or waits here is not run a second time. After a reconnect callers
   * send all that was in flight again; without this the copies would fill the queues.
   */
  #onFrame(message: Msg, only?: string): void {
    let running: Map<string, Invocation> | undefined;
    const target: FrameTarget = {
      replies: this.#replies,
      subjectOf: (name) => this.#subjects.fn(name),
      deliver: (name, incoming) => {
        if (incoming.attempt === 1) this.#deliver(name, incoming);
        else {
          running ??= runningByCall(this.#live);
          const same = running.get(callKey(name, incoming));
          if (same === undefined) this.#deliver(name, incoming);
          else same.answerTo(unwrapped(incoming, this.#runs(name)));
        }
      },
    };
    if (receiveFrame(message, target, only)) return;
    failPlain(this.#bus, message.reply ?? '', notAFrame());
  }

  /** What is said of a run. */
  #runs(functionName: string): Runs {
    const runner = this.#runners.get(functionName) ?? this.#next?.get(functionName);
    const counts = this.#stats.get(functionName)?.events;
    return { version: runner?.loaded.version ?? '', worker: this.id, counts };
  }

  #onPlain(functionName: string, message: Msg): void {
    const incoming = receivePlain(message, this.#bus, () => nuid.next());
    const { loaded } = this.#runners.get(functionName) ?? {};
    if (loaded === undefined || !this.#forwards.send(loaded, incoming)) {
      this.#deliver(functionName, incoming);
    }
  }

  #deliver(functionName: string, received: Incoming): void {
    const stable = this.#runners.get(functionName) ?? this.#next?.get(functionName);
    if (stable === undefined) {
      received.fail(
        new MillraceError('UNKNOWN_FUNCTION', `This worker has no function ${functionName}.`),
      );
      return;
    }
    const runs = this.#runs(functionName);
    const incoming = unwrapped(received, runs);
    const runner = this.#canaries.choose(stable, incoming);
    runs.version = runner.loaded.version;
    incoming.joined = this.#joins.of(incoming);
    this.#sweep ??= setInterval(() => this.#onSweep(), this.#settings.sweepIntervalMs);
    const run = (one: Incoming): void => runner.accept(one);
    if (!runCached(this.#answers, runner.loaded, incoming, this.#settings, run)) run(incoming);
  }

  async #runHere(
    ...[name, events, batch, timeoutMs]: Parameters<DeliveriesOptions['runHere']>
  ): Promise<EventFailure | undefined> {
    const runs = this.#runs(name);
    const deliver = (incoming: Incoming): void => this.#deliver(name, incoming);
    return counted(this.#caller.balancer, name, this.id, async () =>
      dispatchedHere(events, batch, timeoutMs, runs, deliver),
    );
  }

  #onSweep(): void {
    const now = performance.now();
    for (const [invocation, runner] of this.#live) {
      if (now >= invocation.deadlineMs) runner.expire(invocation);
    }
    this.#announcer.look();
    if (this.#live.size > 0) return;
    clearInterval(this.#sweep);
    this.#sweep = undefined;
  }
}
