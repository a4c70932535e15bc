/**
 * Real processes under real faults. CHAOS_SECONDS is how long things happen in each scenario (default 8), CHAOS_SEED
 * what their order is drawn from; times are the machine's own, so a seed brings back the faults, not the interleaving.
 * `npm test` has the one that has all faults in it.
 */
import { expect, it } from 'vitest';
import {
  changePartitions,
  everything,
  killBroker,
  killWorkers,
  pauseWorkers,
  type Faults,
} from './faults.ts';
import { isLong } from '../support/long.ts';
import { run } from './scenario.ts';

const SECONDS = Number(process.env['CHAOS_SECONDS'] ?? 8);
const SEED = Number(process.env['CHAOS_SEED'] ?? 1);

const scenarios: [name: string, through: number, Faults][] = [
  ['workers are killed', 0.3, killWorkers],
  ['the broker is killed', 0.1, killBroker],
  ['workers are stopped and continued', 0.03, pauseWorkers],
  ['the number of partitions changes and workers are killed', 0.1, changePartitions],
  ['everything happens at once', 0.1, everything],
];

it.each(isLong ? scenarios : scenarios.slice(-1))(
  'transactions stay serializable and answers the same while %s',
  { timeout: SECONDS * 1_000 + 120_000 },
  async (name, through, faults) => {
    const forMs = SECONDS * 1_000;
    const numbers = await run({ name, seed: SEED, workers: 3, forMs, faults, through });
    process.stderr.write(`${numbers}\n`);
    expect(numbers).toContain('ok');
  },
);
