import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeAppend, encodeAppend, type Append } from '../../src/core/state/append.ts';

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const append: fc.Arbitrary<Append> = fc.record({
  kind: fc.constantFrom('records', 'seal', 'emptied'),
  nonce: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  index: fc.maxSafeNat(),
  sections: fc.array(
    fc.record({ partition: u32, epoch: u32, records: fc.uint8Array({ maxLength: 40 }) }),
    { maxLength: 4 },
  ),
});

describe('an append', () => {
  it('is read as it was written', () => {
    fc.assert(
      fc.property(append, (one) => {
        const { sections = [], ...rest } = decodeAppend(encodeAppend(one)) ?? {};
        const plain = sections.map((section) => ({
          ...section,
          records: Uint8Array.from(section.records),
        }));
        expect({ ...rest, sections: plain }).toEqual(one);
      }),
    );
  });

  it('that is cut short, or has something behind it, is not read', () => {
    fc.assert(
      fc.property(append, fc.uint8Array({ minLength: 1, maxLength: 8 }), (one, more) => {
        const bytes = encodeAppend(one);
        for (let length = 0; length < bytes.length; length += 1) {
          expect(decodeAppend(bytes.subarray(0, length))).toBeUndefined();
        }
        expect(decodeAppend(Buffer.concat([bytes, more]))).toBeUndefined();
      }),
    );
  });

  it('with any bit flipped is not read', () => {
    fc.assert(
      fc.property(append, (one) => {
        const bytes = encodeAppend(one);
        for (let bit = 0; bit < bytes.length * 8; bit += 1) {
          const flipped = Buffer.from(bytes);
          flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
          expect(decodeAppend(flipped)).toBeUndefined();
        }
      }),
      { numRuns: 30 },
    );
  });

  it('differs from that of any other writer', () => {
    fc.assert(
      fc.property(append, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (one, nonce) => {
        fc.pre(nonce !== one.nonce);
        const [mine, theirs] = [encodeAppend(one), encodeAppend({ ...one, nonce })];
        expect(Buffer.compare(mine, theirs)).not.toBe(0);
      }),
    );
  });

  it('of random bytes is none', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(decodeAppend(bytes)).toBeUndefined();
      }),
    );
  });
});
