/** What one attempt of a handler sees of the state: `ctx.state`, over one transaction. */
import { MillraceError } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import { assertCollection, assertKey, itemKey } from '../core/state/keys.ts';
import { NO_PARTITION, type Refusal } from '../core/state/messages.ts';
import type { Failure, Transaction } from '../core/state/transaction.ts';
import { writeBytes } from '../core/state/records.ts';
import type { Collection } from '../function/context.ts';
import type { PreparedEvent } from '../bus/publisher.ts';
import type { Joinable, TransactionRef } from './join.ts';

/** Collections that a function has written after reading them: it gets exclusive locks at once, upgrades can collide. */
export type WrittenCollections = Set<string>;

/**
 * Another transaction stopped this one, or a partition moved. The platform runs the handler again, whatever it makes of
 * this error.
 */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
  readonly failure: Failure;

  constructor(failure: Failure) {
    super('The transaction was interrupted; the function is run again.');
    this.failure = failure;
  }
}

/** Of anything that was thrown: a proxy throws even when it is asked what it is. */
export function isInterrupted(thrown: unknown): boolean {
  try {
    return thrown instanceof Interrupted;
  } catch {
    return false;
  }
}

export class Attempt implements Joinable {
  readonly transaction: Transaction;
  readonly #settings: Settings;
  readonly #written: WrittenCollections;
  readonly #addEvent: (event: PreparedEvent) => void;
  operations = 0;
  #bytes = 0;
  #over = false;
  #closed = false;
  #doomed: string | undefined;

  /** `addEvent` takes what functions emit that take part in the transaction. */
  constructor(
    transaction: Transaction,
    settings: Settings,
    written: WrittenCollections,
    addEvent: (event: PreparedEvent) => void = () => {},
  ) {
    this.transaction = transaction;
    this.#addEvent = addEvent;
    this.#settings = settings;
    this.#written = written;
  }

  /** The handler has ended: what it does to its state later is an error of its own. */
  over(): void {
    this.#over = true;
  }

  /** The collections that the handler has are of no use any more; functions that it calls go on. */
  closeCollections(): void {
    this.#closed = true;
  }

  get wrote(): boolean {
    return this.transaction.writes;
  }

  get ref(): TransactionRef {
    const { id: tx, coordinator: worker } = this.transaction.identity;
    return { tx, worker };
  }

  /** `own`: of the handler that has begun the transaction. */
  collection(name: string, own = true): Collection {
    assertCollection(name);
    return {
      get: async (key) => {
        if (own) this.#assertOpen();
        const text = await this.readText(name, key);
        return text === null ? undefined : (JSON.parse(text) as never);
      },
      set: async (key, value) => {
        if (own) this.#assertOpen();
        this.writeText(name, key, Attempt.encode(this.#settings, name, key, value));
      },
      delete: async (key) => {
        if (own) this.#assertOpen();
        this.writeText(name, key, null);
      },
    };
  }

  async emit(event: PreparedEvent): Promise<void> {
    this.operations += 1;
    this.#addEvent(event);
  }

  async doom(why: string): Promise<void> {
    this.#doomed ??= why;
  }

  async interrupt(): Promise<void> {
    this.transaction.abandon();
  }

  /** JSON text of the key's value, or null. `exclusive`: it will be written. */
  read(key: string, exclusive: boolean): Promise<string | null> {
    return new Promise((resolve, reject) => {
      const mode = exclusive ? 'exclusive' : 'shared';
      this.transaction.read(key, mode, performance.now(), (failure, value) => {
        if (failure === undefined) resolve(value);
        else reject(new Interrupted(failure));
      });
    });
  }

  write(key: string, value: string | null): void {
    this.transaction.write(key, value, performance.now());
  }

  /** Nothing is left of it then that a failed part could spoil: it may be committed, doomed or not. */
  forgetWrites(): void {
    this.#doomed = undefined;
    this.transaction.forgetWrites();
  }

  /** Rejects with Interrupted, FUNCTION_FAILED when it is doomed, PAYLOAD_TOO_LARGE over `maxTransactionBytes`. */
  commit(emits: readonly Uint8Array[]): Promise<void> {
    if (this.#doomed !== undefined) {
      return Promise.reject(new MillraceError('FUNCTION_FAILED', this.#doomed));
    }
    const emitted = emits.reduce((bytes, emit) => bytes + emit.length, 0);
    if (this.transaction.writtenBytes + emitted > this.#settings.maxTransactionBytes) {
      return Promise.reject(tooLarge(this.#settings));
    }
    return new Promise((resolve, reject) => {
      this.transaction.commit(emits, performance.now(), (failure) => {
        if (failure === undefined) resolve();
        else reject(new Interrupted(failure));
      });
    });
  }

  async readText(collection: string, key: string): Promise<string | null> {
    this.#check(collection, key);
    return this.read(itemKey(collection, key), this.#written.has(collection));
  }

  writeText(collection: string, key: string, value: string | null): void {
    this.#check(collection, key);
    const name = itemKey(collection, key);
    if (this.transaction.hasRead(name)) this.#written.add(collection);
    this.#bytes += writeBytes(name, value);
    if (this.#bytes > this.#settings.maxTransactionBytes) throw tooLarge(this.#settings);
    this.write(name, value);
    if (this.transaction.failure !== undefined) throw new Interrupted(this.transaction.failure);
  }

  #assertOpen(): void {
    if (!this.#closed) return;
    const message = 'The handler has given a part of its answer: its state is closed.';
    throw new MillraceError('FUNCTION_FAILED', message);
  }

  #check(collection: string, key: string): void {
    this.operations += 1;
    assertCollection(collection);
    assertKey(key);
    if (this.#over) {
      throw new MillraceError('INVALID_INPUT', 'The handler has ended: its state is closed.');
    }
    const { maxTransactionKeys } = this.#settings;
    if (this.transaction.size >= maxTransactionKeys) {
      throw new MillraceError(
        'PAYLOAD_TOO_LARGE',
        `One transaction uses at most ${maxTransactionKeys} keys; it was to use ${collection}/${key} as well.`,
        { details: { limitKeys: maxTransactionKeys } },
      );
    }
  }

  /** Throws INVALID_INPUT for what JSON cannot hold, PAYLOAD_TOO_LARGE over the limit. */
  static encode(
    { maxValueBytes }: Settings,
    collection: string,
    key: string,
    value: unknown,
  ): string {
    let text: string | undefined;
    try {
      text = value instanceof Uint8Array ? undefined : JSON.stringify(value);
    } catch (cause) {
      throw new MillraceError(
        'INVALID_INPUT',
        `The value for ${collection}/${key} is nothing that JSON can hold: ${(cause as Error).message.split('\n', 1)[0]}`,
        { cause },
      );
    }
    if (text === undefined) {
      const hint = value === undefined ? '; use delete to remove it' : '';
      throw new MillraceError(
        'INVALID_INPUT',
        `The value for ${collection}/${key} is nothing that JSON can hold${hint}.`,
      );
    }
    if (Buffer.byteLength(text) > maxValueBytes) {
      throw new MillraceError(
        'PAYLOAD_TOO_LARGE',
        `The value for ${collection}/${key} has more than ${maxValueBytes} bytes.`,
        { details: { limitBytes: maxValueBytes } },
      );
    }
    return text;
  }
}

function tooLarge({ maxTransactionBytes }: Settings): MillraceError {
  return new MillraceError(
    'PAYLOAD_TOO_LARGE',
    `One transaction writes and emits at most ${maxTransactionBytes} bytes.`,
    { details: { limitBytes: maxTransactionBytes } },
  );
}

/** What the requester is told when no further attempt is made. */
export function refusalFor(
  failure: Failure,
  functionName: string,
  attempts: number,
): MillraceError {
  if (failure.kind === 'unknown') {
    return new MillraceError(
      'TIMEOUT',
      `Whether the transaction of ${functionName} was committed could not be learnt in time.`,
      { details: { outcome: 'unknown' } },
    );
  }
  const { refusal } = failure;
  if (refusal.why === 'full') {
    return new MillraceError(
      'STATE_FULL',
      `Partition ${refusal.partition} has no room for what ${functionName} writes.`,
      { details: refusalDetails(refusal) },
    );
  }
  if (refusal.why === 'overloaded') {
    return new MillraceError('UNAVAILABLE', `Partition ${refusal.partition} is overloaded.`, {
      details: refusalDetails(refusal),
    });
  }
  return new MillraceError(
    'TRANSACTION_CONFLICT',
    `The transaction of ${functionName} was refused ${attempts} times, the last time by ${
      refusal.partition === NO_PARTITION
        ? 'a worker that takes part in it'
        : `partition ${refusal.partition}`
    }.`,
    { details: refusalDetails(refusal) },
  );
}

function refusalDetails({ why, partition, key, other }: Refusal): Record<string, unknown> {
  return {
    why,
    ...(partition === NO_PARTITION ? {} : { partition }),
    ...(key === undefined ? {} : { key }),
    ...(other === undefined ? {} : { transaction: other }),
  };
}
