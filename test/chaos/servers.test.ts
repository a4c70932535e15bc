/**
 * Three real servers, replicas of everything, four workers: what is true of one server stays true while servers and links fail.
 * CHAOS_SECONDS and CHAOS_SEED as in chaos.test.ts; each fault below happens at least once, however short that is.
 */
import { expect, it } from 'vitest';
import type { Faults } from './faults.ts';
import { run } from './scenario.ts';

const SECONDS = Number(process.env['CHAOS_SECONDS'] ?? 0);
const SEED = Number(process.env['CHAOS_SEED'] ?? 1);
/** Takes everything that may come, so that it is no question of patience. */
const TIMEOUT_MS = SECONDS * 1_000 + 150_000;

/** Faults one after the other, from the beginning again until the time is over. */
const inTurn =
  (...faults: Faults[]): Faults =>
  async (cluster, random, forMs) => {
    const endMs = performance.now() + forMs;
    do {
      for (const happen of faults) await happen(cluster, random, forMs);
    } while (performance.now() < endMs);
  };

const killed =
  (server: number): Faults =>
  async (cluster, random) =>
    cluster.killServer(server, random.between(0, 1_500));

const scenarios: [name: string, Faults][] = [
  ['each server is killed in turn', inTurn(killed(0), killed(1), killed(2))],
  ['the leader of the log is killed', async (cluster) => cluster.killLeader(6_000)],
  [
    'a server is cut off from the others',
    async (cluster, random) => cluster.isolateServer(random.below(3), 8_000, false),
  ],
  ['a worker is cut off', async (cluster, random) => cluster.isolateWorker(random, 6_000)],
  ['links are slow', async (cluster) => cluster.slowLinks(40, 4_000)],
  ['all servers are killed at once', async (cluster) => cluster.restartAll()],
];

it.each(scenarios)(
  'nothing is lost or done twice while %s',
  { timeout: TIMEOUT_MS },
  async (name, faults) => {
    const forMs = SECONDS * 1_000;
    const through = 0.1;
    const numbers = await run({ name, seed: SEED, workers: 4, servers: 3, forMs, faults, through });
    process.stderr.write(`${numbers}\n`);
    expect(numbers).toContain('ok');
  },
);
