/**
 * Functions that a handler calls take part in its transaction, wherever they run: the transaction stays with the worker
 * that began it, and a function on another worker asks that one for every value.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Msg, Subscription } from 'nats';
import { z } from 'zod';
import { NO_RESPONDERS, type Bus } from '../bus/connection.ts';
import { readControl, writeControl } from '../bus/messages.ts';
import { NO_PARTITION } from '../core/state/messages.ts';
import type { PreparedEvent } from '../bus/publisher.ts';
import { isErrorCode, MillraceError } from '../core/errors.ts';
import { reservedReason } from '../core/names.ts';
import { subjectsOf } from '../core/subjects.ts';
import type { Settings } from '../core/settings.ts';
import type { Collection } from '../function/context.ts';
import { Attempt, Interrupted } from './attempt.ts';
import { decodeEmit, encodeEmit } from './outbox.ts';

/** Where a transaction is: its id and the worker that coordinates it. */
export interface TransactionRef {
  tx: string;
  worker: string;
}

/** A transaction as a function sees it that takes part in it. */
export interface Joinable {
  readonly ref: TransactionRef;
  /** This function has written or emitted something. */
  readonly wrote: boolean;
  /** What has been done to the transaction so far, by all that take part: counted where it is coordinated. */
  readonly operations: number;
  /** It is given up, and the handler that began it is run again. */
  interrupt(): Promise<void>;
  collection(name: string): Collection;
  emit(event: PreparedEvent): Promise<void>;
  /** A part of it has failed and may have written: it can't commit any more, whatever the handler that began it does. */
  doom(why: string): Promise<void>;
}

const requestSchema = z.object({
  tx: z.string(),
  what: z.enum(['get', 'set', 'delete', 'emit', 'doom', 'interrupt', 'probe']),
  collection: z.string().optional(),
  key: z.string().optional(),
  /** JSON text of a value, base64 of an event, or why it is doomed. */
  value: z.string().optional(),
});
type JoinRequest = z.infer<typeof requestSchema>;

/** Done twice they do no harm: asked again when the connection broke before the answer came. */
const REPEATABLE: ReadonlySet<JoinRequest['what']> = new Set(['get', 'doom', 'interrupt']);
const ASK_AGAIN_MS = 100;
/** While an answer is waited for, it is asked whether there still is somebody to give it. */
const PROBE_EVERY_MS = 1_000;

const answerSchema = z.object({
  value: z.string().nullish(),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
  interrupted: z.boolean().optional(),
});
type JoinAnswer = z.infer<typeof answerSchema>;

/** Answers for the transactions that this worker coordinates. */
export class JoinServer {
  readonly #attempts: ReadonlyMap<string, Attempt>;
  readonly #requests: Subscription;
  readonly #settings: Settings;

  constructor(
    bus: Bus,
    settings: Settings,
    workerId: string,
    attempts: ReadonlyMap<string, Attempt>,
  ) {
    this.#attempts = attempts;
    this.#settings = settings;
    const subject = subjectsOf(settings.namespace).stateJoin(workerId);
    this.#requests = bus.subscribe(subject, ({ data, reply }) => {
      const request = readControl(requestSchema, data);
      if (request === undefined) return;
      void this.#answer(request).then((answer) => bus.answer(reply, writeControl(answer)));
    });
  }

  close(): void {
    this.#requests.unsubscribe();
  }

  async #answer(request: JoinRequest): Promise<JoinAnswer> {
    const attempt = this.#attempts.get(request.tx);
    if (attempt === undefined) return { interrupted: true };
    try {
      return { value: await perform(attempt, request, this.#settings) };
    } catch (error) {
      if (error instanceof MillraceError) {
        return { error: { code: error.code, message: error.message } };
      }
      return { interrupted: true };
    }
  }
}

async function perform(
  attempt: Attempt,
  request: JoinRequest,
  settings: Settings,
): Promise<string | null> {
  const { what, collection = '', key = '', value = '' } = request;
  if (what === 'probe') return null;
  if (what === 'emit') await attempt.emit(emitted(value, settings));
  else if (what === 'doom') await attempt.doom(value);
  else if (what === 'interrupt') await attempt.interrupt();
  else if (what === 'get') return attempt.readText(collection, key);
  else if (what === 'delete') attempt.writeText(collection, key, null);
  else attempt.writeText(collection, key, jsonText(value, collection, key, settings));
  return null;
}

/** The platform's own subjects are for what our own functions' contexts emit there. */
function emitted(value: string, { namespace }: Settings): PreparedEvent {
  const event = decodeEmit(Buffer.from(value, 'base64'));
  const subjects = subjectsOf(namespace);
  const own = event.subject === subjects.cache || event.subject.startsWith(subjects.later(''));
  const reason = own ? undefined : reservedReason(event.subject, namespace);
  if (reason === undefined) return event;
  throw new MillraceError('INVALID_INPUT', `The subject of an emitted event ${reason}.`);
}

/** What is stored is read by everybody, as JSON. */
function jsonText(text: string, collection: string, key: string, settings: Settings): string {
  try {
    return Attempt.encode(settings, collection, key, JSON.parse(text));
  } catch (cause) {
    if (cause instanceof MillraceError) throw cause;
    throw new MillraceError('INVALID_INPUT', `The value for ${collection}/${key} is no JSON.`, {
      cause,
    });
  }
}

/** One that this worker coordinates itself. */
export class LocalTransaction implements Joinable {
  wrote = false;
  readonly #attempt: Attempt;

  constructor(attempt: Attempt) {
    this.#attempt = attempt;
  }

  get ref(): TransactionRef {
    return this.#attempt.ref;
  }

  get operations(): number {
    return this.#attempt.operations;
  }

  async interrupt(): Promise<void> {
    await this.#attempt.interrupt();
  }

  collection(name: string): Collection {
    const collection = this.#attempt.collection(name, false);
    return {
      get: async (key) => collection.get(key),
      set: async (key, value) => {
        this.wrote = true;
        await collection.set(key, value);
      },
      delete: async (key) => {
        this.wrote = true;
        await collection.delete(key);
      },
    };
  }

  async emit(event: PreparedEvent): Promise<void> {
    this.wrote = true;
    await this.#attempt.emit(event);
  }

  async doom(why: string): Promise<void> {
    await this.#attempt.doom(why);
  }
}

export class RemoteTransaction implements Joinable {
  readonly ref: TransactionRef;
  wrote = false;
  /** Unknown here: whoever calls on from here must take it that something has been done. */
  readonly operations = Number.NaN;
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #deadlineMs: number;
  /** Of the connection under which it began. */
  readonly #epoch: number;

  /** `deadlineMs` by performance.now(). */
  constructor(bus: Bus, settings: Settings, ref: TransactionRef, deadlineMs: number) {
    this.ref = ref;
    this.#bus = bus;
    this.#settings = settings;
    this.#deadlineMs = deadlineMs;
    this.#epoch = bus.epoch;
  }

  collection(collection: string): Collection {
    return {
      get: async (key) => {
        const { value } = await this.#ask({ what: 'get', collection, key });
        return typeof value === 'string' ? (JSON.parse(value) as never) : undefined;
      },
      set: async (key, value) => {
        const text = Attempt.encode(this.#settings, collection, key, value);
        await this.#ask({ what: 'set', collection, key, value: text });
      },
      delete: async (key) => void (await this.#ask({ what: 'delete', collection, key })),
    };
  }

  async emit(event: PreparedEvent): Promise<void> {
    await this.#ask({ what: 'emit', value: Buffer.from(encodeEmit(event)).toString('base64') });
  }

  async doom(why: string): Promise<void> {
    await this.#ask({ what: 'doom', value: why }).catch(() => {});
  }

  async interrupt(): Promise<void> {
    await this.#ask({ what: 'interrupt' }).catch(() => {});
  }

  async #ask(request: Omit<JoinRequest, 'tx'>): Promise<JoinAnswer> {
    if (request.what !== 'get') this.wrote = true;
    const message = await this.#request(request);
    const answer = readControl(answerSchema, message.data) ?? { interrupted: true };
    if (answer.error !== undefined) {
      const { code, message: text } = answer.error;
      throw new MillraceError(isErrorCode(code) ? code : 'UNAVAILABLE', text);
    }
    if (answer.interrupted === true) throw interrupted();
    return answer;
  }

  async #request(request: Omit<JoinRequest, 'tx'>): Promise<Msg> {
    const subject = subjectsOf(this.#settings.namespace).stateJoin(this.ref.worker);
    const payload = writeControl({ ...request, tx: this.ref.tx });
    for (;;) {
      try {
        const timeoutMs = Math.max(1, this.#deadlineMs - performance.now());
        return await this.#unlessGone(this.#bus.request(subject, payload, timeoutMs), subject);
      } catch (error) {
        if (performance.now() >= this.#deadlineMs || !this.#isReconnecting(error)) throw error;
      }
      if (!REPEATABLE.has(request.what)) {
        // Whether it was done nobody knows.
        await this.interrupt();
        throw interrupted();
      }
      await delay(ASK_AGAIN_MS);
    }
  }

  /** A worker that is killed with an answer under way leaves nobody who would say so. */
  async #unlessGone(answer: Promise<Msg>, subject: string): Promise<Msg> {
    let timer: NodeJS.Timeout | undefined;
    const gone = new Promise<never>((_, reject) => {
      timer = setInterval(() => {
        const probe = writeControl({ what: 'probe', tx: this.ref.tx });
        this.#bus.request(subject, probe, PROBE_EVERY_MS).catch((error: unknown) => {
          if ((error as MillraceError).details !== NO_RESPONDERS) return;
          // Not as the answer to the request itself: that one may have reached it.
          reject(new MillraceError('UNAVAILABLE', 'Nobody is there to answer any more.'));
        });
      }, PROBE_EVERY_MS);
    });
    try {
      return await Promise.race([answer, gone]);
    } finally {
      clearInterval(timer);
    }
  }

  /** After a restart of the broker the coordinator may be back a moment after this worker. */
  #isReconnecting(error: unknown): boolean {
    const { code, details } = error as MillraceError;
    const broke = !this.#bus.up || this.#bus.epoch !== this.#epoch;
    return code === 'UNAVAILABLE' && (broke || details !== NO_RESPONDERS);
  }
}

function interrupted(): Interrupted {
  return new Interrupted({ kind: 'refused', refusal: { why: 'lost', partition: NO_PARTITION } });
}

/** As it stands in the header of a call. Only our own workers write it, and only calls in frames may have it. */
export function encodeRef({ tx, worker }: TransactionRef): string {
  return `${tx} ${worker}`;
}

export function decodeRef(header: string | undefined): TransactionRef | undefined {
  const [, tx, worker] = /^([\w-]{1,64}) (\w{1,64})$/.exec(header ?? '') ?? [];
  return tx === undefined || worker === undefined ? undefined : { tx, worker };
}
