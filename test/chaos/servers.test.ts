/**
 * Three real servers, replicas of everything: what is true of one server stays true while servers and links fail. With
 * CHAOS_SECONDS every fault comes for itself, at least once and for so long, with four workers; without it the one that
 * tells most, with two. CHAOS_SEED as in chaos.test.ts.
 */
import { expect, it } from 'vitest';
import type { Faults } from './faults.ts';
import { run } from './scenario.ts';

const SECONDS = Number(process.env['CHAOS_SECONDS'] ?? 0);
const SEED = Number(process.env['CHAOS_SEED'] ?? 1);
/** Takes everything that may come, so that it is no question of patience. */
const TIMEOUT_MS = SECONDS * 1_000 + 300_000;

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

const leaderKilled: Faults = async (cluster) => cluster.killLeader(500);
const allKilled: Faults = async (cluster) => cluster.restartAll();
const serverCutOff: Faults = async (cluster, random) =>
  cluster.isolateServer(random.below(3), 8_000, random.chance(0.5));
const workerCutOff: Faults = async (cluster, random) => cluster.isolateWorker(random, 6_000);
const slow: Faults = async (cluster) => cluster.slowLinks(40, 4_000);

const short: [name: string, Faults][] = [['the leader of the log is killed', leaderKilled]];
const long: [name: string, Faults][] = [
  ['each server is killed in turn', inTurn(killed(0), killed(1), killed(2))],
  ['the leader of the log is killed', inTurn(leaderKilled)],
  ['a server is cut off', inTurn(serverCutOff)],
  ['a worker is cut off', inTurn(workerCutOff)],
  ['links are slow', inTurn(slow)],
  ['all servers are killed at once', inTurn(allKilled)],
  [
    'one thing follows the other',
    inTurn(slow, leaderKilled, workerCutOff, serverCutOff, allKilled),
  ],
];

it.each(SECONDS === 0 ? short : long)(
  'nothing is lost or done twice while %s',
  { timeout: TIMEOUT_MS },
  async (name, faults) => {
    const forMs = SECONDS * 1_000;
    const workers = SECONDS === 0 ? 2 : 4;
    const given = { name, seed: SEED, workers, forMs, faults, through: 0.1 };
    const numbers = await run({ ...given, servers: 3 });
    process.stderr.write(`${numbers}\n`);
    expect(numbers).toContain('ok');
  },
);
