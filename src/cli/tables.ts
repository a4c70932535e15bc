/** How `inspect` shows to people what the platform answers. */
import type { InspectedPage } from '../client/inspect.ts';
import type { InspectedFunction, InspectedWaiting, InspectedWorker } from '../core/report.ts';
import type { InspectedScale } from '../core/scale.ts';
import type {
  InspectedPartition,
  InspectedTransactions,
  TransactionReport,
} from '../core/state-report.ts';
import { table } from './output.ts';

/** Characters of a value in a table; --json shows all of it. */
const MAX_VALUE_LENGTH = 100;

export function workersTable(workers: readonly InspectedWorker[]): string {
  return table(
    [
      'WORKER',
      'STATE',
      'PID',
      'HOST',
      'UP',
      'FUNCTIONS',
      'PARTITIONS',
      'IN FLIGHT',
      'SLOTS',
      'CAPACITY',
    ],
    workers.map(
      ({ id, state, pid, host, startedAt, functions, partitions, inFlight, slots, capacity }) => [
        id,
        state,
        pid ?? '–',
        host,
        upSince(startedAt),
        functions.length,
        partitions.length,
        inFlight,
        slots,
        capacity,
      ],
    ),
  );
}

export function waitingTable(waiting: readonly InspectedWaiting[]): string {
  if (waiting.length === 0) return 'Nothing waits.';
  return table(
    ['FUNCTION', 'WHY', 'KEY', 'COUNT', 'UNTIL'],
    waiting.map(({ function: name, why, key, count, untilMs }) => [
      name,
      why,
      key || '-',
      count,
      untilMs === null ? '-' : `in ${untilMs} ms`,
    ]),
  );
}

export function scaleTable(scale: readonly InspectedScale[]): string {
  return table(
    ['FUNCTION', 'WORKERS', 'PER S', 'BUSY', 'SLOTS', 'QUEUED', 'WAITING', 'USED', 'WANTED'],
    scale.map(({ function: name, utilization, ...each }) => [
      name,
      each.workers,
      each.perSecond,
      each.busy,
      each.slots,
      each.queued,
      each.waiting,
      `${Math.round(utilization * 100)} %`,
      each.wanted,
    ]),
  );
}

export function functionsTable(functions: readonly InspectedFunction[]): string {
  return table(
    [
      'FUNCTION',
      'VERSION',
      'ON',
      'WORKERS',
      'CALLS',
      'ERRORS',
      'PENDING',
      'DEAD',
      'P50 MS',
      'P99 MS',
    ],
    functions.map((each) => [
      each.name,
      each.version,
      [...each.on, ...(each.cron === null ? [] : [`(${each.cron})`])].join(' ') || '-',
      each.workers,
      each.calls,
      each.errors,
      each.pending,
      each.deadLetters,
      each.latencyMs.p50,
      each.latencyMs.p99,
    ]),
  );
}

export function partitionsTable(partitions: readonly InspectedPartition[]): string {
  return table(
    ['PARTITION', 'OWNER', 'EPOCH', 'STATE', 'KEYS', 'BYTES', 'LOG SEQUENCE'],
    partitions.map(({ id, owner, epoch, state, keys, bytes, logSequence }) => [
      id,
      owner ?? '-',
      epoch,
      state,
      keys,
      bytes,
      logSequence,
    ]),
  );
}

export function itemsTable({ items }: InspectedPage): string {
  if (items.length === 0) return 'No keys.';
  return table(
    ['KEY', 'VERSION', 'VALUE'],
    items.map(({ key, value, version }) => [key, version, shortened(JSON.stringify(value))]),
  );
}

export const TRANSACTION_TITLES = [
  'TRANSACTION',
  'STATE',
  'AGE',
  'COORDINATOR',
  'PARTITIONS',
  'WAITS FOR',
];

export function transactionCells(transaction: TransactionReport, state: string): string[] {
  const { id, ageMs, coordinator, participants, waitsFor } = transaction;
  return [id, state, lasted(ageMs), coordinator, participants.join(' ') || '-', waits(waitsFor)];
}

export function transactionsTable({ active, counters }: InspectedTransactions): string {
  const rows = active.map((transaction) => transactionCells(transaction, transaction.state));
  const shown = rows.length === 0 ? 'None under way.' : table(TRANSACTION_TITLES, rows);
  return `${shown}\n\n${counted(counters)}`;
}

export function counted({ committed, aborted, conflicts }: InspectedTransactions['counters']) {
  return `${committed} committed, ${aborted} aborted, ${conflicts} conflicts since the workers started`;
}

/** `accounts/alice of T1`: behind whom it stands, and at which key, or where the key is not known at which partition. */
function waits(waitsFor: TransactionReport['waitsFor']): string {
  const each = waitsFor.map(({ key, partition, transaction }) =>
    key === '' ? `${transaction} (partition ${partition})` : `${transaction} (${key})`,
  );
  return each.join(' ') || '-';
}

function shortened(text: string): string {
  return text.length <= MAX_VALUE_LENGTH ? text : `${text.slice(0, MAX_VALUE_LENGTH - 1)}…`;
}

function upSince(since: string): string {
  const startedMs = Date.parse(since);
  return Number.isNaN(startedMs) ? '-' : lasted(Date.now() - startedMs);
}

/** A time in the largest unit that fits. */
function lasted(ms: number): string {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))}ms`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)}m`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3_600)}h` : `${Math.floor(seconds / 86_400)}d`;
}
