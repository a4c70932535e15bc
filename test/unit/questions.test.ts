import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { pageOf } from '../../src/state/questions.ts';

it('a page has the first keys behind the cursor, in order, however they lie', () => {
  const keys = fc.uniqueArray(fc.string({ maxLength: 3 }), { maxLength: 60 });
  fc.assert(
    fc.property(
      keys,
      fc.string({ maxLength: 1 }),
      fc.string({ maxLength: 2 }),
      fc.integer({ min: 1, max: 8 }),
      (items, prefix, after, limit) => {
        const wanted = items.filter((item) => item.startsWith(prefix) && item > after).sort();
        expect(pageOf(items, { prefix, after, limit })).toEqual(wanted.slice(0, limit));
      },
    ),
  );
});
