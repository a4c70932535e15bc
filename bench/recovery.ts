/**
 * How long the keys of a worker that is killed -9 are away: one key of each of its partitions is asked for again and again,
 * with a transaction that writes. It does not measure: a broker or a machine that is lost, values larger than 40 characters,
 * load beside it.
 */
import { writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { Mill } from '../src/index.ts';
import { describeMachine, printMachine } from './machine.ts';
import { note, print } from './print.ts';
import { withSystem } from './state-system.ts';

export interface RecoveryOptions {
  workers: number;
  items: number;
  jsonFile: string | undefined;
}

const BATCH = 500;
const BATCHES_AT_ONCE = 4;
/** Until the snapshots that the loading has caused are written. */
const SETTLE_MS = 3_000;
const GIVE_UP_MS = 60_000;
const PARTITIONS = 8;

export async function benchRecovery({ workers, items, jsonFile }: RecoveryOptions): Promise<void> {
  await withSystem(workers, PARTITIONS, async (mill, { brokerVersion }) => {
    const machine = await describeMachine(brokerVersion);
    printMachine(machine);
    const loadMs = await timed(async () => fill(mill, items));
    print(`${items} items written in ${(loadMs / 1_000).toFixed(1)} s`);
    await delay(SETTLE_MS);
    const before = await mill.inspect.partitions();
    const [victim] = (await mill.inspect.workers()).filter(
      ({ partitions }) => partitions.length > 0,
    );
    if (victim?.pid == null) throw new Error('no worker owns a partition');
    const keys = await keysOf(mill, victim.partitions);
    const owned = before.filter(({ owner }) => owner === victim.id);
    const lost = owned.reduce((sum, partition) => sum + partition.keys, 0);
    process.kill(victim.pid, 'SIGKILL');
    const awayMs = await Promise.all(
      keys.map(async (key) => timed(async () => touched(mill, key))),
    );
    awayMs.sort((left, right) => left - right);
    const longest = Math.round(awayMs.at(-1) ?? 0);
    print(
      `kill -9 of a worker with ${owned.length} partitions and ${lost} keys: answered again after ${Math.round(awayMs[0] ?? 0)} ms (the first) to ${longest} ms (the last partition)`,
    );
    if (jsonFile === undefined) return;
    const result = { machine, workers, items, partitions: owned.length, keys: lost, awayMs };
    await writeFile(jsonFile, `${JSON.stringify(result, null, 2)}\n`);
    note(`written to ${jsonFile}`);
  });
}

async function fill(mill: Mill, items: number): Promise<void> {
  let next = 0;
  const loop = async (): Promise<void> => {
    while (next < items) {
      const from = next;
      next += BATCH;
      const count = Math.min(BATCH, items - from);
      await mill.invoke('fill', { from, count }, { retry: false });
      if (from % 100_000 === 0) note(`${from} items`);
    }
  };
  await Promise.all(Array.from({ length: BATCHES_AT_ONCE }, loop));
}

/** One key of each of the partitions. */
export async function keysOf(mill: Mill, partitions: readonly number[]): Promise<string[]> {
  const wanted = new Set(partitions);
  const keys: string[] = [];
  for (let index = 0; wanted.size > 0; index += 1) {
    const key = `item-${index}`;
    const { partition } = await mill.inspect.key('items', key);
    if (wanted.delete(partition)) keys.push(key);
  }
  return keys;
}

async function touched(mill: Mill, key: string): Promise<void> {
  const untilMs = performance.now() + GIVE_UP_MS;
  for (;;) {
    try {
      await mill.invoke('touch', { key }, { timeoutMs: GIVE_UP_MS });
      return;
    } catch (error) {
      if (performance.now() >= untilMs) throw error;
    }
  }
}

async function timed(task: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await task();
  return performance.now() - startMs;
}
