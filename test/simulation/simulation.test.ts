import { expect, it } from 'vitest';
import { isLong } from '../support/long.ts';
import { planOf } from './plan.ts';
import { run } from './run.ts';
import { report } from './shrink.ts';

const SEEDS = Number(process.env['SEEDS'] ?? (isLong ? 200 : 20));
const FIRST_SEED = Number(process.env['SEED'] ?? 1);

it(
  `${SEEDS} clusters under seeds from ${FIRST_SEED} on keep every promise`,
  { timeout: 3_600_000 },
  async () => {
    let committed = 0;
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed += 1) {
      const result = await run(planOf(seed));
      committed += result.committed;
      if (result.problems.length > 0) throw new Error(await report(seed));
    }
    // A cluster that commits nothing keeps every promise, too.
    expect(committed).toBeGreaterThan(SEEDS * 20);
  },
);
