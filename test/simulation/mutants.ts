/**
 * `npx tsx test/simulation/mutants.ts [SEEDS] [PART OF A NAME]`: plants the bugs of planted.ts and says after how many
 * seeds the simulation finds each; those of planted-deliveries.ts, what the property tests say. One that is not found ends with status 1.
 */
import { DELIVERY_MUTANTS } from './planted-deliveries.ts';
import { deliveriesFind, finds, MUTANTS, type Mutant } from './planted.ts';

const [seeds = '1000', only = ''] = process.argv.slice(2);

const wanted = ({ bug }: Mutant): boolean => bug.includes(only);
for (const mutant of DELIVERY_MUTANTS.filter(wanted)) say(mutant, await deliveriesFind(mutant));
for (const mutant of MUTANTS.filter(wanted)) say(mutant, await finds(mutant, Number(seeds)));

function say({ bug }: Mutant, found: string | undefined): void {
  if (found === undefined) process.exitCode = 1;
  const line = `${found === undefined ? 'MISSED' : 'found '}  ${bug.padEnd(64)}`;
  process.stdout.write(`${line} ${(found ?? `in ${seeds} seeds`).slice(0, 110)}\n`);
}
