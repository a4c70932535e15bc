/** Reads one source of one function and has its events run: core/delivery/SPEC.md, "An event's way". */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Caller } from '../bus/caller.ts';
import type { Bus } from '../bus/connection.ts';
import type { Source } from '../bus/event-streams.ts';
import type { Publisher } from '../bus/publisher.ts';
import { StreamTail, type StreamEvent } from '../bus/stream-tail.ts';
import { Dispatch, type Held, type Known, type WaitingGroup } from '../core/delivery/dispatch.ts';
import type { Delivery } from '../core/delivery/marker.ts';
import type { Quota } from '../core/delivery/quota.ts';
import { messageOf, type MillraceError } from '../core/errors.ts';
import { CONTENT_TYPE_HEADER, contentTypeOf } from '../core/payload.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf } from '../core/subjects.ts';
import type { LoadedFunction } from '../function/load.ts';
import type { Transactions } from '../state/transactions.ts';
import { Beginnings } from './beginnings.ts';
import { Careful, isLoss, MAX_LOSSES } from './careful.ts';
import { CRON_SOURCE, CronTail } from './cron-tail.ts';
import type { Cursors, StoredCursor } from './cursors.ts';
import { SavedCursor } from './saved-cursor.ts';
import { bury } from './dead-letters.ts';
import {
  heldOf,
  incomingOf,
  placeOf,
  placeOfAll,
  remember,
  sizeReason,
  type Incoming,
  type Place,
} from './incoming.ts';
import {
  decodeOutcome,
  frameOf,
  saysFailed,
  type DeliveryHeader,
  type DispatchedEvent,
  type EventFailure,
} from './outcome.ts';

export interface DispatcherOptions {
  bus: Bus;
  settings: Settings;
  log: Logger;
  workerId: string;
  caller: Caller;
  transactions: Transactions;
  publisher: Publisher;
  cursors: Cursors;
  source: Source;
  /** The last sequence of the stream, when the cursor was claimed. */
  last: number;
  /** It has dead letters that are handled again. */
  replays: boolean;
  loaded: LoadedFunction;
  /** Where the function has flow control: shared with its other sources. */
  quota: Quota | undefined;
  /** The worker with the key's state. */
  readonly ownerOf: (key: string) => string | undefined;
  /** The cursor has gone on: what lies before it may be removed. */
  readonly onSaved: () => void;
  /** Another worker dispatches the source. */
  readonly onLost: () => void;
  /** Runs them on this worker, as one. Resolves with how they failed; rejects where the platform did. */
  readonly runHere: (
    functionName: string,
    events: readonly DispatchedEvent[],
    batch: boolean,
    timeoutMs: number,
  ) => Promise<EventFailure | undefined>;
}

/** Beyond the function's own timeout: a worker that says nothing for so much longer is taken for lost. */
const ANSWER_MARGIN_MS = 5_000;
/** Between runs that the platform failed: no attempts of the function's. */
const PLATFORM_RETRY_MS = 200;
const PLATFORM_CODES = new Set([
  'UNAVAILABLE',
  'TIMEOUT',
  'TRANSACTION_CONFLICT',
  'UNKNOWN_FUNCTION',
  'CANCELLED',
]);
const PROBLEM_NOTICE_MS = 30_000;
const BURY_RETRY_MS = 1_000;
const STOP_POLL_MS = 10;
/** Longer ones come at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export class Dispatcher {
  readonly stream: string;
  readonly identity: string;
  /** What markers call the source. */
  readonly #markers: string;
  /** The present version: a reload changes it. */
  loaded: LoadedFunction;
  readonly #options: DispatcherOptions;
  readonly #dispatch: Dispatch<Incoming>;
  readonly #tail: StreamTail | CronTail;
  #freed: NodeJS.Immediate | undefined;
  /** Another source of the function may have used what there is room for now. */
  readonly #onFreed = (): void => {
    this.#freed ??= setImmediate(() => {
      this.#freed = undefined;
      this.#pump();
    });
  };
  readonly #saved: SavedCursor;
  readonly #careful: Careful;
  readonly #beginnings: Beginnings;
  #due: NodeJS.Timeout | undefined;
  /** Events with a key are read one after the other: a schema may take its time. */
  #reading: Promise<void> | undefined;
  /** Came in and are not in the dispatch yet. */
  #unread = 0;
  #pumping = false;
  #stopped = false;
  #problemToldAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: DispatcherOptions, stored: StoredCursor) {
    const { entry } = stored;
    const { bus, settings, source, loaded, quota } = options;
    this.#options = options;
    this.stream = source.stream;
    this.loaded = loaded;
    this.identity = entry.identity;
    this.#markers = `${source.stream}.${entry.identity}`;
    this.#beginnings = new Beginnings(entry);
    this.#dispatch = new Dispatch(entry, settings, loaded.definition.flow, quota);
    quota?.onFreed(this.#onFreed);
    const { cursors, onSaved, onLost } = options;
    this.#saved = new SavedCursor(stored, {
      cursors,
      intervalMs: settings.cursorIntervalMs,
      cursor: () => this.#dispatch.cursor(),
      onSaved,
      onLost,
      onProblem: (error) => this.#onProblem(error),
    });
    this.#careful = new Careful(entry, options.last);
    const { cron } = loaded.definition;
    const tail = {
      from: this.#dispatch.from,
      room: () => Math.max(0, this.#dispatch.room - this.#unread),
      onEvent: (event: StreamEvent) => this.#onEvent(event),
    };
    if (source.stream === CRON_SOURCE && cron !== undefined) {
      // Of another schedule than before only what comes from then on.
      const from = Math.max(entry.next, ...Object.values(entry.subjects));
      const open = entry.open.map(([tick]) => tick);
      const subject = subjectsOf(settings.namespace).cron(loaded.name);
      this.#tail = new CronTail({
        ...tail,
        from,
        open,
        subject,
        schedule: cron,
        functionName: loaded.name,
      });
    } else {
      const onProblem = (error: Error): void => this.#onProblem(error);
      this.#tail = new StreamTail(bus, { ...source, ...tail, onProblem });
    }
  }

  /** Events that wait: what is in the stream, and what was read. */
  get waiting(): number {
    return this.unread + this.#dispatch.held - this.#dispatch.running;
  }

  /** What is held, by why it waits and for which key. */
  waitingGroups(): (Omit<WaitingGroup, 'untilMs'> & { untilMs: number | null })[] {
    const now = performance.now();
    return this.#dispatch.waiting(now).map(({ untilMs, ...group }) => ({
      ...group,
      untilMs: untilMs === undefined ? null : Math.round(untilMs - now),
    }));
  }

  /** Events of the stream that were not read yet. */
  get unread(): number {
    return this.#tail.pending + this.#unread;
  }

  get dropped(): number {
    return this.#dispatch.dropped;
  }

  /** Reads no further; what runs is waited for, no longer than `timeoutMs`. */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopped = true;
    this.#tail.close();
    this.#options.quota?.forget(this.#onFreed);
    this.#dispatch.close();
    clearImmediate(this.#freed);
    clearTimeout(this.#due);
    const untilMs = performance.now() + timeoutMs;
    while (this.#dispatch.running > 0 && performance.now() < untilMs) {
      await delay(STOP_POLL_MS);
    }
    await this.#saved.close(this.#dispatch.running === 0);
  }

  #onEvent(stored: StreamEvent): void {
    const known = this.#dispatch.read(stored.sequence);
    if (known === undefined) return;
    if (this.#beginnings.isEarly(stored)) {
      const skip = (): void => this.#dispatch.skip(stored.sequence);
      if (this.#reading === undefined) skip();
      else this.#inTurn(skip);
      return;
    }
    const incoming = incomingOf(stored, this.stream, this.#options.replays);
    const place = this.#reading === undefined ? placeOfAll(this.loaded.definition) : undefined;
    if (place !== undefined) {
      this.#add(incoming, known, place);
      this.#pump();
      return;
    }
    this.#inTurn(() => this.#read(incoming, known));
  }

  /** Behind the events that are being read: the cursor must not pass them. */
  #inTurn(step: () => void | Promise<void>): void {
    this.#unread += 1;
    const before = this.#reading ?? Promise.resolve();
    const reading: Promise<void> = before.then(step).then(() => {
      this.#unread -= 1;
      if (this.#reading === reading) this.#reading = undefined;
      this.#pump();
    });
    this.#reading = reading;
  }

  /** Never rejects: an event that cannot be read is a dead letter. */
  async #read(incoming: Incoming, known: Known): Promise<void> {
    const { definition } = this.loaded;
    const { settings } = this.#options;
    try {
      const place =
        placeOfAll(definition) ??
        (await placeOf(incoming, definition, known.failures + 1, settings));
      this.#add(incoming, known, place);
    } catch (error) {
      const held = heldOf(incoming, known, { key: undefined, lot: undefined });
      this.#dispatch.hold(held);
      const message = `The event cannot be read: ${messageOf(error)}`;
      void this.#bury(held, this.#final('INVALID_INPUT', message));
    }
  }

  #add(incoming: Incoming, known: Known, place: Place): void {
    this.#dispatch.add(heldOf(incoming, known, place), performance.now());
  }

  #pump(): void {
    if (this.#pumping || this.#stopped) return;
    this.#saved.changed();
    this.#pumping = true;
    this.#dispatch.alone = this.#careful.on;
    const { runs, refused } = this.#dispatch.take(performance.now());
    for (const run of runs) void this.#run(run);
    for (const held of refused) void this.#refuse(held);
    this.#pumping = false;
    clearTimeout(this.#due);
    const { dueMs } = this.#dispatch;
    if (dueMs !== undefined) {
      const waitMs = Math.min(MAX_TIMER_MS, Math.max(1, dueMs - performance.now()));
      this.#due = setTimeout(() => this.#pump(), waitMs);
    }
    this.#tail.more();
  }

  /** One event, or those of a batch. */
  async #run(run: readonly Held<Incoming>[]): Promise<void> {
    let failure = this.#tooLarge(run);
    try {
      if (this.#careful.on) failure ??= await this.#alone(run);
      if (failure === undefined) failure = await this.#call(run);
    } catch (error) {
      const { code, message } = error as MillraceError;
      if (PLATFORM_CODES.has(code)) {
        const { sequence } = run[0] as Held<Incoming>;
        if (isLoss(error)) this.#careful.lost(sequence, this.#dispatch.next);
        else this.#careful.notRun(sequence);
        const dueMs = performance.now() + PLATFORM_RETRY_MS;
        for (const held of run) this.#dispatch.retry(held, dueMs);
        this.#pump();
        return;
      }
      const { version } = this.loaded;
      failure = { code, message, retryable: true, version, worker: this.#options.workerId };
    }
    this.#careful.ended(run[0]?.sequence ?? 0);
    if (failure !== undefined) this.#failed(run, failure);
    else {
      for (const held of run) this.#dispatch.settled(held);
      this.#pump();
    }
  }

  /** Says so before it begins. A failure where it was begun so often that its worker must have died of it. */
  async #alone(run: readonly Held<Incoming>[]): Promise<EventFailure | undefined> {
    const { sequence } = run[0] as Held<Incoming>;
    const times = this.#careful.times(sequence);
    if (times >= MAX_LOSSES) {
      const message = `Its worker was lost each of the ${times} times that it ran alone.`;
      return this.#final('UNAVAILABLE', message);
    }
    await this.#saved.alone(sequence, times + 1);
    this.#careful.begun(sequence);
    return undefined;
  }

  /** On this worker without a message, on another one as a call. */
  #call(run: readonly Held<Incoming>[]): Promise<EventFailure | undefined> {
    const { caller, ownerOf, workerId, runHere } = this.#options;
    const { name, definition } = this.loaded;
    const { key } = run[0] as Held<Incoming>;
    const near = key === undefined ? caller.balancer.pick(name, performance.now()) : ownerOf(key);
    const events = run.map((held) => this.#dispatched(held));
    const { timeoutMs } = definition;
    const batch = definition.flow?.batch !== undefined;
    if (near === workerId) return runHere(name, events, batch, timeoutMs);
    return caller.call(
      {
        functionName: name,
        ...frameOf(events, batch),
        eventId: '',
        timeoutMs: timeoutMs + ANSWER_MARGIN_MS,
        retry: false,
        near,
        saysFailed,
      },
      ({ body }) => decodeOutcome(Buffer.from(body as Uint8Array).toString()),
    );
  }

  #dispatched(held: Held<Incoming>): DispatchedEvent {
    const { headers, stored } = held.event;
    const type = contentTypeOf(headers[CONTENT_TYPE_HEADER]);
    return { delivery: this.#headerOf(held), type, body: stored.data, headers };
  }

  #tooLarge([first, second]: readonly Held<Incoming>[]): EventFailure | undefined {
    const { maxPayloadBytes } = this.#options.settings;
    // A batch is bounded otherwise.
    const reason =
      first && second === undefined ? sizeReason(first.event, maxPayloadBytes) : undefined;
    return reason === undefined ? undefined : this.#final('PAYLOAD_TOO_LARGE', reason);
  }

  /** A failure for which no attempt helps. */
  #final(code: MillraceError['code'], message: string): EventFailure {
    const { version } = this.loaded;
    return { code, message, retryable: false, version, worker: this.#options.workerId };
  }

  #headerOf(held: Held<Incoming>): DeliveryHeader {
    const { id, subject, time, heldAtMs } = held.event;
    return {
      ...this.#deliveryOf(held),
      id,
      subject,
      stream: this.stream,
      heldAtMs,
      timeMs: time.getTime(),
      attempt: held.failures + 1,
      again: held.again,
    };
  }

  #deliveryOf({ sequence, key }: Held<Incoming>): Delivery {
    const source = this.#markers;
    if (key !== undefined) return { source, sequence, key, below: 0, open: [] };
    const open = this.#dispatch.openBeside(sequence);
    return { source, sequence, key, below: this.#dispatch.next, open };
  }

  #failed(run: readonly Held<Incoming>[], failure: EventFailure): void {
    const { retries } = this.loaded.definition;
    // Those of a batch stay together.
    const chance = 1 - Math.random() / 2;
    for (const held of run) {
      held.failures += 1;
      if (!failure.retryable || held.failures >= retries.maxAttempts) {
        void this.#bury(held, failure);
        continue;
      }
      remember(held, failure);
      const backoffMs = Math.min(retries.maxDelayMs, retries.minDelayMs * 2 ** (held.failures - 1));
      const waitMs = failure.retryAfterMs ?? backoffMs * chance;
      this.#dispatch.retry(held, performance.now() + waitMs, Math.round(Date.now() + waitMs));
    }
    this.#pump();
  }

  #refuse(held: Held<Incoming>): Promise<void> {
    const { limit, periodMs } = this.loaded.definition.flow?.rate ?? { limit: 0, periodMs: 0 };
    const message = `The function's rate of ${limit} in ${periodMs} ms was exceeded.`;
    return this.#bury(held, this.#final('RATE_LIMITED', message));
  }

  /** Tries until it is done, or another dispatcher is to meet the event again. */
  async #bury(held: Held<Incoming>, failure: EventFailure): Promise<void> {
    const { log } = this.#options;
    const { name } = this.loaded;
    const { id, subject, stored, time, headers, failures } = held.event;
    if (failures.at(-1)?.attempt !== held.failures) remember(held, failure);
    const facts = { function: name, event: id, subject, code: failure.code };
    const attempts = Math.max(1, held.failures);
    const letter = {
      function: name,
      id,
      subject,
      stream: this.stream,
      sequence: stored.sequence,
      time: time.toISOString(),
      headers,
      attempts,
      failures,
    };
    while (!this.#stopped) {
      try {
        const delivery = this.#deliveryOf(held);
        await bury(this.#options, letter, stored.data, delivery, () => this.#stopped);
        log.error(facts, `an event is given up after ${attempts} attempts`);
        this.#dispatch.settled(held);
        this.#pump();
        return;
      } catch (error) {
        log.error({ ...facts, err: error }, 'an event could not be given up yet');
        await delay(BURY_RETRY_MS, undefined, { ref: false });
      }
    }
    // Another dispatcher's now: what it counted for is free.
    this.#dispatch.released(held);
  }

  #onProblem(error: Error): void {
    const now = performance.now();
    if (this.#stopped || now - this.#problemToldAtMs < PROBLEM_NOTICE_MS) return;
    this.#problemToldAtMs = now;
    const facts = { function: this.loaded.name, stream: this.stream, err: error };
    this.#options.log.warn(facts, 'durable events wait');
  }
}
