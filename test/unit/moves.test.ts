/** Keys that move to another partition and back: messages of earlier moves come late. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { Rings } from '../../src/core/state/layout.ts';
import type {
  CoordinatorMessage,
  LogRecord,
  PartitionMessage,
} from '../../src/core/state/messages.ts';
import { Partition } from '../../src/core/state/partition.ts';

const LIMITS = {
  maxSessions: 100,
  maxPartitionBytes: 1_000_000,
  voteTimeoutMs: 1_000,
  queryAfterMs: 100,
  keepOutcomeMs: 1_000,
  moveChunkBytes: 1_000,
};
const MOVES = 'c/moves';
const STAYS = 'c/stays';
/** With two partitions one of the two keys is on the second one. */
const rings: Rings = (partitions) => (item) => (partitions > 1 && item === MOVES ? 1 : 0);
const lock = (tx: string, key: string): PartitionMessage => ({
  kind: 'lock',
  tx,
  age: { startMs: 1, first: tx },
  coordinator: 'w',
  key,
  mode: 'exclusive',
  ttlMs: 1_000,
});

let said: (PartitionMessage | CoordinatorMessage)[];
let log: LogRecord[];
let source: Partition;

beforeEach(() => {
  said = [];
  log = [];
  source = new Partition(
    0,
    {
      rings,
      toPartition: (_, message) => said.push(message),
      toCoordinator: (_, message) => said.push(message),
      publish() {},
    },
    LIMITS,
  );
  source.items.apply([MOVES, '1', 1]);
  source.items.apply([STAYS, '2', 2]);
  source.queue.open(
    {
      enqueue: (queue, record, whenLogged) => {
        log.push(record);
        queue.logged(record);
        whenLogged?.(0);
      },
      confirm: (_, whenConfirmed) => whenConfirmed(),
    },
    1,
  );
  source.start(1, { generation: 0, from: 1, to: 1 }, 0);
});

function letGo(generation: number): void {
  source.moves.adopt({ generation, from: 1, to: 2 });
  source.receive({ kind: 'fetch', tx: '', generation, to: 1, after: '' }, 0);
}

describe('a source of keys', () => {
  it('serves none of them once it has let go, and says where they are when they have arrived', () => {
    letGo(1);
    expect(log.map(({ kind }) => kind)).toEqual(['layout', 'leaving']);
    expect(said.at(-1)).toMatchObject({ kind: 'items', items: [[MOVES, '1', 1]], last: true });
    expect(source.moves.serves(MOVES)).toBe(false);
    expect(source.moves.serves(STAYS)).toBe(true);
    said = [];
    source.receive(lock('t1', MOVES), 0);
    expect(said).toEqual([]);
    source.receive({ kind: 'arrived', tx: '', generation: 1, to: 1 }, 0);
    expect(said).toMatchObject([{ kind: 'elsewhere', tx: 't1', key: MOVES, to: 1 }]);
    expect([...source.items.keys()]).toEqual([STAYS]);
    expect(source.moves.settled).toBe(true);
  });

  it('gives up transactions that have such a key, and waits for those that have prepared', () => {
    source.receive(lock('t1', MOVES), 0);
    source.receive(lock('t2', STAYS), 0);
    letGo(1);
    expect(said.filter(({ kind }) => kind === 'lost').map(({ tx }) => tx)).toEqual(['t1']);
    expect(source.sessions.get('t2')?.state).toBe('active');
  });

  it('forgets them only on a word of this change', () => {
    letGo(1);
    source.receive({ kind: 'arrived', tx: '', generation: 1, to: 1 }, 0);
    source.moves.adopt({ generation: 1, from: 2, to: 2 });
    // Back again.
    source.moves.adopt({ generation: 2, from: 2, to: 1 });
    source.tick(0);
    const items = [[MOVES, '3', 9]] as const;
    const answer = { kind: 'items', tx: '', generation: 2, from: 1, after: '', items } as const;
    source.receive({ ...answer, last: true, version: 9 }, 0);
    expect(source.moves.serves(MOVES)).toBe(true);
    source.moves.adopt({ generation: 2, from: 1, to: 1 });
    letGo(3);
    source.receive({ kind: 'arrived', tx: '', generation: 1, to: 1 }, 0);
    expect(source.items.get(MOVES)).toEqual({ value: '3', version: 9 });
    source.receive({ kind: 'arrived', tx: '', generation: 3, to: 1 }, 0);
    expect(source.items.get(MOVES)).toBeUndefined();
  });
});
