/** A transaction that was given up, and whose release was lost: SPEC.md, "Messages". */
import { describe, expect, it } from 'vitest';
import { Items } from '../../src/core/state/items.ts';
import type { CoordinatorMessage, LockMessage, LockMode } from '../../src/core/state/messages.ts';
import { Sessions } from '../../src/core/state/sessions.ts';

const MAX_SESSIONS = 10;

function setUp(): {
  said: [string, CoordinatorMessage][];
  lock: (tx: string, nowMs: number, mode?: LockMode) => void;
  sessions: Sessions;
} {
  const said: [string, CoordinatorMessage][] = [];
  const sessions = new Sessions(3, new Items(), {
    toPartition() {},
    toCoordinator: (worker, message) => void said.push([worker, message]),
    publish() {},
  });
  const lock = (tx: string, nowMs: number, mode: LockMode = 'exclusive'): void => {
    const message: LockMessage = {
      kind: 'lock',
      tx,
      age: { startMs: 1, first: tx },
      coordinator: `worker of ${tx}`,
      key: 'accounts/a',
      mode,
      ttlMs: 30_000,
    };
    sessions.lock(message, nowMs, MAX_SESSIONS);
  };
  return { said, lock, sessions };
}

describe('who holds a lock that others wait for', () => {
  it('is told again that he has it, once they ask again', () => {
    const { said, lock } = setUp();
    lock('first', 0);
    lock('second', 10);
    said.length = 0;
    lock('second', 210);
    expect(said).toMatchObject([
      ['worker of first', { kind: 'granted', tx: 'first', key: 'accounts/a', mode: 'exclusive' }],
      ['worker of second', { kind: 'queued', tx: 'second', behind: 'first' }],
    ]);
  });

  it('is not told so by each of many that wait', () => {
    const { said, lock } = setUp();
    lock('first', 0);
    const others = Array.from({ length: 8 }, (_, index) => `other-${index}`);
    for (const tx of others) lock(tx, 10);
    said.length = 0;
    for (const tx of others) lock(tx, 210);
    expect(said.filter(([, { kind }]) => kind === 'granted')).toHaveLength(1);
  });

  it('frees it for them with the release that he answers', () => {
    const { said, lock, sessions } = setUp();
    lock('first', 0);
    lock('second', 10);
    const first = sessions.get('first');
    expect(first).toBeDefined();
    if (first !== undefined) sessions.drop(first);
    expect(said.at(-1)).toMatchObject(['worker of second', { kind: 'granted', tx: 'second' }]);
  });
});
