import { expect, it } from 'vitest';
import type { VersionRecord } from '../../src/deploy/records.ts';
import { assertSigned, isDeployKey, makeDeployKey, Signer } from '../../src/deploy/signature.ts';

const { seed, key } = makeDeployKey();
const hash = 'ab'.repeat(32);
const record: VersionRecord = {
  version: '0123456789ab',
  entry: 'sum.js',
  files: [{ path: 'sum.js', hash, bytes: 3 }],
  source: 'functions/sum.ts',
  identity: 'calls',
  at: '2026-01-01T00:00:00Z',
  by: 'somebody',
};
const signed = new Signer(seed).sign('millrace', { ...record, name: 'sum' });
const whole = { ...record, signed };
const untrusted = { code: 'FUNCTION_LOAD_FAILED' };

it('a version that a trusted key has signed is loaded', () => {
  expect(() => assertSigned('millrace', 'sum', whole, ['UOTHER', key])).not.toThrow();
});

it.each<[string, Partial<VersionRecord>, string?, string?]>([
  ['another version', { version: 'ffffffffffff' }],
  ['another entry', { entry: 'other.js' }],
  ['another file’s content', { files: [{ path: 'sum.js', hash: 'cd'.repeat(32), bytes: 3 }] }],
  ['another file’s name', { files: [{ path: 'add.js', hash, bytes: 3 }] }],
  ['one file more', { files: [...record.files, { path: 'more.js', hash, bytes: 3 }] }],
  ['other subjects', { identity: 'events' }],
  ['no signature', { signed: undefined }],
  ['a signature that is none', { signed: { key, signature: '' } }],
  ['another function', {}, 'millrace', 'charge'],
  ['another namespace', {}, 'staging', 'sum'],
])('a signature does not hold for %s', (_, changed, namespace = 'millrace', name = 'sum') => {
  const given = { ...whole, ...changed };
  expect(() => assertSigned(namespace, name, given, [key])).toThrow(
    expect.objectContaining(untrusted),
  );
});

it('a signature of a key that is not trusted counts for nothing', () => {
  const other = makeDeployKey();
  const by = new Signer(other.seed).sign('millrace', { ...record, name: 'sum' });
  const claimed = { ...by, key };
  for (const each of [by, claimed]) {
    expect(() => assertSigned('millrace', 'sum', { ...record, signed: each }, [key])).toThrow(
      expect.objectContaining(untrusted),
    );
  }
});

it('a secret key is never taken for a public one, nor shown', () => {
  expect(isDeployKey(key)).toBe(true);
  expect(isDeployKey(seed)).toBe(false);
  expect(() => new Signer(`${seed}x`)).toThrow(
    expect.objectContaining({ code: 'USAGE', message: expect.not.stringContaining(seed) }),
  );
});
