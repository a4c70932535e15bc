/**
 * What inspect asks about state. A value is read as a transaction reads it, so that an answer was true between question and
 * answer; lists of keys, reports and counters are what the workers say of themselves.
 */
import type { Subscription } from 'nats';
import { z } from 'zod';
import type { Bus } from '../bus/connection.ts';
import { readControl, writeControl } from '../bus/messages.ts';
import { MillraceError } from '../core/errors.ts';
import { mayInspect, type Settings } from '../core/settings.ts';
import type { StateReport, TransactionReport } from '../core/state-report.ts';
import { assertCollection, assertKey, itemKey, splitItemKey } from '../core/state/keys.ts';
import { isOwnCollection, type Items } from '../core/state/items.ts';
import type { Layout } from '../core/state/layout.ts';
import type { Transaction } from '../core/state/transaction.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';
import { Attempt, Interrupted, refusalFor } from './attempt.ts';
import type { StateService } from './service.ts';

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1_000;
/** Transactions in one worker's report. */
const MAX_REPORTED = 1_000;
const MAX_ATTEMPTS = 10;
/** Collections in one partition's answer. */
const MAX_COLLECTIONS = 1_000;

const questionSchema = z.object({
  collection: z.string(),
  key: z.string().optional(),
  prefix: z.string().max(1_024).optional(),
  limit: z.number().int().min(1).max(MAX_LIMIT).optional(),
  cursor: z.string().max(1_024).optional(),
});
const askSchema = z.object({
  partition: z.number().int().nonnegative(),
  key: z.string().optional(),
  /** How many keys it has in each collection. */
  collections: z.boolean().optional(),
  list: z
    .object({
      prefix: z.string(),
      after: z.string(),
      limit: z
        .number()
        .int()
        .min(1)
        .max(MAX_LIMIT + 1),
    })
    .optional(),
});
type Ask = z.infer<typeof askSchema>;
type ListAsk = NonNullable<Ask['list']>;
const answerSchema = z.object({
  owner: z.boolean(),
  lockedBy: z.string().nullish(),
  keys: z.array(z.string()).optional(),
  collections: z.array(z.tuple([z.string(), z.number()])).optional(),
});
type Answer = z.infer<typeof answerSchema>;

export class StateQuestions {
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #subjects: Subjects;
  readonly #workerId: string;
  readonly #state: StateService;
  readonly #subscriptions: Subscription[];

  constructor(bus: Bus, settings: Settings, workerId: string, state: StateService) {
    this.#bus = bus;
    this.#settings = settings;
    this.#subjects = subjectsOf(settings.namespace);
    this.#workerId = workerId;
    this.#state = state;
    this.#subscriptions = [
      bus.subscribe(this.#subjects.stateAsk(workerId), ({ data, reply }) => {
        const ask = readControl(askSchema, data);
        if (ask !== undefined) bus.answer(reply, writeControl(this.#answer(ask)));
      }),
      bus.subscribe(this.#subjects.stateReport(workerId), ({ reply }) =>
        bus.answer(reply, writeControl(this.report())),
      ),
    ];
  }

  /** Where keys lie, and are to lie. */
  get layout(): Layout {
    return this.#state.places.layout;
  }

  close(): void {
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
  }

  report(): StateReport {
    const { hosting, transactions } = this.#state;
    const now = performance.now();
    const owners = [...hosting.owners];
    return {
      worker: this.#workerId,
      partitions: owners.map(([id, { machine, epoch, state, sequence }]) => ({
        id,
        epoch,
        state: state === 'ended' ? 'closing' : state,
        keys: machine.items.size,
        bytes: machine.items.bytes,
        logSequence: sequence,
        sessions: machine.sessions.size,
        moves: machine.moves.open,
      })),
      transactions: [...transactions.active.values()]
        .slice(0, MAX_REPORTED)
        .map((transaction) => transactionReport(transaction, this.#settings)),
      prepared: owners
        .flatMap(([id, { machine }]) =>
          [...machine.sessions.values()]
            .filter(({ state }) => state !== 'active')
            .map((session): TransactionReport => ({
              id: session.tx,
              state: 'in-doubt',
              coordinator: session.coordinator,
              participants: [id, ...session.participants],
              ageMs: Math.max(0, Math.round(now - session.sinceMs)),
              waitsFor: [...session.dependsOn].map(({ tx, home }) => ({
                key: '',
                partition: Math.max(0, home),
                transaction: tx,
              })),
            })),
        )
        .slice(0, MAX_REPORTED),
      counters: { ...transactions.counters, recovered: hosting.recovered },
    };
  }

  /** `{ collection, key, partition, owner, lockedBy }`. */
  async key(payload: Uint8Array): Promise<object> {
    const { collection, key } = this.#question(payload);
    assertKey(key);
    const item = itemKey(collection, key);
    const partition = this.#state.places.partitionOf(item);
    const { owner, answer } = await this.#ask({ partition, key: item });
    return { collection, key, partition, owner, lockedBy: answer.lockedBy ?? null };
  }

  /** One value, or a page of a collection. */
  async state(payload: Uint8Array): Promise<object> {
    const question = this.#question(payload);
    const { collection, key } = question;
    if (key === undefined) return this.#list(question);
    assertKey(key);
    const item = itemKey(collection, key);
    const [found] = await this.#read([item]);
    if (found === undefined) {
      throw new MillraceError('NOT_FOUND', `There is no ${collection}/${key}.`);
    }
    const partition = this.#state.places.partitionOf(item);
    return { ...found, collection, partition };
  }

  /** Users' collections that have keys, by name. On the way between partitions a key counts twice. */
  async collections(): Promise<{ name: string; keys: number }[]> {
    const { from, to } = this.layout;
    const partitions = Array.from({ length: Math.max(from, to) }, (_, id) => id);
    const answers = await Promise.all(
      partitions.map(async (partition) => this.#ask({ partition, collections: true })),
    );
    const keys = new Map<string, number>();
    for (const [name, count] of answers.flatMap(({ answer }) => answer.collections ?? [])) {
      keys.set(name, (keys.get(name) ?? 0) + count);
    }
    return [...keys]
      .map(([name, count]) => ({ name, keys: count }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  async #list(question: z.infer<typeof questionSchema>): Promise<object> {
    const { collection, prefix = '', limit = DEFAULT_LIMIT, cursor } = question;
    const list = {
      prefix: itemKey(collection, prefix),
      after: cursor === undefined ? '' : itemKey(collection, cursor),
      limit: limit + 1,
    };
    const { from, to } = this.layout;
    const partitions = Array.from({ length: Math.max(from, to) }, (_, id) => id);
    const answers = await Promise.all(
      partitions.map(async (partition) => this.#ask({ partition, list })),
    );
    // On the way from one partition to another a key is at both.
    const found = new Set(answers.flatMap(({ answer }) => answer.keys ?? []));
    const keys = [...found].sort();
    const page = keys.slice(0, limit);
    const last = page.at(-1);
    const items = await this.#read(page);
    const more = keys.length > page.length && last !== undefined;
    return { items, cursor: more ? splitItemKey(last).key : null };
  }

  /** As one read-only transaction: the values were all true at one moment. */
  async #read(
    items: readonly string[],
  ): Promise<{ key: string; value: unknown; version: number }[]> {
    if (items.length === 0) return [];
    const { transactions } = this.#state;
    const deadlineMs = performance.now() + this.#settings.inspectTimeoutMs;
    for (let count = 1; ; count += 1) {
      const transaction = transactions.begin(deadlineMs);
      const attempt = new Attempt(transaction, this.#settings, new Set());
      const timer = setTimeout(() => transaction.abandon(), this.#settings.inspectTimeoutMs);
      try {
        const values = await Promise.all(items.map(async (item) => attempt.read(item, false)));
        await attempt.commit([]);
        return items.flatMap((item, index) => {
          const text = values[index] as string | null;
          if (text === null) return [];
          const version = transaction.versionOf(item);
          return [{ key: splitItemKey(item).key, value: JSON.parse(text) as unknown, version }];
        });
      } catch (error) {
        if (!(error instanceof Interrupted)) throw error;
        const over = performance.now() >= deadlineMs || count >= MAX_ATTEMPTS;
        if (over) throw refusalFor(error.failure, 'inspect', count);
      } finally {
        clearTimeout(timer);
        transactions.ended(transaction);
      }
    }
  }

  async #ask(ask: Ask): Promise<{ owner: string; answer: Answer }> {
    const owner = this.#state.cluster.ownerOf(ask.partition);
    const answer = owner === undefined ? undefined : await this.#askOwner(owner, ask);
    if (owner !== undefined && answer?.owner === true) return { owner, answer };
    throw new MillraceError('UNAVAILABLE', `Partition ${ask.partition} has no owner just now.`);
  }

  async #askOwner(owner: string, ask: Ask): Promise<Answer | undefined> {
    if (owner === this.#workerId) return this.#answer(ask);
    const subject = this.#subjects.stateAsk(owner);
    const message = await this.#bus.request(
      subject,
      writeControl(ask),
      this.#settings.inspectTimeoutMs,
    );
    return readControl(answerSchema, message.data);
  }

  #answer({ partition, key, list, collections }: Ask): Answer {
    const machine = this.#state.hosting.owners.get(partition)?.machine;
    if (machine === undefined) return { owner: false };
    if (key !== undefined) return { owner: true, lockedBy: machine.sessions.holderOf(key) ?? null };
    if (collections === true) return { owner: true, collections: collectionsOf(machine.items) };
    if (list === undefined) return { owner: true };
    return { owner: true, keys: pageOf(machine.items.keys(), list) };
  }

  #question(payload: Uint8Array): z.infer<typeof questionSchema> {
    const question = readControl(questionSchema, payload);
    if (question === undefined) {
      throw new MillraceError(
        'INVALID_INPUT',
        `The question must be {"collection": …, "key": …}, or {"collection": …, "prefix": …, "limit": 1 to ${MAX_LIMIT}, "cursor": …}.`,
      );
    }
    const { collection } = question;
    assertCollection(collection);
    if (mayInspect(this.#settings, collection)) return question;
    const message = `The collection ${collection} is closed to inspect by the setting inspectState.`;
    throw new MillraceError('FORBIDDEN', message);
  }
}

function collectionsOf(items: Items): [name: string, keys: number][] {
  const counts = new Map<string, number>();
  for (const item of items.keys()) {
    const { collection } = splitItemKey(item);
    if (isOwnCollection(collection)) continue;
    const known = counts.has(collection) || counts.size < MAX_COLLECTIONS;
    if (known) counts.set(collection, (counts.get(collection) ?? 0) + 1);
  }
  return [...counts];
}

/** In order. All are looked at, a page's worth is kept: sorting a large partition for each page would hold up everybody. */
export function pageOf(items: Iterable<string>, { prefix, after, limit }: ListAsk): string[] {
  const kept: string[] = [];
  let last: string | undefined;
  for (const item of items) {
    if (last !== undefined && item > last) continue;
    if (item <= after || !item.startsWith(prefix)) continue;
    kept.push(item);
    if (kept.length < 2 * limit) continue;
    kept.sort();
    kept.length = limit;
    last = kept.at(-1);
  }
  return kept.sort().slice(0, limit);
}

/** Of a collection that is closed to inspect not even the keys. */
function transactionReport(transaction: Transaction, settings: Settings): TransactionReport {
  const { identity, state } = transaction;
  return {
    id: identity.id,
    state,
    coordinator: identity.coordinator,
    participants: transaction.partitions,
    ageMs: Math.max(0, Date.now() - identity.age.startMs),
    waitsFor: transaction.waitsFor().map(({ key, partition, behind }) => ({
      key: mayInspect(settings, splitItemKey(key).collection) ? key : '',
      partition,
      transaction: behind,
    })),
  };
}
