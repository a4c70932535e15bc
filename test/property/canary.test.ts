import { assert, nat, property, tuple } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chanceOfErrors, isWorse, type Counts } from '../../src/core/deploy/canary.ts';
import { Random } from '../support/random.ts';

/** By its definition, in exact numbers. */
function exactChance(stable: Counts, canary: Counts): number {
  const choose = (all: bigint, some: bigint): bigint => {
    if (some < 0n || some > all) return 0n;
    let product = 1n;
    for (let index = 1n; index <= some; index += 1n)
      product = (product * (all - some + index)) / index;
    return product;
  };
  const [errors, calls] = [
    BigInt(stable.errors + canary.errors),
    BigInt(stable.calls + canary.calls),
  ];
  let sum = 0n;
  for (let count = BigInt(canary.errors); count <= errors; count += 1n) {
    sum += choose(errors, count) * choose(calls - errors, BigInt(canary.calls) - count);
  }
  const scale = 10n ** 15n;
  return Number((sum * scale) / choose(calls, BigInt(canary.calls))) / Number(scale);
}

const counts = tuple(nat({ max: 300 }), nat({ max: 300 })).map(([calls, errors]): Counts => ({
  calls,
  errors: Math.min(calls, errors),
}));

describe('whether a canary is worse', () => {
  it('is the chance of hypergeometric draws', () => {
    assert(
      property(counts, counts, (stable, canary) => {
        expect(chanceOfErrors(stable, canary)).toBeCloseTo(exactChance(stable, canary), 9);
      }),
    );
  });

  it('is never said without a failure of its own, nor where both fail always', () => {
    assert(
      property(counts, nat({ max: 1_000_000 }), (stable, calls) => {
        expect(isWorse(stable, { calls, errors: 0 })).toBe(false);
        const failing = { calls: stable.calls, errors: stable.calls };
        expect(isWorse(failing, { calls, errors: calls })).toBe(false);
      }),
    );
  });

  it('is seen after a few calls where it always fails', () => {
    expect(isWorse({ calls: 45, errors: 0 }, { calls: 5, errors: 5 })).toBe(true);
    expect(isWorse({ calls: 18, errors: 0 }, { calls: 2, errors: 2 })).toBe(false);
  });

  it('takes numbers of any size', () => {
    expect(isWorse({ calls: 9e8, errors: 9e5 }, { calls: 1e8, errors: 1e5 })).toBe(false);
    expect(isWorse({ calls: 9e8, errors: 9e5 }, { calls: 1e8, errors: 1.1e5 })).toBe(true);
  });

  it('is seldom said of one that is not, however often it is looked at', () => {
    const random = new Random(1);
    let wrong = 0;
    for (let trial = 0; trial < 400; trial += 1) {
      const [stable, canary] = [
        { calls: 0, errors: 0 },
        { calls: 0, errors: 0 },
      ];
      let said = false;
      for (let call = 1; call <= 4_000 && !said; call += 1) {
        const counted = random.chance(0.1) ? canary : stable;
        counted.calls += 1;
        if (random.chance(0.05)) counted.errors += 1;
        if (call % 20 === 0) said = isWorse(stable, canary);
      }
      wrong += Number(said);
    }
    expect(wrong).toBeLessThanOrEqual(4);
  });
});
