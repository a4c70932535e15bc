import { describe, expect, it } from 'vitest';
import { parseSettings } from '../../src/core/settings.ts';
import { assertFits } from '../../src/state/fits.ts';

const MIB = 1024 * 1024;

describe('messages of the broker', () => {
  it('are large enough by default', () => {
    expect(() => assertFits(MIB, parseSettings())).not.toThrow();
  });

  it.each([
    ['maxTransactionBytes', { maxTransactionBytes: MIB }],
    ['maxAppendBytes', { maxAppendBytes: MIB }],
    ['snapshotChunkBytes and maxValueBytes', { snapshotChunkBytes: 512 * 1024 }],
  ])('are too small for a larger %s', (names, settings) => {
    expect(() => assertFits(MIB, parseSettings(settings))).toThrow(names);
    expect(() => assertFits(2 * MIB, parseSettings(settings))).not.toThrow();
  });
});
