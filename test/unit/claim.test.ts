/** A claim outlives the program that wrote it: what these bytes mean may never change. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeClaim, encodeClaim, neededFrom, type Claim } from '../../src/core/state/claim.ts';

const BYTES = Buffer.from(
  '0284a565706f636807a56e6f6e6365cffffffffffffffffea8736e617073686f7483ad666972737453657175656e' +
    '636507ac6c61737453657175656e636509a66368756e6b7303a87365676d656e74739284a76a6f75726e616ca477' +
    '312d31a565706f636806a466726f6d82a5696e64657801a873657175656e636504a2746f82a5696e64657805a873' +
    '657175656e6365cb427000000000000083a76a6f75726e616ca477322d31a565706f636807a466726f6d82a5696e' +
    '64657800a873657175656e636500e29cf844',
  'hex',
);
const CLAIM: Claim = {
  epoch: 7,
  nonce: 0xff_ff_ff_ff_ff_ff_ff_fen,
  snapshot: { firstSequence: 7, lastSequence: 9, chunks: 3 },
  segments: [
    {
      journal: 'w1-1',
      epoch: 6,
      from: { index: 1, sequence: 4 },
      to: { index: 5, sequence: 2 ** 40 },
    },
    { journal: 'w2-1', epoch: 7, from: { index: 0, sequence: 0 } },
  ],
};

describe('a claim of version 2', () => {
  it('is written as it always was', () => {
    expect(Buffer.from(encodeClaim(CLAIM)).toString('hex')).toBe(BYTES.toString('hex'));
  });

  it('is read as it always was', () => {
    expect(decodeClaim(BYTES)).toEqual(CLAIM);
  });

  it('is not read when it is cut short, or any bit is another', () => {
    for (let length = 0; length < BYTES.length; length += 1) {
      expect(decodeClaim(BYTES.subarray(0, length))).toBeUndefined();
    }
    for (let bit = 0; bit < BYTES.length * 8; bit += 1) {
      const flipped = Buffer.from(BYTES);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(decodeClaim(flipped)).toBeUndefined();
    }
  });

  it('of random bytes is none', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(decodeClaim(bytes)).toBeUndefined();
      }),
    );
  });

  it('needs of a journal what follows its first segment in it', () => {
    expect(neededFrom(CLAIM, 'w1-1')).toBe(4);
    expect(neededFrom(CLAIM, 'w2-1')).toBe(0);
    expect(neededFrom(CLAIM, 'w3-1')).toBeUndefined();
  });
});
