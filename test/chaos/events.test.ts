/**
 * Durable events under faults: each is settled once, in order by key, and so is what it causes, whatever is killed or
 * stopped. CHAOS_SECONDS and CHAOS_SEED as in chaos.test.ts.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { connect, type Mill } from 'millrace';
import { expect, it } from 'vitest';
import { Random } from '../support/random.ts';
import { until } from '../support/wait.ts';
import { Cluster } from './cluster.ts';
import { surely } from './surely.ts';
import { everything, killWorkers, type Faults } from './faults.ts';

const SECONDS = Number(process.env['CHAOS_SECONDS'] ?? 8);
const SEED = Number(process.env['CHAOS_SEED'] ?? 1);
const KEYS = Array.from({ length: 16 }, (_, index) => `key-${index}`);
const PAUSE_MS = 40;
const SETTLE_MS = 100_000;

interface Seen {
  key: string;
  list: number[];
  counts: number[];
}

/**
 * Publishes one event after the other for each key, under its id until it is stored, and another one beside it that comes later;
 * gives how many there are of each.
 */
async function publishAll(mill: Mill, over: () => boolean): Promise<Map<string, number>> {
  const published = new Map<string, number>();
  await Promise.all(
    KEYS.map(async (key) => {
      for (let value = 0; !over(); value += 1) {
        await surely(async () =>
          mill.publish('ordered.it', { key, value }, { id: `${key}-${value}` }),
        );
        const later = { id: `later-${key}-${value}`, at: new Date(Date.now() + (value % 5) * 300) };
        await surely(async () =>
          mill.publish('caused.later', { key: `later-${key}`, value }, later),
        );
        published.set(key, value + 1);
        await delay(PAUSE_MS);
      }
    }),
  );
  return published;
}

/** Of three servers, with replicas of everything: what leads is killed, and one is cut off that believes to lead. */
const leadersLost: Faults = async (cluster, random, forMs) => {
  const endMs = performance.now() + forMs;
  do {
    await cluster.killLeader(random.between(0, 1_000));
    await cluster.isolateServer(random.below(3), 6_000, false);
  } while (performance.now() < endMs);
};

it.each<[string, 1 | 3, Faults]>([
  ['workers are killed', 1, killWorkers],
  ['everything happens at once', 1, everything],
  ['servers of a cluster are killed and cut off', 3, leadersLost],
])(
  'events are settled once and in order while %s',
  { timeout: SECONDS * 1_000 + 300_000 },
  async (name, servers, faults) => {
    const random = new Random(SEED);
    const cluster = await Cluster.start(3, 'chaos-events', { servers });
    const mill = await connect({ servers: cluster.url.split(',') });
    try {
      await cluster.settled(mill);
      let over = false;
      const publishing = publishAll(mill, () => over);
      await faults(cluster, random, SECONDS * 1_000);
      over = true;
      const published = await publishing;
      const total = [...published.values()].reduce((sum, count) => sum + count, 0);
      const read = async (): Promise<Seen[]> =>
        surely(async () => (await mill.invoke('read', { keys: KEYS })) as Seen[]);
      const settledOf = (seen: readonly Seen[]): number =>
        seen.reduce((sum, { counts }) => sum + counts.filter((count) => count > 0).length, 0);
      const startMs = performance.now();
      await until(
        `all ${total} are settled`,
        async () => settledOf(await read()) === 2 * total,
        SETTLE_MS,
      );
      const settledMs = performance.now() - startMs;
      // What comes twice comes late, too.
      await cluster.startAfresh();
      await cluster.settled(mill);
      await delay(2_000);
      for (const { key, list, counts } of await read()) {
        const wanted = Array.from({ length: published.get(key) ?? 0 }, (_, value) => value);
        expect(list, key).toEqual(wanted);
        expect(new Set(counts), key).toEqual(new Set([1]));
      }
      expect(cluster.broken).toEqual([]);
      const functions = await surely(async () => mill.inspect.functions());
      expect(functions.map(({ deadLetters }) => deadLetters)).toEqual([0, 0, 0]);
      process.stderr.write(
        `events while ${name} (seed ${SEED}): ${total} published, each handled once, each caused one, each with one that came later, ${cluster.faults.length} faults, all settled ${Math.round(settledMs)} ms after the last\n`,
      );
    } catch (error) {
      throw new Error(`${String(error)}\n${cluster.logs().join('\n').slice(-3_000)}`, {
        cause: error,
      });
    } finally {
      await mill.close();
      await cluster.stop();
    }
  },
);
