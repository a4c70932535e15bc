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
