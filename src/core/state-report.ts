/** What a worker says of its partitions and transactions, and what inspect makes of it. */
import { z } from 'zod';

const count = z.number().nonnegative();
const countersSchema = z.object({
  committed: count,
  aborted: count,
  conflicts: count,
  /** Found unfinished in the log of a partition that was taken over, and brought to their end. */
  recovered: count,
});
export type StateCounters = z.infer<typeof countersSchema>;

export const partitionReportSchema = z.object({
  id: count,
  epoch: count,
  state: z.enum(['loading', 'serving', 'closing']),
  keys: count,
  /** Estimated memory of keys and values. */
  bytes: count,
  logSequence: count,
  /** Transactions that have something locked or prepared here. */
  sessions: count,
  /** Of a change of the number of partitions: moves to or from this one that are not done yet. */
  moves: count.optional(),
});
export type PartitionReport = z.infer<typeof partitionReportSchema>;

export const transactionReportSchema = z.object({
  id: z.string(),
  /** open, locking, preparing at its coordinator; `in-doubt` where a partition waits for an outcome and nobody coordinates any more. */
  state: z.string(),
  coordinator: z.string(),
  /** Partitions. */
  participants: z.array(count),
  ageMs: count,
  waitsFor: z.array(z.object({ key: z.string(), partition: count, transaction: z.string() })),
});
export type TransactionReport = z.infer<typeof transactionReportSchema>;

export const stateReportSchema = z.object({
  worker: z.string(),
  partitions: z.array(partitionReportSchema),
  transactions: z.array(transactionReportSchema),
  /** Prepared at a partition of this worker: shown as in doubt when no coordinator knows of it. */
  prepared: z.array(transactionReportSchema),
  counters: countersSchema,
});
export type StateReport = z.infer<typeof stateReportSchema>;

export interface InspectedPartition {
  id: number;
  /** The worker's id; null while nobody owns it. */
  owner: string | null;
  epoch: number;
  state: PartitionReport['state'] | 'unowned';
  keys: number;
  bytes: number;
  logSequence: number;
  /** While the number of partitions changes: moves of keys to or from this one that are not done yet. */
  moves: number;
}

export interface InspectedTransactions {
  active: TransactionReport[];
  /** Of the workers that run now, since they started. */
  counters: StateCounters;
}

/** One row for each partition; where two claim one, the higher epoch is right. */
export function mergePartitions(
  reports: readonly StateReport[],
  partitions: number,
): InspectedPartition[] {
  const rows = Array.from({ length: partitions }, (_, id): InspectedPartition => ({
    id,
    owner: null,
    epoch: 0,
    state: 'unowned',
    keys: 0,
    bytes: 0,
    logSequence: 0,
    moves: 0,
  }));
  for (const { worker, partitions: owned } of reports) {
    for (const { id, epoch, state, keys, bytes, logSequence, moves = 0 } of owned) {
      const row = rows[id];
      if (row === undefined || row.epoch > epoch) continue;
      rows[id] = { id, owner: worker, epoch, state, keys, bytes, logSequence, moves };
    }
  }
  return rows;
}

export function mergeTransactions(reports: readonly StateReport[]): InspectedTransactions {
  const active = new Map<string, TransactionReport>();
  for (const { prepared } of reports) {
    for (const transaction of prepared) active.set(transaction.id, transaction);
  }
  for (const { transactions } of reports) {
    for (const transaction of transactions) active.set(transaction.id, transaction);
  }
  const sum = (name: keyof StateCounters): number =>
    reports.reduce((total, report) => total + report.counters[name], 0);
  return {
    active: [...active.values()].sort((left, right) => right.ageMs - left.ageMs),
    counters: {
      committed: sum('committed'),
      aborted: sum('aborted'),
      conflicts: sum('conflicts'),
      recovered: sum('recovered'),
    },
  };
}
