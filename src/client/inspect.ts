import type { Msg } from 'nats';
import type { Bus } from '../bus/connection.ts';
import { MillraceError, isErrorCode } from '../core/errors.ts';
import type { CatalogEntry } from '../core/catalog.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf } from '../core/subjects.ts';
import type { InspectedFunction, InspectedWaiting, InspectedWorker } from '../core/report.ts';
import type { InspectedScale } from '../core/scale.ts';
import type { InspectedPartition, InspectedTransactions } from '../core/state-report.ts';

export interface InspectedKey {
  collection: string;
  key: string;
  /** The number of the partition that has the key, whether there is a value or not. */
  partition: number;
  /** The id of the worker that owns the partition. */
  owner: string;
  /** The id of the transaction that has the key locked for writing; null where none has. */
  lockedBy: string | null;
}

export interface InspectedValue<Value = unknown> {
  collection: string;
  key: string;
  value: Value;
  /** Grows with every write to the key. */
  version: number;
  partition: number;
}

export interface InspectedCollection {
  name: string;
  keys: number;
}

export interface ListOptions {
  /** Only keys that begin with it; default: all keys of the collection. */
  prefix?: string;
  /** Items of one page, 1 to 1,000; default 100. */
  limit?: number;
  /** The `cursor` of the page before; null, as undefined, for the first page. */
  cursor?: string | null;
}

export interface InspectedPage<Value = unknown> {
  /** In the order of their keys, by UTF-16 code units; all were true at one moment. */
  items: Pick<InspectedValue<Value>, 'key' | 'value' | 'version'>[];
  /** For the next page; null at the end. */
  cursor: string | null;
}

/**
 * Questions to the workers. Each rejects with UNAVAILABLE where no worker runs and with TIMEOUT where none answers in
 * time; those about state also with NOT_SUPPORTED where the broker has no JetStream.
 */
export interface Inspection {
  workers(): Promise<InspectedWorker[]>;
  functions(): Promise<InspectedFunction[]>;
  /** Durable events that wait, and why; of one function or of all. */
  waiting(functionName?: string): Promise<InspectedWaiting[]>;
  /** What callers from outside need to know of functions: routes, and schemas where these can say what they are. */
  catalog(): Promise<CatalogEntry[]>;
  /** How loaded functions are, and how many processes that wants; of one function or of all. */
  scale(functionName?: string): Promise<InspectedScale[]>;
  /** All of them, by number; owner null while nobody owns one. `keys` counts the platform’s own, too. */
  partitions(): Promise<InspectedPartition[]>;
  /**
   * Where a key lies, and who has it locked. Rejects with INVALID_INPUT for a name that is not legal, UNAVAILABLE while
   * its partition has no owner.
   */
  key(collection: string, key: string): Promise<InspectedKey>;
  /**
   * The committed value, as it was at some moment between question and answer. Rejects with NOT_FOUND where there is
   * none, INVALID_INPUT for a name that is not legal, UNAVAILABLE while its partition has no owner. `Value` is taken on
   * trust.
   */
  state<Value = unknown>(collection: string, key: string): Promise<InspectedValue<Value>>;
  /** Collections that have keys, by name. Rejects with UNAVAILABLE while a partition has no owner. */
  collections(): Promise<InspectedCollection[]>;
  /** A page of a collection's values. Rejects with INVALID_INPUT, or UNAVAILABLE while a partition has no owner. */
  list<Value = unknown>(collection: string, options?: ListOptions): Promise<InspectedPage<Value>>;
  /** Transactions that are under way, the oldest first, and counts since the start of the workers that live now. */
  transactions(): Promise<InspectedTransactions>;
}

/** Beside the worker's own wait for silent workers: the way there and back. */
const MARGIN_MS = 700;
/** A worker that dies with the question is not noticed by the broker at once; asking again does no harm. */
const ATTEMPTS = 3;

/** Asks `<namespace>.inspect.<what>`; rejects with the answered error, UNAVAILABLE or TIMEOUT. */
export async function inspect(
  bus: Bus,
  settings: Settings,
  what: string,
  question?: object,
): Promise<unknown> {
  const payload = question === undefined ? '' : JSON.stringify(question);
  const subject = subjectsOf(settings.namespace).inspect(what);
  const timeoutMs = settings.inspectTimeoutMs + MARGIN_MS;
  const message = await askAgain(() => bus.request(subject, Buffer.from(payload), timeoutMs)).catch(
    (cause: unknown) => {
      throw nobodyAnswers(settings.namespace, cause as MillraceError);
    },
  );
  return answerOf(message);
}

/** What was answered; throws the answered error. */
export function answerOf(message: Msg): unknown {
  const answer = message.json<{ error?: { code: string; message: string } }>();
  if (message.headers?.get('Nats-Service-Error-Code') && answer.error !== undefined) {
    const { code, message: text } = answer.error;
    throw new MillraceError(isErrorCode(code) ? code : 'UNAVAILABLE', text);
  }
  return answer;
}

async function askAgain(ask: () => Promise<Msg>, attempt = 1): Promise<Msg> {
  try {
    return await ask();
  } catch (error) {
    if ((error as MillraceError).code !== 'TIMEOUT' || attempt >= ATTEMPTS) throw error;
    return askAgain(ask, attempt + 1);
  }
}

function nobodyAnswers(namespace: string, cause: MillraceError): MillraceError {
  if (cause.code !== 'UNAVAILABLE') return cause;
  return new MillraceError('UNAVAILABLE', `No worker of namespace ${namespace} is running.`, {
    cause,
  });
}

export function inspectThrough(bus: Bus, settings: Settings): Inspection {
  const ask = async <Answer>(what: string, question?: object): Promise<Answer> =>
    (await inspect(bus, settings, what, question)) as Answer;
  return {
    workers: async () => (await ask<{ workers: InspectedWorker[] }>('workers')).workers,
    waiting: async (functionName) =>
      (await ask<{ waiting: InspectedWaiting[] }>('waiting', { function: functionName })).waiting,
    scale: async (functionName) =>
      (await ask<{ scale: InspectedScale[] }>('scale', { function: functionName })).scale,
    catalog: async () => (await ask<{ functions: CatalogEntry[] }>('catalog')).functions,
    functions: async () => (await ask<{ functions: InspectedFunction[] }>('functions')).functions,
    partitions: async () =>
      (await ask<{ partitions: InspectedPartition[] }>('partitions')).partitions,
    transactions: () => ask('transactions'),
    key: async (collection, key) => ask('key', { collection, key: oneKey(key) }),
    state: async (collection, key) => ask('state', { collection, key: oneKey(key) }),
    collections: async () =>
      (await ask<{ collections: InspectedCollection[] }>('collections')).collections,
    list: (collection, { prefix, limit, cursor } = {}) =>
      ask('state', { collection, prefix, limit, cursor: cursor ?? undefined }),
  };
}

/** A key that is left out in JavaScript would ask for the whole collection. */
function oneKey(key: string): string {
  if (typeof key === 'string') return key;
  throw new MillraceError('INVALID_INPUT', `A key must be text, not ${typeof key}.`);
}
