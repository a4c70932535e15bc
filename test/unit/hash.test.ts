import { describe, expect, it } from 'vitest';
import { hash32 } from '../../src/core/hash.ts';
import { KeyRing } from '../../src/core/key-ring.ts';

/** The string whose UTF-16LE form is these ASCII characters, of which there must be an even number. */
const packed = (ascii: string): string => Buffer.from(ascii, 'latin1').toString('utf16le');

describe('hash32', () => {
  it.each([
    // Published for MurmurHash3_x86_32 with seed 0, over bytes.
    ['', 0],
    ['\0\0\0\0', 0x2362f9de],
    ['test', 0xba6bd213],
  ])('is MurmurHash3: %j as bytes', (bytes, expected) => {
    expect(hash32(packed(bytes))).toBe(expected);
  });

  it.each([
    ['', 0x00000000],
    ['a', 0x6f49d11a],
    ['ab', 0x165860ca],
    ['abc', 0x42b016c3],
    ['order-1', 0xab5fb207],
    ['order-2', 0x8e400d5c],
    ['customer/4711', 0x91c5a9cc],
    ['größe', 0x9b26d58f],
    ['日本語', 0x3bdc2005],
    ['😀', 0x56065e39],
    ['The quick brown fox jumps over the lazy dog', 0xe07db09c],
    ['\ud800', 0x01655561],
  ])('never changes: %j', (text, expected) => {
    expect(hash32(text)).toBe(expected);
  });

  it('spreads keys that differ little: each bit of the text flips half of the bits of the hash', () => {
    const flips = new Float64Array(32);
    let pairs = 0;
    for (let number = 0; number < 2_000; number += 1) {
      const units = Array.from(Buffer.from(`order-${number}`, 'latin1'));
      for (let bit = 0; bit < 7; bit += 1) {
        const other = [...units.slice(0, -1), (units.at(-1) as number) ^ (1 << bit)];
        const changed =
          hash32(String.fromCharCode(...units)) ^ hash32(String.fromCharCode(...other));
        for (let at = 0; at < 32; at += 1)
          flips[at] = (flips[at] as number) + ((changed >>> at) & 1);
        pairs += 1;
      }
    }
    for (const count of flips) expect(Math.abs(count / pairs - 0.5)).toBeLessThan(0.03);
  });
});

describe('the partition of a key', () => {
  it.each([
    ['', [0, 0, 0]],
    ['a', [5, 24, 38]],
    ['order-1', [6, 16, 16]],
    ['order-2', [1, 1, 1]],
    ['customer/4711', [6, 6, 6]],
    ['日本語', [5, 22, 22]],
  ])('never changes: %j with 8, 32, 128 partitions', (key, expected) => {
    expect([8, 32, 128].map((partitions) => new KeyRing(partitions).partitionOf(key))).toEqual(
      expected,
    );
  });
});
