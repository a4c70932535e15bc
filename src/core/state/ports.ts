/** What a partition needs of the world, and its bounds. */
import type { CoordinatorMessage, PartitionMessage } from './messages.ts';

export interface PartitionPorts {
  toPartition(partition: number, message: PartitionMessage): void;
  toCoordinator(workerId: string, message: CoordinatorMessage): void;
  /** Publishes what a committed transaction has emitted, and calls `published` when all of it is stored. */
  publish(tx: string, emits: readonly Uint8Array[]): void;
}

/** During replay: what the records cause has been said by former owners, or is asked for at the start. */
export const SILENT: PartitionPorts = { toPartition() {}, toCoordinator() {}, publish() {} };

export interface PartitionLimits {
  /** Transactions that have something locked here at once; also the commits that are remembered. */
  maxSessions: number;
  /** Estimated memory of keys and values. */
  maxPartitionBytes: number;
  /** How long the home waits for votes before it aborts. */
  voteTimeoutMs: number;
  /** How long somebody waits for a word on a prepared or decided transaction before he asks (again). */
  queryAfterMs: number;
  /** How long the home remembers a commit that its coordinator has not confirmed. */
  keepOutcomeMs: number;
}
