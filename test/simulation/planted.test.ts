/** What the promises rest on, each taken away in turn: a simulation that doesn't notice would prove nothing. */
import { expect, it } from 'vitest';
import { DELIVERY_MUTANTS } from './planted-deliveries.ts';
import { deliveriesFind, finds, MUTANTS } from './planted.ts';

/** It takes a few; all the bugs, and more seeds, has mutants.ts. */
const SEEDS = 100;

it.each([
  'no fence',
  'no decision record',
  'reads not confirmed',
  'locks kept after an abort',
  'a source lets go of what is prepared',
])('a cluster breaks its promises with this bug: %s', { timeout: 300_000 }, async (name) => {
  const mutant = MUTANTS.find(({ bug }) => bug === name);
  if (mutant === undefined) throw new Error(`there is no bug "${name}"`);
  expect(await finds(mutant, SEEDS)).toMatch(/^seed \d+: /);
});

it.each([
  'an event that is marked is settled again',
  'the cursor does not say what runs',
  'too many run at once',
])('the rules of events are broken with this bug: %s', { timeout: 60_000 }, async (name) => {
  const mutant = DELIVERY_MUTANTS.find(({ bug }) => bug === name);
  if (mutant === undefined) throw new Error(`there is no bug "${name}"`);
  expect(await deliveriesFind(mutant)).toMatch(/seed \d+/);
});
