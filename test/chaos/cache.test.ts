/** Kept answers while those who write what they depend on are killed: whoever dies, none outlives a committed change. */
import { setTimeout as delay } from 'node:timers/promises';
import { connect, type Mill } from 'millrace';
import { expect, it } from 'vitest';
import value from '../fixtures/chaos-cache/value.ts';
import { Random } from '../support/random.ts';
import { until } from '../support/wait.ts';
import { Cluster } from './cluster.ts';

const WORKERS = 3;
const READERS = 2;
const KEYS = Array.from({ length: 12 }, (_, index) => `k${index}`);
const KILLS = 5;
/** Between writes, so that there are answers to be dropped. */
const PAUSE_MS = 30;
const BETWEEN_KILLS_MS = 900;
/** A takeover, and what it publishes that its former owner did not. */
const SETTLE_MS = 20_000;

it('are dropped by every write that is committed', { timeout: 120_000 }, async () => {
  const cluster = await Cluster.start(WORKERS, 'chaos-cache');
  const writer = await connect({ servers: cluster.url });
  const readers = await Promise.all(
    Array.from({ length: READERS }, async () => connect({ servers: cluster.url })),
  );
  const random = new Random(1);
  /** By key, the highest value of which its writer was told that it is committed. */
  const committed = new Map<string, number>();
  const end = new AbortController();
  const write = async (own: readonly string[]): Promise<void> => {
    for (let next = 1; !end.signal.aborted; next += 1) {
      const keys = own.filter(() => random.next() < 0.7);
      const done = await writer.invoke('put', { keys, value: next }, { timeoutMs: 5_000 }).then(
        () => true,
        () => false,
      );
      if (done) for (const key of keys) committed.set(key, next);
      await delay(PAUSE_MS);
    }
  };
  const read = async (mill: Mill): Promise<void> => {
    while (!end.signal.aborted) {
      for (const key of KEYS) await mill.invoke(value, key, { timeoutMs: 5_000 }).catch(() => {});
      await delay(1);
    }
  };
  try {
    const writing = [0, 4, 8].map(async (from) => write(KEYS.slice(from, from + 4)));
    const reading = readers.map(read);
    for (let kill = 0; kill < KILLS; kill += 1) {
      await delay(BETWEEN_KILLS_MS);
      await cluster.replaceWorker(random);
    }
    end.abort();
    await Promise.all([...writing, ...reading]);
    expect(committed.size).toBe(KEYS.length);
    for (const mill of readers) {
      for (const key of KEYS) {
        await until(
          `${key} is at least ${committed.get(key)}`,
          async () => (await mill.invoke(value, key)) >= Number(committed.get(key)),
          SETTLE_MS,
        );
      }
      // What is right is kept: how often it was while everything was written says how fast the machine is.
      const before = Number(mill.caches['value']?.hits);
      for (const key of KEYS) await mill.invoke(value, key);
      expect(mill.caches['value']?.hits).toBeGreaterThan(before);
    }
    expect(cluster.broken).toEqual([]);
  } finally {
    end.abort();
    for (const mill of [writer, ...readers]) await mill.close();
    await cluster.stop();
  }
});
