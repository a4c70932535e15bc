/** What happens to a cluster while it works: each goes on until its time is over, and leaves everything running. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Random } from '../support/random.ts';
import type { Cluster } from './cluster.ts';

export type Faults = (cluster: Cluster, random: Random, forMs: number) => Promise<void>;

/** A worker that has been silent for 2 s (`ownerMissedMs`) loses its partitions. */
const PAUSE_MIN_MS = 2_200;
const PAUSE_MAX_MS = 5_500;
/** Two faults at once at the most, so that sometimes something works in between. */
const AT_ONCE = 2;

const repeatedly =
  (happen: (cluster: Cluster, random: Random) => Promise<void>): Faults =>
  async (cluster, random, forMs) => {
    const endMs = performance.now() + forMs;
    while (performance.now() < endMs) {
      await delay(random.between(200, 1_500));
      await happen(cluster, random);
    }
  };

export const killWorkers = repeatedly(async (cluster, random) => cluster.replaceWorker(random));

export const killBroker = repeatedly(async (cluster, random) =>
  cluster.killBroker(random.chance(0.5) ? 0 : random.between(100, 2_000)),
);

export const pauseWorkers = repeatedly(async (cluster, random) =>
  cluster.pauseWorker(random, random.between(PAUSE_MIN_MS, PAUSE_MAX_MS)),
);

export const everything: Faults = async (cluster, random, forMs) => {
  // The broker can suffer one thing at a time.
  let broker: Promise<void> = Promise.resolve();
  const one = repeatedly(async () => {
    const dice = random.next();
    const pauseMs = random.between(PAUSE_MIN_MS, PAUSE_MAX_MS);
    const shortMs = random.between(0, 3_000);
    if (dice < 0.4) return cluster.replaceWorker(random);
    if (dice < 0.6) return cluster.pauseWorker(random, pauseMs);
    broker = broker.then(async () =>
      dice < 0.85 ? cluster.killBroker(shortMs / 2) : cluster.pauseBroker(shortMs),
    );
    return broker;
  });
  await Promise.all(Array.from({ length: AT_ONCE }, async () => one(cluster, random, forMs)));
};
