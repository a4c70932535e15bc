/** Where secrets come from, and what of them is found in text. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { assert, pre, property, string } from 'fast-check';
import pino from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { defineFunction } from 'millrace';
import { MillraceError } from '../../src/core/errors.ts';
import type { LoadedFunction } from '../../src/function/load.ts';
import {
  MAX_SECRET_BYTES,
  MIN_SECRET_CHARACTERS,
  READ_AGAIN_MS,
  Secrets,
} from '../../src/worker/secrets.ts';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-secrets-'));
});
afterAll(() => rmSync(directory, { recursive: true }));
afterEach(() => void vi.useRealTimers());

const pay = (...secrets: string[]): LoadedFunction => ({
  definition: defineFunction({ name: 'pay', secrets, handler: () => {} }),
  name: 'pay',
  file: 'pay.ts',
  version: 'v',
  subjects: [],
});
const withFile = (name: string, content: string | Buffer): void =>
  writeFileSync(join(directory, name), content);
function of(value: string, environment: NodeJS.ProcessEnv = {}): Secrets {
  const secrets = new Secrets({ environment: { KEY: value, ...environment } });
  secrets.need(pay('KEY', ...Object.keys(environment)));
  return secrets;
}

describe('a secret', () => {
  it('comes from its file, without the line’s end, and else from the environment', () => {
    withFile('FIRST', 'from the file\n');
    const environment = { FIRST: 'from the environment', SECOND: 'also from there' };
    const secrets = new Secrets({ directory, environment });
    secrets.need(pay('FIRST', 'SECOND'));
    expect(secrets.value('FIRST')).toBe('from the file');
    expect(secrets.value('SECOND')).toBe('also from there');
  });

  it('that is not here, too short, too long or no file is named with its function, and its value is not', () => {
    withFile('SHORT', 'a'.repeat(MIN_SECRET_CHARACTERS - 1));
    withFile('LONG', 'b'.repeat(MAX_SECRET_BYTES + 1));
    const secrets = new Secrets({ directory, environment: { EMPTY: '' } });
    const refused = (name: string): string => {
      try {
        secrets.need(pay(name));
        return '';
      } catch (error) {
        return `${(error as MillraceError).code} ${(error as MillraceError).message}`;
      }
    };
    expect(refused('AWAY')).toBe(
      `FUNCTION_LOAD_FAILED pay needs the secret AWAY, which is neither in ${directory} nor in the environment.`,
    );
    expect(refused('SHORT')).toMatch(
      /^FUNCTION_LOAD_FAILED pay needs the secret SHORT, which has fewer than 8/,
    );
    expect(refused('SHORT')).not.toContain('aaa');
    expect(refused('EMPTY')).toMatch(/which has fewer than 8 characters/);
    expect(refused('LONG')).toMatch(/whose file has more than 65536 bytes/);
    const inFile = new Secrets({ directory: join(directory, 'SHORT'), environment: {} });
    expect(() => inFile.need(pay('KEY'))).toThrow(/whose file cannot be read \(ENOTDIR\)/);
    expect(() => new Secrets({ environment: {} }).need(pay('KEY'))).toThrow(
      /neither in a folder given with --secrets nor in the environment/,
    );
  });

  it('that is replaced is seen after a while, stays while its file is away, and is looked for still', () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    withFile('TOKEN', 'the first value');
    const secrets = new Secrets({ directory, environment: {} });
    secrets.need(pay('TOKEN'));
    withFile('TOKEN', 'the second value');
    expect(secrets.value('TOKEN')).toBe('the first value');
    vi.advanceTimersByTime(READ_AGAIN_MS);
    expect(secrets.value('TOKEN')).toBe('the second value');
    rmSync(join(directory, 'TOKEN'));
    vi.advanceTimersByTime(READ_AGAIN_MS);
    expect(secrets.value('TOKEN')).toBe('the second value');
    expect(secrets.redact('the first value, the second value')).toBe('[TOKEN], [TOKEN]');
  });

  it.each([['not a list'], [['1st']], [['A/../B']], [['']], [[5]], [Array(33).fill('A')]])(
    'is refused in a definition: %j',
    (secrets) => {
      expect(() => defineFunction({ secrets: secrets as string[], handler: () => {} })).toThrow(
        expect.objectContaining({ code: 'INVALID_DEFINITION' }),
      );
    },
  );
});

describe('text', () => {
  it('has no secret in it afterwards, however it was written there', () => {
    const characters = string({ minLength: MIN_SECRET_CHARACTERS, unit: 'binary' });
    assert(
      property(characters, string(), string(), (value, before, after) => {
        // Lone halves of a pair are no text that a file or a variable could hold.
        pre(value.isWellFormed());
        const secrets = of(value);
        for (const written of [
          value,
          JSON.stringify(value),
          JSON.stringify(JSON.stringify({ value })),
          encodeURIComponent(value),
          Buffer.from(value).toString('base64'),
        ]) {
          const clean = secrets.redact(`${before}${written}${after}`);
          expect(clean).not.toContain(value);
          expect(clean).toContain('[KEY]');
          expect(() => secrets.assertNotIn('it', 'pay', written)).toThrow('the secret KEY');
          expect(() => secrets.assertNotIn('it', 'pay', Buffer.from(written))).toThrow('KEY');
        }
      }),
    );
  });

  it('without one is left as it is', () => {
    const secrets = of('a secret of some length');
    expect(secrets.redact('a secret of some')).toBe('a secret of some');
    secrets.assertNotIn('it', 'pay', 'a secret of some');
    const error = new MillraceError('TIMEOUT', 'no secret', { details: { a: 1 } });
    expect(secrets.cleanError(error)).toBe(error);
    expect(secrets.cleanThrown(error)).toBe(error);
  });

  it('with two, one of which holds the other, names the longer one', () => {
    const secrets = of('postgres://user:hunter2hunter2@db', { PASSWORD: 'hunter2hunter2' });
    expect(secrets.redact('to postgres://user:hunter2hunter2@db, hunter2hunter2')).toBe(
      'to [KEY], [PASSWORD]',
    );
  });
});

describe('what a handler throws', () => {
  it('keeps its code, its details and what it says of itself, without the secret', () => {
    const secrets = of('line one\n"line" two');
    const thrown = Object.assign(new Error('with line one\n"line" two'), { retryable: false });
    const error = new MillraceError('INVALID_INPUT', thrown.message, {
      details: { at: 'line one\n"line" two', n: 1 },
      cause: thrown,
    });
    expect(secrets.cleanError(error)).toMatchObject({
      code: 'INVALID_INPUT',
      message: 'with [KEY]',
      details: { at: '[KEY]', n: 1 },
    });
    const clean = secrets.cleanThrown(thrown) as Error & { retryable: boolean };
    expect(clean.stack).toMatch(/^Error: with \[KEY\]\n/);
    expect(clean.retryable).toBe(false);
    const hostile = {
      get stack(): string {
        throw new Error('no');
      },
    };
    expect(secrets.cleanThrown(hostile)).toBe(hostile);
  });

  it('loses details that would be none without the secret, and is an error all the same', () => {
    const error = new MillraceError('INVALID_INPUT', 'no', { details: { pin: 12_345_678 } });
    const clean = of('12345678').cleanError(error);
    expect([clean.code, clean.message, clean.details]).toEqual(['INVALID_INPUT', 'no', undefined]);
  });

  it('is logged without it, by children as well', () => {
    const lines: string[] = [];
    const log = of('"quoted"\\secret').cleanLog(
      pino({}, { write: (line) => void lines.push(line) }),
    );
    log.child({ a: 1 }).error({ err: new Error('with "quoted"\\secret'), b: '"quoted"\\secret' });
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({
      a: 1,
      b: '[KEY]',
      err: { message: 'with [KEY]' },
    });
  });
});
