/**
 * Backups that are taken while everything is at work and workers are killed, each restored on another broker: what is there is
 * one moment, and goes on from it. CHAOS_SECONDS and CHAOS_SEED as in chaos.test.ts.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { connect, type Mill } from 'millrace';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkHistory, type Operation } from '../support/serializability.ts';
import { Command } from '../support/cli.ts';
import { Random } from '../support/random.ts';
import { until } from '../support/wait.ts';
import { Cluster } from './cluster.ts';
import { surely } from './surely.ts';
import { killWorkers } from './faults.ts';
import { Workload, type Noted } from './workload.ts';

const SECONDS = Number(process.env['CHAOS_SECONDS'] ?? 5);
const SEED = Number(process.env['CHAOS_SEED'] ?? 1);
/** One every so often, and one at least. */
const BACKUP_EVERY_SECONDS = 10;
const BACKUPS = Math.ceil(SECONDS / BACKUP_EVERY_SECONDS);
const KEYS = Array.from({ length: 8 }, (_, index) => `key-${index}`);
const PAUSE_MS = 40;
const SETTLE_MS = 100_000;
const ANSWERS_ASKED_AGAIN = 20;
/** Operations before the first backup. */
const MIN_ENDED = 30;

interface Seen {
  key: string;
  list: number[];
  counts: number[];
}

interface Taken {
  file: string;
  startMs: number;
  endMs: number;
}

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-backup-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function millrace(...line: string[]): Promise<void> {
  const { status, stderr } = await new Command(line).finished;
  if (status !== 0) throw new Error(stderr);
}

/** Takes them one after the other while `forMs` go by, whatever happens to the workers. */
async function takeBackups(cluster: Cluster, random: Random, forMs: number): Promise<Taken[]> {
  const taken: Taken[] = [];
  for (let backup = 0; backup < BACKUPS; backup += 1) {
    await delay(random.between(0, forMs / BACKUPS));
    const file = join(folder, `${backup}.backup`);
    const startMs = performance.now();
    await millrace('backup', file, '--server', cluster.url);
    taken.push({ file, startMs, endMs: performance.now() });
  }
  return taken;
}

/** On a broker of its own, with workers of its own. */
async function restored<Result>(
  { file }: Taken,
  functions: string,
  look: (mill: Mill) => Promise<Result>,
): Promise<Result> {
  const prepare = (url: string): Promise<void> => millrace('restore', file, '--server', url);
  const cluster = await Cluster.start(2, functions, { prepare });
  const mill = await connect({ servers: cluster.url });
  try {
    await cluster.settled(mill);
    const result = await look(mill);
    expect(cluster.broken).toEqual([]);
    return result;
  } catch (error) {
    throw new Error(`${String(error)}\n${cluster.logs().join('\n').slice(-3_000)}`, {
      cause: error,
    });
  } finally {
    await mill.close();
    await cluster.stop();
  }
}

/** The history as it looks to one who lives in the backup: what was not over when it was begun may have happened or not. */
function upTo(history: readonly Noted[], { startMs, endMs }: Taken): Operation[] {
  return history
    .filter((operation) => operation.startMs < endMs)
    .map((operation) =>
      operation.endMs < startMs
        ? operation
        : { ...operation, status: 'unknown', reads: [], endMs: Number.POSITIVE_INFINITY },
    );
}

describe('what is restored', { timeout: SECONDS * 1_000 + 240_000 }, () => {
  it('has each transaction wholly or not at all, all that had ended before, and its answers', async () => {
    const random = new Random(SEED);
    const cluster = await Cluster.start(3, 'chaos');
    const mill = await connect({ servers: cluster.url });
    await cluster.settled(mill);
    const workload = new Workload(mill, new Random(random.below(2 ** 32)), `${SEED}`, 0.1);
    let taken: Taken[];
    try {
      const ended = (): number => workload.history.filter(({ status }) => status === 'ok').length;
      await until('some have ended', () => ended() > 2 * MIN_ENDED, SETTLE_MS);
      [taken] = await Promise.all([
        takeBackups(cluster, random, SECONDS * 1_000),
        killWorkers(cluster, random, SECONDS * 1_000),
      ]);
    } finally {
      await workload.stop();
      await mill.close();
      await cluster.stop();
    }
    expect(workload.problems).toEqual([]);
    expect(cluster.broken).toEqual([]);
    for (const backup of taken) {
      await restored(backup, 'chaos', async (there) => {
        const { keys, accounts, history } = workload;
        const read = (await there.invoke('read-all', { lists: keys, accounts })) as {
          lists: number[][];
          total: number;
        };
        const lists = new Map(keys.map((key, index) => [key, read.lists[index] ?? []]));
        const seen = upTo(history, backup);
        expect(checkHistory(seen, lists)).toEqual([]);
        expect(read.total).toBe(0);
        const over = seen.filter(({ status }) => status === 'ok') as Noted[];
        expect(over.length).toBeGreaterThan(MIN_ENDED);
        for (const { request, reads } of over.slice(-ANSWERS_ASKED_AGAIN)) {
          const again = await there.invoke('append', request, { id: `${SEED}-${request.id}` });
          expect(again).toEqual(reads.map(({ list }) => list));
        }
      });
    }
  });

  it('handles what waited, each once and in order, and has caused nothing twice', async () => {
    const random = new Random(SEED);
    const cluster = await Cluster.start(3, 'chaos-events');
    const mill = await connect({ servers: cluster.url });
    /** When the event with this number was acknowledged, by key. */
    const acknowledged = new Map(KEYS.map((key) => [key, [] as number[]]));
    const state = { over: false };
    await cluster.settled(mill);
    const publishing = Promise.all(
      KEYS.map(async (key) => {
        for (let value = 0; !state.over; value += 1) {
          const at = new Date(Date.now() + (value % 5) * 300);
          const event = { key: `later-${key}`, value };
          await surely(async () =>
            mill.publish('caused.later', event, { id: `later-${key}-${value}`, at }),
          );
          await surely(async () =>
            mill.publish('ordered.it', { key, value }, { id: `${key}-${value}` }),
          );
          acknowledged.get(key)?.push(performance.now());
          await delay(PAUSE_MS);
        }
      }),
    );
    let taken: Taken[];
    try {
      [taken] = await Promise.all([
        takeBackups(cluster, random, SECONDS * 1_000),
        killWorkers(cluster, random, SECONDS * 1_000),
      ]);
    } finally {
      state.over = true;
      await publishing;
      await mill.close();
      await cluster.stop();
    }
    for (const backup of taken) {
      await restored(backup, 'chaos-events', async (there) => {
        const readAll = async (): Promise<Seen[]> =>
          surely(async () => (await there.invoke('read', { keys: KEYS })) as Seen[]);
        const before = (key: string): number =>
          acknowledged.get(key)?.filter((ms) => ms < backup.startMs).length ?? 0;
        // By twos: what it caused, and what came later beside it.
        const isDone = ({ key, list, counts }: Seen): boolean =>
          list.length >= before(key) &&
          counts.every(
            (count, index) => count > 0 || (index % 2 === 1 && index >= 2 * before(key)),
          );
        let last = '';
        await until(
          'all is handled that was in it',
          async () => {
            const seen = await readAll();
            last = JSON.stringify(seen.filter((each) => !isDone(each)));
            return last === '[]';
          },
          SETTLE_MS,
        ).catch((error: Error) => {
          throw new Error(`${error.message}: ${last}`);
        });
        // What comes twice comes late, too.
        await delay(2_000);
        const read = await readAll();
        for (const { key, list, counts } of read) {
          expect(list, key).toEqual(list.map((_, index) => index));
          expect(Math.max(0, ...counts), key).toBeLessThanOrEqual(1);
        }
        const functions = await surely(async () => there.inspect.functions());
        expect(functions.map(({ deadLetters }) => deadLetters)).toEqual([0, 0, 0]);
      });
    }
  });
});
