/**
 * Real processes under real faults. CHAOS_SECONDS is how long things happen in each scenario (default 10), CHAOS_SEED
 * what their order is drawn from; times are the machine's own, so a seed brings back the faults, not the interleaving.
 */
import { expect, it } from 'vitest';
import { everything, killBroker, killWorkers, pauseWorkers, type Faults } from './faults.ts';
import { run } from './scenario.ts';

const SECONDS = Number(process.env['CHAOS_SECONDS'] ?? 10);
const SEED = Number(process.env['CHAOS_SEED'] ?? 1);

const scenarios: [string, Faults][] = [
  ['workers are killed', killWorkers],
  ['the broker is killed', killBroker],
  ['workers are stopped and continued', pauseWorkers],
  ['everything happens at once', everything],
];

it.each(scenarios)(
  'transactions stay serializable and answers the same while %s',
  { timeout: SECONDS * 1_000 + 120_000 },
  async (name, faults) => {
    const numbers = await run({ name, seed: SEED, workers: 3, forMs: SECONDS * 1_000, faults });
    process.stderr.write(`${numbers}\n`);
    expect(numbers).toContain('ok');
  },
);
