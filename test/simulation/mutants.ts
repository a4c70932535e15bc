/**
 * `npx tsx test/simulation/mutants.ts [SEEDS] [PART OF A NAME]`: plants the bugs of planted.ts and says after how many
 * seeds the simulation finds each. One that is not found ends with status 1.
 */
import { finds, MUTANTS } from './planted.ts';

const [seeds = '1000', only = ''] = process.argv.slice(2);

for (const mutant of MUTANTS.filter(({ bug }) => bug.includes(only))) {
  const found = await finds(mutant, Number(seeds));
  if (found === undefined) process.exitCode = 1;
  const line = `${found === undefined ? 'MISSED' : 'found '}  ${mutant.bug.padEnd(52)}`;
  process.stdout.write(`${line} ${(found ?? `in ${seeds} seeds`).slice(0, 110)}\n`);
}
