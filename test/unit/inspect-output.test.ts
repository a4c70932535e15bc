import { describe, expect, it } from 'vitest';
import { describeError, describeUsage, table } from '../../src/cli/output.ts';
import { itemsTable, transactionsTable } from '../../src/cli/tables.ts';
import { TELL_AGAIN_MS, TransactionChanges } from '../../src/cli/transaction-changes.ts';
import { MillraceError } from '../../src/core/errors.ts';
import type { TransactionReport } from '../../src/core/state-report.ts';

const counters = { committed: 3, aborted: 2, conflicts: 1, recovered: 0 };
function transaction(id: string, change: Partial<TransactionReport> = {}): TransactionReport {
  return {
    id,
    state: 'open',
    coordinator: 'W1',
    participants: [],
    ageMs: 12,
    waitsFor: [],
    ...change,
  };
}
const behind = [{ key: 'accounts/alice', partition: 4, transaction: 'T1' }];

describe('what changes', () => {
  const told = (changes: TransactionChanges, active: TransactionReport[], nowMs: number) =>
    changes.next({ active, counters }, nowMs).map((each) => `${each.transaction.id} ${each.state}`);

  it('is told once: a new one, another phase, the end', () => {
    const changes = new TransactionChanges();
    expect(told(changes, [transaction('T1')], 0)).toEqual(['T1 open']);
    expect(told(changes, [transaction('T1', { ageMs: 99 })], 100)).toEqual([]);
    const preparing = transaction('T1', { state: 'preparing', participants: [4] });
    expect(told(changes, [preparing, transaction('T2')], 200)).toEqual(['T1 preparing', 'T2 open']);
    const waiting = transaction('T2', { waitsFor: behind });
    expect(told(changes, [waiting], 300)).toEqual(['T1 ended', 'T2 open']);
    expect(told(changes, [], 400)).toEqual(['T2 ended']);
    expect(told(changes, [], 500)).toEqual([]);
  });

  it('tells again what lasts: one in doubt, one that waits', () => {
    const changes = new TransactionChanges();
    const lasting = [
      transaction('T1', { state: 'in-doubt' }),
      transaction('T2', { waitsFor: behind }),
      transaction('T3'),
    ];
    told(changes, lasting, 0);
    expect(told(changes, lasting, TELL_AGAIN_MS - 1)).toEqual([]);
    expect(told(changes, lasting, TELL_AGAIN_MS)).toEqual(['T1 in-doubt', 'T2 open']);
    expect(told(changes, lasting, TELL_AGAIN_MS + 1)).toEqual([]);
  });
});

describe('tables', () => {
  it('show who coordinates, for how long, and who waits for whom', () => {
    const active = [
      transaction('T1', { state: 'in-doubt', ageMs: 61_000, participants: [4, 17] }),
      transaction('T2', { waitsFor: behind }),
    ];
    expect(transactionsTable({ active, counters }).split('\n')).toEqual([
      'TRANSACTION  STATE     AGE   COORDINATOR  PARTITIONS  WAITS FOR',
      'T1           in-doubt  61s   W1           4 17        -',
      'T2           open      12ms  W1           -           T1 (accounts/alice)',
      '',
      '3 committed, 2 aborted, 1 conflicts since the workers started',
    ]);
  });

  it('say that there is nothing to show', () => {
    expect(itemsTable({ items: [], cursor: null })).toBe('No keys.');
    expect(transactionsTable({ active: [], counters })).toMatch(/^None under way\.\n\n3 committed/);
  });

  it('show control characters as escapes', () => {
    expect(table(['KEY'], [['a\u001b[2Jb\n']])).toBe('KEY\na\\u001b[2Jb\\u000a');
  });
});

describe('an error', () => {
  it('is one line, whatever its message', () => {
    const error = new MillraceError('USAGE', 'Two things:\n  a.ts:1: one\n\n  b.ts:2: two.\n');
    expect(describeError(error, false)).toBe(
      'millrace: Two things: a.ts:1: one; b.ts:2: two. [USAGE]',
    );
    expect(describeError(error, true)).toContain('  b.ts:2: two.');
    expect(describeError('', false)).toBe('millrace:  [FAILED]');
  });

  it('of usage says how to get help', () => {
    expect(describeUsage("error: unknown option '--jsn'\n(Did you mean --json?)")).toBe(
      "millrace: unknown option '--jsn' (Did you mean --json?); add --help for what is possible. [USAGE]",
    );
  });
});
