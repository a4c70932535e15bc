import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { MillraceError } from '../../src/core/errors.ts';
import { parseSettings, SETTING_NAMES } from '../../src/core/settings.ts';

function refusal(given: unknown, source?: string): MillraceError {
  try {
    parseSettings(given, source);
  } catch (error) {
    if (error instanceof MillraceError) return error;
    throw error;
  }
  throw new Error('was accepted');
}

const DEFAULTS = parseSettings();
const NUMBERS = SETTING_NAMES.filter((name) => typeof DEFAULTS[name] === 'number');

describe('settings', () => {
  it('have a default each', () => {
    expect(Object.keys(DEFAULTS).sort()).toEqual([...SETTING_NAMES].sort());
    expect(parseSettings({})).toEqual(DEFAULTS);
    expect(parseSettings(DEFAULTS)).toEqual(DEFAULTS);
  });

  it('take what is given and leave the rest at its default', () => {
    expect(parseSettings({ concurrency: 7 })).toEqual({ ...DEFAULTS, concurrency: 7 });
  });

  it('refuse an unknown name, and say it and where it stands', () => {
    const error = refusal({ callTimeoutMS: 5 }, '/etc/mill.json');
    expect(error.code).toBe('USAGE');
    expect(error.message).toContain('callTimeoutMS');
    expect(error.message).toContain('/etc/mill.json');
  });

  it.each(NUMBERS)('refuse %s where it is no whole number in a range', (name) => {
    for (const value of [-1, 1e12, 1_000.5, Number.NaN, '1000', null]) {
      const error = refusal({ [name]: value });
      expect(error.code).toBe('USAGE');
      expect(error.message).toContain(name);
    }
  });

  it.each([
    ['sweepIntervalMs', 5, 1_000],
    ['frameMaxCalls', 1, 255],
    ['maxPayloadBytes', 1_024, 8_388_608],
    ['maxQueued', 0, 1_000_000],
  ])('take %s from %d to %d and nothing beyond', (name, lowest, highest) => {
    expect(parseSettings({ [name]: lowest })).toMatchObject({ [name]: lowest });
    expect(parseSettings({ [name]: highest })).toMatchObject({ [name]: highest });
    expect(refusal({ [name]: lowest - 1 }).message).toContain(name);
    expect(refusal({ [name]: highest + 1 }).message).toContain(name);
  });

  it.each(['', 'a.b', 'a b', 'a'.repeat(33), '*', '_INBOX', 7])(
    'refuse the namespace %j',
    (namespace) => {
      expect(refusal({ namespace }).message).toContain('namespace');
    },
  );

  it.each([null, 7, 'text', [[]]])('refuse %j in place of an object', (given) => {
    expect(refusal(given).code).toBe('USAGE');
  });
});

describe('config/README.md', () => {
  it('has every setting with its default, and nothing else', async () => {
    const text = await readFile(new URL('../../config/README.md', import.meta.url), 'utf8');
    const rows = [...text.matchAll(/^\|\s*`([^`]+)`\s*\|\s*`?([^|`]*?)`?\s*\|/gm)].map(
      ([, name = '', value = '']): [string, string] => [name, value],
    );
    const wanted = SETTING_NAMES.map((name): [string, string] => [
      name,
      String(DEFAULTS[name] as string | number),
    ]);
    expect(rows).toHaveLength(new Set(rows.map(([name]) => name)).size);
    expect(Object.fromEntries(rows)).toEqual(Object.fromEntries(wanted));
  });
});
