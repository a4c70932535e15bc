import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  assertFunctionName,
  assertNamespace,
  assertNotReserved,
  assertPublishSubject,
  assertSubscriptionSubject,
  functionNameReason,
  namespaceReason,
  publishSubjectReason,
  reservedReason,
  subjectMatches,
  subjectsOverlap,
  subscriptionSubjectReason,
} from '../../src/core/names.ts';

describe('names of functions and namespaces', () => {
  it('may have letters, digits, _ and - up to their bound', () => {
    expect(functionNameReason('Transfer_2-b')).toBeUndefined();
    expect(functionNameReason('a'.repeat(64))).toBeUndefined();
    expect(namespaceReason('a'.repeat(32))).toBeUndefined();
  });

  it.each(['', 'a.b', 'a b', 'ä', 'a\n', '*', 'a'.repeat(65), 7, null, undefined])(
    'refuse %j as a function name',
    (name) => {
      expect(functionNameReason(name)).toBe('must be 1 to 64 of A-Z a-z 0-9 _ -');
    },
  );

  it('refuse a namespace of 33 characters', () => {
    expect(namespaceReason('a'.repeat(33))).toBe('must be 1 to 32 of A-Z a-z 0-9 _ -');
  });
});

describe('subjects', () => {
  it.each(['a', 'bank.transfer', 'größe.日本', 'a-b.c_d', 'a'.repeat(255)])(
    '%s may be published to and subscribed to',
    (subject) => {
      expect(publishSubjectReason(subject)).toBeUndefined();
      expect(subscriptionSubjectReason(subject)).toBeUndefined();
    },
  );

  it.each(['*', '>', 'a.*', 'a.*.c', 'a.>', 'a.*.>'])(
    '%s may be subscribed to but not published to',
    (subject) => {
      expect(subscriptionSubjectReason(subject)).toBeUndefined();
      expect(publishSubjectReason(subject)).toContain('wildcard');
    },
  );

  it.each([
    ['', 'must not be empty'],
    ['.a', 'empty token'],
    ['a.', 'empty token'],
    ['a..b', 'empty token'],
    ['a b', 'whitespace'],
    ['a\tb', 'whitespace'],
    ['a\u0000', 'control characters'],
    ['a\ud800', 'lone surrogates'],
    ['$JS.API', 'must not start with "$"'],
    ['é'.repeat(128), 'at most 255 bytes'],
    [7, 'must be a string'],
  ])('%j may be neither: %s', (subject, reason) => {
    expect(publishSubjectReason(subject)).toContain(reason);
    expect(subscriptionSubjectReason(subject)).toContain(reason);
  });

  it.each([
    ['a.b*', 'inside the token "b*"'],
    ['a.>>', 'inside the token ">>"'],
    ['a.>.b', 'last token only'],
    ['_INBOX.>', '_INBOX'],
  ])('%j may not be subscribed to: %s', (subject, reason) => {
    expect(subscriptionSubjectReason(subject)).toContain(reason);
  });

  it('under the namespace, or matching what lies there, are reserved', () => {
    expect(reservedReason('millrace', 'millrace')).toContain('reserved for the platform');
    expect(reservedReason('millrace.fn.x', 'millrace')).toContain('reserved for the platform');
    expect(reservedReason('>', 'millrace')).toContain('$SYS, $JS, _INBOX');
    expect(reservedReason('*.fn.x', 'millrace')).toContain('millrace.>');
    expect(reservedReason('millrace2.fn', 'millrace')).toBeUndefined();
    expect(reservedReason('millrace.fn', 'other')).toBeUndefined();
    expect(reservedReason('a.millrace.>', 'millrace')).toBeUndefined();
  });
});

describe('asserting variants', () => {
  it('throw the reason as one sentence with the code they were given', () => {
    expect(() => assertFunctionName('a b', 'INVALID_INPUT')).toThrow(
      expect.objectContaining({
        code: 'INVALID_INPUT',
        message: 'The function name "a b" must be 1 to 64 of A-Z a-z 0-9 _ -.',
      }),
    );
    const refused: (() => void)[] = [
      () => assertNamespace('', 'INVALID_DEFINITION'),
      () => assertPublishSubject('a.*', 'INVALID_DEFINITION'),
      () => assertSubscriptionSubject('a.', 'INVALID_DEFINITION'),
      () => assertNotReserved('m.a', 'm', 'INVALID_DEFINITION'),
    ];
    for (const act of refused)
      expect(act).toThrow(expect.objectContaining({ code: 'INVALID_DEFINITION' }));
  });

  it('do not repeat an endless name in their message', () => {
    expect(() => assertFunctionName('x'.repeat(1_000_000), 'INVALID_INPUT')).toThrow(/^.{1,200}$/);
  });
});

describe('matching', () => {
  it.each([
    ['a.b', 'a.b', true],
    ['a.b', 'a.c', false],
    ['a.*', 'a.b', true],
    ['a.*', 'a', false],
    ['a.*', 'a.b.c', false],
    ['a.>', 'a.b.c', true],
    ['a.>', 'a', false],
    ['*.b', 'a.b', true],
    ['>', 'a', true],
    ['a', 'a.b', false],
  ])('%s on %s is %s', (pattern, subject, expected) => {
    expect(subjectMatches(pattern, subject)).toBe(expected);
  });

  const token = fc.constantFrom('a', 'b', 'c');
  const pattern = fc
    .tuple(
      fc.array(fc.oneof(token, fc.constant('*')), { maxLength: 3 }),
      fc.constantFrom('>', '*', 'a'),
    )
    .map(([tokens, last]) => [...tokens, last].join('.'));

  it('two patterns overlap exactly when there is a subject that both match', () => {
    // The subjects over three tokens, of up to four: enough to hold a common one of any two patterns made above.
    const all = ['a', 'b', 'c'];
    for (let from = 0, depth = 1; depth < 5; depth += 1) {
      const longest = all.slice(from);
      from = all.length;
      for (const start of longest) all.push(`${start}.a`, `${start}.b`, `${start}.c`);
    }
    fc.assert(
      fc.property(pattern, pattern, (a, b) => {
        const common = all.some((given) => subjectMatches(a, given) && subjectMatches(b, given));
        expect(subjectsOverlap(a, b)).toBe(common);
      }),
    );
  });
});
