/** What a partition and a coordinator need of the world, and their bounds. */
import type { Age } from './age.ts';
import type { Rings } from './layout.ts';
import type { CoordinatorMessage, PartitionMessage } from './messages.ts';

export interface PartitionPorts {
  toPartition(partition: number, message: PartitionMessage): void;
  toCoordinator(workerId: string, message: CoordinatorMessage): void;
  /**
   * Publishes what a committed transaction has emitted, and calls `published` when all of it is stored. `again`: a former owner
   * may have done so.
   */
  publish(tx: string, emits: readonly Uint8Array[], again: boolean): void;
}

/** With what does not change with who listens. */
export interface PartitionWorld extends PartitionPorts {
  rings: Rings;
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
  /** What one answer to `fetch` has of items, about; one item at least. */
  moveChunkBytes: number;
}

export interface TransactionPorts {
  toPartition(partition: number, message: PartitionMessage): void;
  partitionOf(key: string): number;
}

export interface TransactionTimes {
  /** A lock request that was not answered is sent again. */
  lockRetryMs: number;
  /** How long after prepare the home is asked for the outcome, again and again. */
  resolveAfterMs: number;
  /** How long after prepare the outcome is given up as unknown: a third of what the home remembers it for. */
  unknownAfterMs: number;
}

export interface TransactionIdentity {
  /** Of this attempt alone. */
  id: string;
  age: Age;
  /** The worker that runs it. */
  coordinator: string;
  /** When the invocation's time is over; same clock as `nowMs` everywhere. */
  deadlineMs: number;
}
