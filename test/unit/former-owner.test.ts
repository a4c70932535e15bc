/** What a coordinator makes of a former owner that still answers: SPEC.md, "Messages". */
import { describe, expect, it } from 'vitest';
import { Transaction } from '../../src/core/state/transaction.ts';

const TIMES = { lockRetryMs: 50, resolveAfterMs: 50, unknownAfterMs: 1_000 };

function setUp(): {
  transaction: Transaction;
  values: (string | null)[];
  grant: (key: string, epoch: number, grant: number) => void;
} {
  const age = { startMs: 0, first: 'one' };
  const transaction = new Transaction(
    { id: 'one', age, coordinator: 'worker', deadlineMs: 1_000 },
    { toPartition() {}, partitionOf: () => 3 },
    TIMES,
  );
  const values: (string | null)[] = [];
  for (const key of ['a', 'b']) {
    transaction.read(key, 'shared', 0, (_, value) => void values.push(value));
  }
  const send = (key: string, epoch: number, grant: number): void =>
    transaction.receive(
      {
        kind: 'granted',
        tx: 'one',
        partition: 3,
        key,
        mode: 'shared',
        value: `of epoch ${epoch}`,
        version: 1,
        epoch,
        grant,
        contention: 0,
      },
      1,
    );
  return { transaction, values, grant: send };
}

describe('a lock that a former owner grants', () => {
  it('does not count beside one of its successor', () => {
    const { transaction, values, grant } = setUp();
    grant('a', 2, 1);
    grant('b', 1, 7);
    expect(transaction.state).toBe('open');
    expect(values).toEqual(['of epoch 2']);
    grant('b', 2, 1);
    expect(values).toEqual(['of epoch 2', 'of epoch 2']);
  });

  it('is gone with him when his successor grants another', () => {
    const { transaction, grant } = setUp();
    grant('a', 1, 7);
    grant('b', 2, 1);
    expect(transaction.failure).toMatchObject({ kind: 'refused', refusal: { why: 'lost' } });
  });
});
