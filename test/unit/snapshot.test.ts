import { describe, expect, it } from 'vitest';
import type { Rings } from '../../src/core/state/layout.ts';
import type { LogRecord, VersionedWrite } from '../../src/core/state/messages.ts';
import { Partition } from '../../src/core/state/partition.ts';
import { readSnapshot, writeSnapshot } from '../../src/core/state/snapshot.ts';
import { Random } from '../support/random.ts';

const LIMITS = {
  maxSessions: 100,
  maxPartitionBytes: 1_000_000,
  voteTimeoutMs: 1_000,
  queryAfterMs: 100,
  keepOutcomeMs: 1_000,
  moveChunkBytes: 1_000,
};

const KEYS = ['a', 'b', 'c', 'd', 'e', 'f'];

function partition(): Partition {
  const rings: Rings = () => () => 0;
  return new Partition(0, { rings, toPartition() {}, toCoordinator() {}, publish() {} }, LIMITS);
}

const byTx = (left: LogRecord, right: LogRecord): number => (left.tx < right.tx ? -1 : 1);

function contentOf(machine: Partition): unknown {
  return {
    items: [...machine.items].sort(([left], [right]) => (left < right ? -1 : 1)),
    bytes: machine.items.bytes,
    version: machine.items.version,
    open: machine.openRecords().sort(byTx),
  };
}

/** A log as an owner could have written it: chains of prepares, in each order of their ends that is allowed. */
function* records(random: Random, count: number): Generator<LogRecord> {
  const open: { tx: string; keys: string[] }[] = [];
  const decided: string[] = [];
  let version = 0;
  for (let step = 0; step < count; step += 1) {
    const tx = `t${step}`;
    const keys = [...new Set([random.pick(KEYS), random.pick(KEYS)])];
    const writes = keys.map((key): VersionedWrite => {
      version += 1;
      return [key, random.chance(0.2) ? null : 'x'.repeat(random.below(20)), version];
    });
    const before = open.filter((each) => each.keys.some((key) => keys.includes(key)));
    const draw = random.next();
    if (draw < 0.4) {
      const dependsOn = before.map((each) => each.tx);
      open.push({ tx, keys });
      yield { kind: 'prepare', tx, home: 1, coordinator: 'w', dependsOn, writes };
    } else if (draw < 0.6 && before.length === 0) {
      decided.push(tx);
      yield { kind: 'decide', tx, coordinator: 'w', writers: [2], writes, emits: [] };
    } else if (draw < 0.7 && decided.length > 0) {
      yield { kind: 'end', tx: decided.shift() as string };
    } else if (draw < 0.9 && open.length > 0) {
      yield { kind: 'commit', tx: (open.shift() as { tx: string }).tx };
    } else if (open.length > 0) {
      // The last one: nothing is built on it.
      yield { kind: 'abort', tx: (open.pop() as { tx: string }).tx };
    }
  }
}

describe('a snapshot', () => {
  it('taken while the partition goes on, and the log since, make the same partition', async () => {
    for (let seed = 1; seed <= 300; seed += 1) {
      const random = new Random(seed);
      const live = partition();
      const log: LogRecord[] = [];
      const from = random.below(60);
      let chunks: AsyncGenerator<Uint8Array> | undefined;
      const restored = partition();
      for (const record of records(random, 100)) {
        if (log.length === from) chunks = writeSnapshot(live, 20);
        const chunk = random.chance(0.3) || log.length === from ? await chunks?.next() : undefined;
        if (chunk?.done === false) readSnapshot(restored, chunk.value);
        live.replay(record);
        log.push(record);
      }
      chunks ??= writeSnapshot(live, 20);
      for await (const chunk of chunks) readSnapshot(restored, chunk);
      for (const record of log.slice(from)) restored.replay(record);
      expect(contentOf(restored), `seed ${seed}`).toEqual(contentOf(live));
    }
  });

  it('of an empty partition is an empty partition', async () => {
    const restored = partition();
    for await (const chunk of writeSnapshot(partition(), 20)) readSnapshot(restored, chunk);
    expect(contentOf(restored)).toEqual(contentOf(partition()));
  });
});
