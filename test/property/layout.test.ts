/** Where keys lie while the number of partitions changes: what the rules of moves (SPEC.md) take for granted. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { itemKey } from '../../src/core/state/keys.ts';
import { counterparts, isSource, isTarget, Places } from '../../src/core/state/layout.ts';
import { ringOf } from '../../src/state/rings.ts';

const partitions = fc.integer({ min: 1, max: 24 });
const layouts = fc.record({ from: partitions, to: partitions, generation: fc.constant(1) });
const keys = Array.from({ length: 500 }, (_, index) => itemKey('c', `key ${index}`));

describe('another number of partitions', () => {
  it('moves keys only from sources to targets, each the counterpart of the other', () => {
    fc.assert(
      fc.property(layouts, (layout) => {
        for (const key of keys) {
          const [from, to] = [ringOf(layout.from)(key), ringOf(layout.to)(key)];
          if (from === to) continue;
          expect(isSource(layout, from) && isTarget(layout, to)).toBe(true);
          expect(counterparts(layout, from)).toContain(to);
          expect(counterparts(layout, to)).toContain(from);
        }
        for (let each = 0; each < Math.max(layout.from, layout.to); each += 1) {
          expect(isSource(layout, each) && isTarget(layout, each)).toBe(false);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('is believed move by move, and never back to an older one', () => {
    fc.assert(
      fc.property(layouts, (layout) => {
        const { from, to } = layout;
        const places = new Places({ generation: 0, from, to: from }, ringOf);
        expect(places.adopt(layout)).toBe(from !== to || layout.generation > 0);
        for (const key of keys) {
          const [before, after] = [ringOf(from)(key), ringOf(to)(key)];
          // A word of another change says nothing.
          places.learn(0, before, after);
          expect([before, ...(from === to ? [] : [after])]).toContain(places.partitionOf(key));
          places.learn(1, before, after);
          expect(places.partitionOf(key)).toBe(from === to ? before : after);
        }
        expect(places.adopt({ generation: 0, from, to: from })).toBe(false);
        places.adopt({ generation: 1, from: to, to });
        expect(places.adopt(layout)).toBe(false);
        for (const key of keys) expect(places.partitionOf(key)).toBe(ringOf(to)(key));
      }),
      { numRuns: 60 },
    );
  });
});
