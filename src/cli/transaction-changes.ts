/** What has changed between two looks at the transactions, for `inspect transactions --watch`. Pure. */
import type { InspectedTransactions, TransactionReport } from '../core/state-report.ts';

/** What lasts, one in doubt or one that waits, is told again after this time, with its age. */
export const TELL_AGAIN_MS = 5_000;

export interface TransactionChange {
  transaction: TransactionReport;
  /** The state; `ended` when it is not there any more. */
  state: string;
}

interface Told {
  transaction: TransactionReport;
  phase: string;
  atMs: number;
}

export class TransactionChanges {
  #told = new Map<string, Told>();

  /** `nowMs` on any clock that does not go back. In the order given, those that have ended first. */
  next({ active }: InspectedTransactions, nowMs: number): TransactionChange[] {
    const told = new Map<string, Told>();
    const changes: TransactionChange[] = [];
    for (const transaction of active) {
      const before = this.#told.get(transaction.id);
      const phase = phaseOf(transaction);
      const lasts = transaction.state === 'in-doubt' || transaction.waitsFor.length > 0;
      const due = before === undefined || (lasts && nowMs - before.atMs >= TELL_AGAIN_MS);
      if (!due && before.phase === phase) told.set(transaction.id, before);
      else {
        told.set(transaction.id, { transaction, phase, atMs: nowMs });
        changes.push({ transaction, state: transaction.state });
      }
    }
    const ended = [...this.#told.values()].filter(({ transaction }) => !told.has(transaction.id));
    this.#told = told;
    return [...ended.map(({ transaction }) => ({ transaction, state: 'ended' })), ...changes];
  }
}

function phaseOf({ state, waitsFor }: TransactionReport): string {
  return JSON.stringify([state, waitsFor]);
}
