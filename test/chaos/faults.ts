/** What happens to a cluster while it works: each goes on until its time is over, and leaves everything running. */
import { setTimeout as delay } from 'node:timers/promises';
import { connect, type MillraceError } from 'millrace';
import type { Random } from '../support/random.ts';
import { until } from '../support/wait.ts';
import type { Cluster } from './cluster.ts';

export type Faults = (cluster: Cluster, random: Random, forMs: number) => Promise<void>;

/** A worker that has been silent for 2 s (`ownerMissedMs`) loses its partitions. */
const PAUSE_MIN_MS = 2_200;
const PAUSE_MAX_MS = 5_500;
/** Two faults at once at the most, so that sometimes something works in between. */
const AT_ONCE = 2;

/** Ends when all have, also where one of them fails: nothing is started behind the back of who cleans up. */
const atOnce =
  (faults: Faults): Faults =>
  async (...run) => {
    const all = Array.from({ length: AT_ONCE }, async () => faults(...run));
    await Promise.allSettled(all);
    await Promise.all(all);
  };

const repeatedly =
  (
    happen: (cluster: Cluster, random: Random) => Promise<void>,
    [minMs, maxMs]: readonly [number, number] = [200, 1_500],
  ): Faults =>
  async (cluster, random, forMs) => {
    const endMs = performance.now() + forMs;
    while (performance.now() < endMs) {
      await delay(random.between(minMs, maxMs));
      await happen(cluster, random);
    }
  };

export const killWorkers = atOnce(
  repeatedly(async (cluster, random) => cluster.replaceWorker(random)),
);

/** After a restart of the broker some second goes by before everything works again. */
const BROKER_PAUSE_MS = [1_000, 3_500] as const;

export const killBroker = repeatedly(
  async (cluster, random) =>
    cluster.killBroker(random.chance(0.5) ? 0 : random.between(100, 2_000)),
  BROKER_PAUSE_MS,
);

export const pauseWorkers = repeatedly(async (cluster, random) =>
  cluster.pauseWorker(random, random.between(PAUSE_MIN_MS, random.pick([3_000, PAUSE_MAX_MS]))),
);

export const everything: Faults = async (...run) => {
  // The broker can suffer one thing at a time.
  let broker: Promise<void> = Promise.resolve();
  const one = repeatedly(async (cluster, random) => {
    const dice = random.next();
    const pauseMs = random.between(PAUSE_MIN_MS, PAUSE_MAX_MS);
    const shortMs = random.between(0, 3_000);
    if (dice < 0.4) return cluster.replaceWorker(random);
    if (dice < 0.6) return cluster.pauseWorker(random, pauseMs);
    broker = broker.then(async () =>
      dice < 0.85 ? cluster.killBroker(shortMs / 2) : cluster.pauseBroker(shortMs),
    );
    return broker;
  }, BROKER_PAUSE_MS);
  await atOnce(one)(...run);
};

const MAX_PARTITIONS = 24;
const CHANGE_PAUSE_MS = [50, 600] as const;
const KILL_PAUSE_MS = [300, 1_500] as const;
/** A change that was begun comes to its end, whoever is killed. */
const CHANGED_MS = 30_000;
/** Fewer changes than that prove little. */
const MIN_CHANGES = 2;

/** The number of partitions changes again and again, while workers are killed in the middle of it. */
export const changePartitions: Faults = async (cluster, random, forMs) => {
  const mill = await connect({ servers: cluster.url });
  const change = repeatedly(async () => {
    await mill.partitions.set(1 + random.below(MAX_PARTITIONS)).catch((error: unknown) => {
      // Another change is under way, or whoever was asked is dead.
      const { code } = error as MillraceError;
      if (code !== 'UNAVAILABLE' && code !== 'TIMEOUT') throw error;
    });
  }, CHANGE_PAUSE_MS);
  const kill = repeatedly(async () => cluster.replaceWorker(random), KILL_PAUSE_MS);
  try {
    await Promise.all([change(cluster, random, forMs), kill(cluster, random, forMs)]);
    const layout = async () => mill.partitions.layout().catch(() => undefined);
    await until(
      'the last change is over',
      async () => {
        const now = await layout();
        return now !== undefined && now.from === now.to;
      },
      CHANGED_MS,
    );
    const { generation = 0 } = (await layout()) ?? {};
    if (generation < MIN_CHANGES) cluster.broken.push(`There were ${generation} changes only.`);
  } finally {
    await mill.close();
  }
};
