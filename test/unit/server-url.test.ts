import { describe, expect, it } from 'vitest';
import { parseServerUrl, withoutPassword } from '../../src/core/server-url.ts';

describe('a server’s URL', () => {
  it.each([
    ['localhost', { address: 'nats://localhost' }],
    [' nats://127.0.0.1:4222/ ', { address: 'nats://127.0.0.1:4222' }],
    ['[::1]:4222', { address: 'nats://[::1]:4222' }],
    ['my_host.example:4222', { address: 'nats://my_host.example:4222' }],
    ['tls://a:1', { address: 'tls://a:1' }],
    ['nats://alice:p%40ss@a:1', { address: 'nats://a:1', user: 'alice', password: 'p@ss' }],
    ['alice:a:b@a', { address: 'nats://a', user: 'alice', password: 'a:b' }],
    ['nats://t%3Aken@a', { address: 'nats://a', token: 't:ken' }],
  ])('%j is read', (text, url) => {
    expect(parseServerUrl(text)).toEqual(url);
  });

  it.each([
    'nats://',
    'nats:localhost',
    'nats//localhost:4222',
    'localhost;4222',
    'nats://a b',
    'nats://a/b',
    'nats://a?b=c',
    'nats://a:99999',
    'ws://a',
    'http://alice:secret@a',
    'nats://@a',
    'nats://:secret@a',
    'nats://alice:@a',
    'nats://alice:secret@',
    'nats://alice:secret#@a',
    'nats://alice:secret/@a',
    'nats://alice:secret%@a',
    'nats://secret@a:99999',
    'secret@a:99999',
  ])('%j is USAGE in one sentence, and the password is not told', (text) => {
    expect(() => parseServerUrl(text)).toThrow(
      expect.objectContaining({
        code: 'USAGE',
        message: expect.not.stringContaining('secret') as string,
      }) as Error,
    );
  });

  it.each([
    ['nats://a:1', 'nats://a:1'],
    ['nats://alice:secret@a:1', 'nats://alice:***@a:1'],
    ['alice:secret@a:1', 'alice:***@a:1'],
    ['nats://secret@a', 'nats://***@a'],
    ['nats://alice:se@cr:et@a', 'nats://alice:***@a'],
    ['nats://alice:secret@a,nats://bob:secret@b', 'nats://alice:***@a,nats://bob:***@b'],
  ])('%j is shown as %j', (text, shown) => {
    expect(withoutPassword(text)).toBe(shown);
  });
});
