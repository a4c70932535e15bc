/** Reads one source of one function and has its events run: core/delivery/SPEC.md, "An event's way". */
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import type { Caller } from '../bus/caller.ts';
import type { Bus } from '../bus/connection.ts';
import type { Source } from '../bus/event-streams.ts';
import { MAX_HEADERS_BYTES } from '../bus/frame.ts';
import type { Publisher } from '../bus/publisher.ts';
import { StreamTail, type StreamEvent } from '../bus/stream-tail.ts';
import { Dispatch, type Held } from '../core/delivery/dispatch.ts';
import type { Delivery } from '../core/delivery/marker.ts';
import { messageOf, type MillraceError } from '../core/errors.ts';
import { subjectMatches } from '../core/names.ts';
import { CONTENT_TYPE_HEADER, contentTypeOf } from '../core/payload.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf } from '../core/subjects.ts';
import type { LoadedFunction } from '../function/load.ts';
import type { Transactions } from '../state/transactions.ts';
import { CRON_SOURCE, CronTail } from './cron-tail.ts';
import { StaleCursor, type CursorEntry, type Cursors, type StoredCursor } from './cursors.ts';
import { bury, MAX_FAILURES_KEPT } from './dead-letters.ts';
import { keyIdentity } from './identity.ts';
import { incomingOf, keyOf, type Incoming } from './incoming.ts';
import {
  decodeOutcome,
  DELIVERY_HEADER,
  encodeOutcome,
  writeDelivery,
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
  /** It has dead letters that are handled again. */
  replays: boolean;
  loaded: LoadedFunction;
  /** The worker with the key's state. */
  readonly ownerOf: (key: string) => string | undefined;
  /** The cursor has gone on: what lies before it may be removed. */
  readonly onSaved: () => void;
  /** Another worker dispatches the source. */
  readonly onLost: () => void;
  /** Runs it on this worker. Resolves with how it failed; rejects where the platform did. */
  readonly runHere: (
    functionName: string,
    event: DispatchedEvent,
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
/** A frame's field for headers has room for 64 KiB, with the delivery's own. */
const MAX_EVENT_HEADERS_BYTES = 8 * MAX_HEADERS_BYTES;
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
  /** While there is something to store. */
  #saving: NodeJS.Timeout | undefined;
  #entry: CursorEntry;
  #revision: number;
  /** One is under way at a time. */
  #save: Promise<void> = Promise.resolve();
  /** Subjects that count from a sequence on which was not read when it began. */
  readonly #since: [subject: string, since: number][];
  #due: NodeJS.Timeout | undefined;
  /** Events with a key are read one after the other: a schema may take its time. */
  #reading: Promise<void> | undefined;
  /** Came in and are not in the dispatch yet. */
  #unread = 0;
  #pumping = false;
  #stopped = false;
  #problemToldAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: DispatcherOptions, { entry, revision }: StoredCursor) {
    const { bus, settings, source, loaded } = options;
    this.#options = options;
    this.stream = source.stream;
    this.loaded = loaded;
    this.identity = entry.identity;
    const which = keyIdentity(loaded.definition.key);
    this.#markers = which === undefined ? source.stream : `${source.stream}.${which}`;
    this.#entry = entry;
    this.#revision = revision;
    this.#since = Object.entries(entry.subjects).filter(([, since]) => since > entry.next);
    this.#dispatch = new Dispatch(entry, settings);
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
    return this.#tail.pending + this.#unread + this.#dispatch.held - this.#dispatch.running;
  }

  /** Reads no further; what runs is waited for, no longer than `timeoutMs`. */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopped = true;
    this.#tail.close();
    clearTimeout(this.#saving);
    clearTimeout(this.#due);
    const untilMs = performance.now() + timeoutMs;
    while (this.#dispatch.running > 0 && performance.now() < untilMs) {
      await delay(STOP_POLL_MS);
    }
    await this.#store();
  }

  #onEvent(stored: StreamEvent): void {
    const failures = this.#dispatch.read(stored.sequence);
    if (failures === undefined) return;
    if (this.#isEarly(stored)) {
      this.#dispatch.skip(stored.sequence);
      return;
    }
    const incoming = incomingOf(stored, this.stream, this.#options.replays);
    if (this.loaded.definition.key === undefined && this.#reading === undefined) {
      this.#add(incoming, failures, undefined);
      this.#pump();
      return;
    }
    this.#unread += 1;
    const before = this.#reading ?? Promise.resolve();
    const reading: Promise<void> = before
      .then(() => this.#readKeyed(incoming, failures))
      .then(() => {
        this.#unread -= 1;
        if (this.#reading === reading) this.#reading = undefined;
        this.#pump();
      });
    this.#reading = reading;
  }

  /** Before the function had the subject. */
  #isEarly({ sequence, subject }: StreamEvent): boolean {
    return this.#since.some(
      ([pattern, since]) => sequence < since && subjectMatches(pattern, subject),
    );
  }

  /** Never rejects: an event that cannot be read is a dead letter. */
  async #readKeyed(incoming: Incoming, failures: number): Promise<void> {
    const { definition, version } = this.loaded;
    const { settings, workerId: worker } = this.#options;
    try {
      this.#add(incoming, failures, await keyOf(incoming, definition, failures + 1, settings));
    } catch (error) {
      const held = this.#add(incoming, failures, undefined, true);
      const message = `The event cannot be read: ${messageOf(error)}`;
      void this.#bury(held, { code: 'INVALID_INPUT', message, retryable: false, version, worker });
    }
  }

  #add(
    incoming: Incoming,
    failures: number,
    key: string | undefined,
    dead = false,
  ): Held<Incoming> {
    const held: Held<Incoming> = {
      sequence: incoming.stored.sequence,
      key,
      bytes: incoming.stored.data.length + bytesOf(incoming.headers),
      failures,
      again: failures > 0,
      dueMs: 0,
      event: incoming,
    };
    if (dead) this.#dispatch.hold(held);
    else this.#dispatch.add(held);
    return held;
  }

  #pump(): void {
    if (this.#pumping || this.#stopped) return;
    this.#saving ??= setTimeout(() => void this.#store(), this.#options.settings.cursorIntervalMs);
    this.#pumping = true;
    for (const held of this.#dispatch.take(performance.now())) void this.#run(held);
    this.#pumping = false;
    clearTimeout(this.#due);
    const { dueMs } = this.#dispatch;
    if (dueMs !== undefined) {
      const waitMs = Math.min(MAX_TIMER_MS, Math.max(1, dueMs - performance.now()));
      this.#due = setTimeout(() => this.#pump(), waitMs);
    }
    this.#tail.more();
  }

  async #run(held: Held<Incoming>): Promise<void> {
    let failure = this.#tooLarge(held.event);
    try {
      if (failure === undefined) failure = await this.#call(held);
    } catch (error) {
      const { code, message } = error as MillraceError;
      if (PLATFORM_CODES.has(code)) {
        this.#dispatch.retry(held, performance.now() + PLATFORM_RETRY_MS);
        this.#pump();
        return;
      }
      const { version } = this.loaded;
      failure = { code, message, retryable: true, version, worker: this.#options.workerId };
    }
    if (failure === undefined) this.#settled(held);
    else this.#failed(held, failure);
  }

  /** On this worker without a message, on another one as a call. */
  #call(held: Held<Incoming>): Promise<EventFailure | undefined> {
    const { caller, ownerOf, workerId, runHere } = this.#options;
    const { name, definition } = this.loaded;
    const { headers, stored } = held.event;
    const { directory } = caller.members;
    const near = held.key === undefined ? directory.pick(name, Math.random) : ownerOf(held.key);
    const type = contentTypeOf(headers[CONTENT_TYPE_HEADER]);
    const delivery = this.#headerOf(held);
    if (near === workerId) {
      const { timeoutMs } = definition;
      return runHere(name, { delivery, type, body: stored.data, headers, timeoutMs });
    }
    return caller.call(
      {
        functionName: name,
        encoded: { type, body: stored.data },
        eventId: '',
        headers: JSON.stringify({ ...headers, [DELIVERY_HEADER]: writeDelivery(delivery) }),
        timeoutMs: definition.timeoutMs + ANSWER_MARGIN_MS,
        retry: false,
        near,
      },
      ({ body }) => decodeOutcome(Buffer.from(body as Uint8Array).toString()),
    );
  }

  /** What no frame can carry to a worker. */
  #tooLarge({ stored: { data }, headers }: Incoming): EventFailure | undefined {
    const { maxPayloadBytes } = this.#options.settings;
    const headerBytes = bytesOf(headers);
    if (data.length <= maxPayloadBytes && headerBytes <= MAX_EVENT_HEADERS_BYTES) return undefined;
    const what =
      data.length > maxPayloadBytes
        ? `The event has ${data.length} bytes; ${maxPayloadBytes} can be handled`
        : `The headers have more than ${MAX_EVENT_HEADERS_BYTES} bytes`;
    return {
      code: 'PAYLOAD_TOO_LARGE',
      message: `${what}.`,
      retryable: false,
      version: this.loaded.version,
      worker: this.#options.workerId,
    };
  }

  #headerOf(held: Held<Incoming>): DeliveryHeader {
    const { id, subject, time } = held.event;
    return {
      ...this.#deliveryOf(held),
      id,
      subject,
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

  #settled(held: Held<Incoming>): void {
    this.#dispatch.settled(held);
    this.#pump();
  }

  #failed(held: Held<Incoming>, failure: EventFailure): void {
    const { retries } = this.loaded.definition;
    held.failures += 1;
    if (!failure.retryable || held.failures >= retries.maxAttempts) {
      void this.#bury(held, failure);
      return;
    }
    remember(held, failure);
    const backoffMs = Math.min(retries.maxDelayMs, retries.minDelayMs * 2 ** (held.failures - 1));
    const waitMs = failure.retryAfterMs ?? backoffMs * (1 - Math.random() / 2);
    this.#dispatch.retry(held, performance.now() + waitMs);
    this.#pump();
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
        this.#settled(held);
        return;
      } catch (error) {
        log.error({ ...facts, err: error }, 'an event could not be given up yet');
        await delay(BURY_RETRY_MS, undefined, { ref: false });
      }
    }
  }

  /** The cursor, where it has changed. */
  #store(): Promise<void> {
    this.#saving = undefined;
    this.#save = this.#save.then(() => this.#put());
    return this.#save;
  }

  async #put(): Promise<void> {
    const { next, open } = this.#dispatch.cursor();
    const { cursors, onSaved, onLost } = this.#options;
    if (isDeepStrictEqual([next, open], [this.#entry.next, this.#entry.open])) return;
    const entry = { ...this.#entry, next, open };
    try {
      this.#revision = await cursors.put(entry, this.#revision);
      this.#entry = entry;
      onSaved();
    } catch (error) {
      if (error instanceof StaleCursor) {
        onLost();
        return;
      }
      this.#onProblem(error as Error);
      // Tried again, also when no further event comes.
      if (!this.#stopped) this.#pump();
    }
  }

  #onProblem(error: Error): void {
    const now = performance.now();
    if (this.#stopped || now - this.#problemToldAtMs < PROBLEM_NOTICE_MS) return;
    this.#problemToldAtMs = now;
    const facts = { function: this.loaded.name, stream: this.stream, err: error };
    this.#options.log.warn(facts, 'durable events wait');
  }
}

function remember({ event, failures }: Held<Incoming>, failure: EventFailure): void {
  const { code, message, stack, version, worker } = JSON.parse(
    encodeOutcome(failure),
  ) as EventFailure;
  event.failures.push({
    at: new Date().toISOString(),
    attempt: failures,
    code,
    message,
    ...(stack === undefined ? {} : { stack }),
    version,
    worker,
  });
  if (event.failures.length > MAX_FAILURES_KEPT) event.failures.shift();
}

function bytesOf(headers: Readonly<Record<string, string>>): number {
  let bytes = 0;
  for (const name in headers) bytes += name.length + 3 * (headers[name] ?? '').length;
  return bytes;
}
