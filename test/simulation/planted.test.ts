/** What the promises rest on, each taken away in turn: a simulation that doesn't notice would prove nothing. */
import { expect, it } from 'vitest';
import { finds, MUTANTS } from './planted.ts';

/** It takes a few; all the bugs, and more seeds, has mutants.ts. */
const SEEDS = 100;

it.each(['no fence', 'no decision record', 'reads not confirmed', 'locks kept after an abort'])(
  'a cluster breaks its promises with this bug: %s',
  { timeout: 300_000 },
  async (name) => {
    const mutant = MUTANTS.find(({ bug }) => bug === name);
    if (mutant === undefined) throw new Error(`there is no bug "${name}"`);
    expect(await finds(mutant, SEEDS)).toMatch(/^seed \d+: /);
  },
);
