import type { StandardSchemaV1 } from '@standard-schema/spec';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { validate } from '../../src/function/schema.ts';

/** A schema of no library's, with the given answer. */
function answering(
  answer: () => StandardSchemaV1.Result<string> | Promise<StandardSchemaV1.Result<string>>,
): StandardSchemaV1<unknown, string> {
  return { '~standard': { version: 1, vendor: 'test', validate: answer } };
}

describe('validate', () => {
  it('answers a synchronous schema at once, with the value as the schema gives it', () => {
    const schema = z.string().transform(Number);
    expect(validate(schema, '7')).toEqual({ ok: true, value: 7 });
  });

  it('answers an asynchronous schema with a promise', async () => {
    const schema = z.string().refine(async (text) => text.length > 2, 'too short');
    const checked = validate(schema, 'ab');
    expect(checked).toBeInstanceOf(Promise);
    expect(await checked).toEqual({ ok: false, issues: [{ path: [], message: 'too short' }] });
    expect(await validate(schema, 'abc')).toEqual({ ok: true, value: 'abc' });
  });

  it('tells where each issue is', () => {
    const schema = z.object({ items: z.array(z.object({ id: z.number() })) });
    expect(validate(schema, { items: [{ id: 1 }, { id: 'x' }] })).toMatchObject({
      ok: false,
      issues: [{ path: ['items', 1, 'id'] }],
    });
  });

  it('reads paths of keys, of segments and of symbols', () => {
    const path = ['a', { key: 0 }, Symbol('s'), { key: Symbol('t') }];
    const schema = answering(() => ({
      issues: [{ message: 'no', path }, { message: 'nor this' }],
    }));
    expect(validate(schema, 1)).toEqual({
      ok: false,
      issues: [
        { path: ['a', 0, 'Symbol(s)', 'Symbol(t)'], message: 'no' },
        { path: [], message: 'nor this' },
      ],
    });
  });

  it('gives 20 issues at most, each with a bounded message', () => {
    const many = Array.from({ length: 1_000 }, () => ({ message: 'x'.repeat(10_000) }));
    const checked = validate(
      answering(() => ({ issues: many })),
      1,
    );
    expect(JSON.stringify(checked).length).toBeLessThan(10_000);
    expect(checked).toMatchObject({ issues: { length: 20 } });
  });

  it('leaves to the caller what a schema throws', () => {
    const broken = answering(() => {
      throw new Error('broken schema');
    });
    expect(() => validate(broken, 1)).toThrow('broken schema');
  });
});
