/** What /api/live answers with: the types that gateway and page share. */
import type { InspectedCollection } from '../client/inspect.ts';
import type { DeployedInfo } from '../client/deploys.ts';
import type { InspectedFunction, InspectedWorker } from '../core/report.ts';
import type { InspectedPartition, InspectedTransactions } from '../core/state-report.ts';

export interface WorkerRow extends Omit<InspectedWorker, 'functions'> {
  functions: number;
}

export interface FunctionRow extends Omit<InspectedFunction, 'subjects' | 'cache' | 'versions'> {
  /** How many versions run. */
  versions: number;
}

/** The whole of it is at /api/dead/<number>. */
export interface DeadRow {
  number: number;
  function: string;
  subject: string;
  id: string;
  attempts: number;
  /** ISO 8601. */
  givenUpAt: string;
  /** Of the last attempt. */
  code: string;
  message: string;
}

export interface TraceRow {
  id: string;
  /** Of the run that began it, as far as it is known. */
  function: string;
  subject: string;
  /** Since 1970: when its first event was stored, or its first run began. */
  startedAtMs: number;
  /** Until the last of its runs so far had ended. */
  durationMs: number;
  runs: number;
  /** Runs that have failed. */
  errors: number;
}

export interface LiveParts {
  workers: WorkerRow[];
  functions: FunctionRow[];
  partitions: InspectedPartition[];
  transactions: InspectedTransactions;
  /** The oldest 100. */
  dead: DeadRow[];
  deploys: DeployedInfo[];
  collections: InspectedCollection[];
  /** The newest first. */
  traces: TraceRow[];
}
