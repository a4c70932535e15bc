/** The transactions that this worker coordinates: where their messages go, and their time. */
import type { Settings } from '../core/settings.ts';
import type { Age } from '../core/state/age.ts';
import type { CoordinatorMessage, PartitionMessage } from '../core/state/messages.ts';
import type { TransactionPorts } from '../core/state/ports.ts';
import { Transaction } from '../core/state/transaction.ts';
import type { Attempt } from './attempt.ts';

export interface TransactionsPorts extends TransactionPorts {
  toPartition(partition: number, message: PartitionMessage): void;
}

const TICK_MS = 25;
/** The coordinator asks for an outcome for a third of the time that the home remembers it (SPEC.md). */
const UNKNOWN_SHARE = 3;

export class Transactions {
  readonly active = new Map<string, Transaction>();
  /** By transaction: what functions on other workers take part in. */
  readonly attempts = new Map<string, Attempt>();
  readonly counters = { committed: 0, aborted: 0, conflicts: 0 };
  readonly #workerId: string;
  readonly #ports: TransactionsPorts;
  readonly #times: { lockRetryMs: number; resolveAfterMs: number; unknownAfterMs: number };
  /** While there are any. */
  #ticks: NodeJS.Timeout | undefined;
  #next = 1;

  constructor(workerId: string, settings: Settings, ports: TransactionsPorts) {
    this.#workerId = workerId;
    this.#ports = ports;
    const { lockRetryMs, resolveAfterMs, keepOutcomeMs } = settings;
    this.#times = {
      lockRetryMs,
      resolveAfterMs,
      unknownAfterMs: Math.floor(keepOutcomeMs / UNKNOWN_SHARE),
    };
  }

  /** The first attempt draws the age; those after it are given the first one's. `deadlineMs` by performance.now(). */
  begin(deadlineMs: number, age?: Age): Transaction {
    const id = `${this.#workerId}-${this.#next}`;
    this.#next += 1;
    const transaction = new Transaction(
      {
        id,
        age: age ?? { startMs: Date.now(), first: id },
        coordinator: this.#workerId,
        deadlineMs,
      },
      this.#ports,
      this.#times,
    );
    this.active.set(id, transaction);
    this.#ticks ??= setInterval(() => this.#tick(), TICK_MS);
    return transaction;
  }

  #tick(): void {
    const now = performance.now();
    for (const transaction of this.active.values()) transaction.tick(now);
    if (this.active.size > 0) return;
    clearInterval(this.#ticks);
    this.#ticks = undefined;
  }

  /** It has its outcome, or nobody waits for it any more. One that has touched nothing is not counted. */
  ended(transaction: Transaction): void {
    const touched = transaction.state !== 'open' || transaction.partitions.length > 0;
    transaction.abandon();
    this.active.delete(transaction.identity.id);
    this.attempts.delete(transaction.identity.id);
    if (!touched) return;
    if (transaction.state === 'committed') this.counters.committed += 1;
    else {
      this.counters.aborted += 1;
      const { failure } = transaction;
      if (failure?.kind === 'refused' && failure.refusal.why === 'conflict') {
        this.counters.conflicts += 1;
      }
    }
  }

  receive(message: CoordinatorMessage): void {
    const transaction = this.active.get(message.tx);
    if (transaction !== undefined) transaction.receive(message, performance.now());
    else if (message.kind === 'granted' || message.kind === 'wound') {
      // Held for an attempt that has ended since: nobody would free it before its deadline.
      this.#ports.toPartition(message.partition, { kind: 'release', tx: message.tx });
    }
  }

  bounced(partition: number, tx: string): void {
    this.active.get(tx)?.ownerLost(partition);
  }

  /** The partition has another owner than before, or none. */
  ownerChanged(partition: number, found: boolean): void {
    const now = performance.now();
    for (const transaction of this.active.values()) {
      transaction.ownerLost(partition);
      if (found) transaction.ownerFound(partition, now);
    }
  }

  close(): void {
    clearInterval(this.#ticks);
  }
}
