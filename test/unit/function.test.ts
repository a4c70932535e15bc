import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { assignName, defineFunction, isFunctionDefinition } from '../../src/function/define.ts';
import { nameOf } from '../../src/function/reference.ts';

const handler = () => 1;
/** As a user without types would call it. */
const define = defineFunction as (given: unknown) => ReturnType<typeof defineFunction>;

function refusal(given: unknown): { code: string; message: string } {
  try {
    define(given);
  } catch (thrown) {
    return thrown as { code: string; message: string };
  }
  throw new Error('the definition was taken');
}

describe('a definition', () => {
  it('has its defaults filled in', () => {
    expect(defineFunction({ handler })).toMatchObject({
      name: undefined,
      description: undefined,
      on: [],
      delivery: 'durable',
      input: undefined,
      output: undefined,
      key: undefined,
      balance: 'random',
      timeoutMs: 30_000,
    });
  });

  it('keeps what was given, one subject as a list', () => {
    const input = z.string();
    const given = { name: 'x', on: 'a.*', delivery: 'ephemeral', input, timeoutMs: 5 } as const;
    expect(defineFunction({ ...given, handler })).toMatchObject({ ...given, on: ['a.*'], handler });
  });

  it('takes an option that is undefined as left out', () => {
    expect(define({ on: undefined, timeoutMs: undefined, handler }).timeoutMs).toBe(30_000);
  });

  it('is frozen, with its subjects, and does not follow changes of the object it was made from', () => {
    const given = { on: ['a', 'b'], handler };
    const made = defineFunction(given);
    given.on.push('c');
    expect(made.on).toEqual(['a', 'b']);
    expect(Object.isFrozen(made)).toBe(true);
    expect(Object.isFrozen(made.on)).toBe(true);
  });

  it('knows the line it was defined at', () => {
    const made = defineFunction({ handler });
    expect(made.definedAt).toMatchObject({ file: fileURLToPath(import.meta.url), column: 18 });
    expect(made.definedAt).toBe(made.definedAt);
  });

  it('is recognised by its brand, also when another copy of the package made it', () => {
    const foreign = { [Symbol.for('millrace.function')]: { assignName: () => undefined } };
    expect(isFunctionDefinition(defineFunction({ handler }))).toBe(true);
    expect(isFunctionDefinition(foreign)).toBe(true);
    for (const other of [undefined, null, 7, handler, {}, { handler }])
      expect(isFunctionDefinition(other)).toBe(false);
  });
});

describe('the name of a definition', () => {
  it('is assigned once; the same name again is no harm', () => {
    const made = defineFunction({ handler });
    assignName(made, 'first');
    assignName(made, 'first');
    expect(made.name).toBe('first');
    expect(() => assignName(made, 'second')).toThrow(
      'Function "first" cannot be named "second" as well.',
    );
  });

  it('cannot be assigned over a given one, nor be illegal', () => {
    expect(() => assignName(defineFunction({ name: 'given', handler }), 'other')).toThrow(
      '"given"',
    );
    expect(() => assignName(defineFunction({ handler }), 'a.b')).toThrow('"a.b"');
  });

  it('is what a call needs: nameOf refuses a definition without one and an illegal string', () => {
    expect(nameOf(defineFunction({ name: 'sum', handler }))).toBe('sum');
    expect(nameOf('sum')).toBe('sum');
    for (const target of [defineFunction({ handler }), 'a.b', '>'])
      expect(() => nameOf(target)).toThrow(expect.objectContaining({ code: 'INVALID_INPUT' }));
  });
});

describe('a definition is refused in one sentence', () => {
  it.each([
    ['no object', undefined, 'defineFunction takes one object'],
    ['a list', [], 'defineFunction takes one object'],
    [
      'a misspelt option',
      { name: 'x', handlr: handler },
      'Function "x": there is no option "handlr", perhaps handler is meant.',
    ],
    ['a misspelt option in another case', { timeoutMS: 1, handler }, 'perhaps timeoutMs is meant'],
    ['an option like no other', { parallel: 1, handler }, 'legal are name, description, on'],
    ['an inherited name as an option', { constructor: 1, handler }, 'no option "constructor"'],
    ['no handler', { name: 'x' }, 'Function "x": the option handler is missing.'],
    ['a handler that is none', { handler: 1 }, 'handler must be a function'],
    ['an illegal name', { name: 'a b', handler }, 'The function: name "a b" must be 1 to 64'],
    ['a subject that is no string', { on: 7, handler }, 'must be a string'],
    [
      'an illegal subject',
      { on: ['a', 'b..c'], handler },
      'on has the subject "b..c", which must not have an empty token',
    ],
    ['no subject in the list', { on: [], handler }, 'on must name a subject, or be left out'],
    [
      'too many subjects',
      { on: Array.from({ length: 65 }, (_, i) => `a.${i}`), handler },
      'at most 64',
    ],
    ['the same subject twice', { on: ['a', 'a'], handler }, 'overlap'],
    [
      'overlapping subjects',
      { on: ['a.*', 'a.b'], handler },
      'on has the subjects "a.*" and "a.b", which overlap',
    ],
    [
      'an unknown delivery',
      { delivery: 'once', handler },
      "delivery must be 'durable' or 'ephemeral'",
    ],
    ['an unknown balance', { balance: 'best', handler }, "balance must be 'random' or"],
    [
      "a balance of its own under the platform's name",
      { balance: { name: 'weighted', strategy: () => ({}) }, handler },
      'balance has the name "weighted", which is the platform\'s',
    ],
    ['a balance without a strategy', { balance: { name: 'mine' }, handler }, 'has no strategy'],
    ['a cache without a time', { cache: {}, handler }, 'cache has ttlMs, which must be an integer'],
    ['a cache with a wrong option', { cache: { ttl: 5 }, handler }, 'cache has no option "ttl"'],
    [
      'a cache of no collection',
      { cache: { ttlMs: 1, state: ['a/b'] }, handler },
      'cache has state, which is not legal',
    ],
    [
      'invalidation of no function',
      { invalidates: ['a b'], handler },
      'invalidates has the function "a b", which',
    ],
    ['no isolation', { isolation: 'process', handler }, "isolation must be 'none', 'thread' or"],
    ['no threads', { isolation: { threads: 0 }, handler }, 'isolation has threads, which must be'],
    [
      'invalidation without a list',
      { invalidates: 'price', handler },
      'must be a list of functions',
    ],
    [
      'an input that is no schema',
      { input: { type: 'object' }, handler },
      'input must be a Standard Schema',
    ],
    ['an output that is no schema', { output: null, handler }, 'output must be a Standard Schema'],
    ['a key that is no function', { key: 'from', handler }, 'key must be a function'],
    [
      'a timeout of 0',
      { timeoutMs: 0, handler },
      'timeoutMs must be an integer from 1 to 86400000',
    ],
    ['a timeout of half a millisecond', { timeoutMs: 0.5, handler }, 'timeoutMs must be'],
    ['a timeout above a day', { timeoutMs: 86_400_001, handler }, 'timeoutMs must be'],
    ['a description that is too long', { description: 'x'.repeat(1_001), handler }, 'at most 1000'],
  ])('%s', (_, given, message) => {
    const refused = refusal(given);
    expect(refused.code).toBe('INVALID_DEFINITION');
    expect(refused.message).toContain(message);
    expect(refused.message).toMatch(/^[^\n]{1,300}[.]$|^defineFunction takes/);
  });
});
