/** `inspect transactions --watch`: prints what changes until a signal. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Mill } from '../client/client.ts';
import type { InspectedTransactions } from '../core/state-report.ts';
import { describeError, padded, print, printError } from './output.ts';
import { counted, TRANSACTION_TITLES, transactionCells } from './tables.ts';
import { TransactionChanges, type TransactionChange } from './transaction-changes.ts';

/** Between an answer and the next question. */
const LOOK_EVERY_MS = 200;
/** The counts are told this often, if they have changed. */
const COUNT_EVERY_MS = 1_000;
/** Of the time, ids (22 characters, with a number for transactions), states and the rest, so that lines stand under each other. */
const WIDTHS = [12, 28, 9, 5, 22, 14, 0];

/**
 * Resolves at SIGINT or SIGTERM. The first question's error is thrown; later ones are told and the watch goes on, as
 * it is in a failover that one looks. With `json` each line is one object.
 */
export async function watchTransactions(mill: Mill, json: boolean): Promise<void> {
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
  const show = json ? showJson() : showLines();
  const changes = new TransactionChanges();
  let now: InspectedTransactions | undefined = await mill.inspect.transactions();
  if (!json) print(padded(['TIME', ...TRANSACTION_TITLES], WIDTHS));
  let problem = '';
  while (!stop.signal.aborted) {
    if (now !== undefined) show(changes.next(now, performance.now()), now.counters);
    await delay(LOOK_EVERY_MS, undefined, { signal: stop.signal }).catch(() => {});
    if (stop.signal.aborted) return;
    try {
      now = await mill.inspect.transactions();
      problem = '';
    } catch (error) {
      now = undefined;
      const told = problem;
      problem = describeError(error, false);
      if (problem !== told) printError(problem);
    }
  }
}

type Show = (
  changes: readonly TransactionChange[],
  counters: InspectedTransactions['counters'],
) => void;

function showLines(): Show {
  const countersChanged = atIntervals();
  return (changes, counters) => {
    const time = new Date().toISOString().slice(11, 23);
    for (const { transaction, state } of changes) {
      print(padded([time, ...transactionCells(transaction, state)], WIDTHS));
    }
    if (countersChanged(counters)) print(padded([time, counted(counters)], WIDTHS));
  };
}

function showJson(): Show {
  const countersChanged = atIntervals();
  return (changes, counters) => {
    const time = new Date().toISOString();
    for (const { transaction, state } of changes) {
      print(JSON.stringify({ time, transaction: { ...transaction, state } }));
    }
    if (countersChanged(counters)) print(JSON.stringify({ time, counters }));
  };
}

/** Whether counts are to be told: at first, and when they have changed and the last time is long enough ago. */
function atIntervals(): (counters: InspectedTransactions['counters']) => boolean {
  let last = '';
  let atMs = -Infinity;
  return (counters) => {
    const text = JSON.stringify(counters);
    const nowMs = performance.now();
    if (text === last || nowMs - atMs < COUNT_EVERY_MS) return false;
    [last, atMs] = [text, nowMs];
    return true;
  };
}
