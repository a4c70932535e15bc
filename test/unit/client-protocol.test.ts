import { describe, expect, it } from 'vitest';
import { ClientProtocol, publish } from '../../src/testing/client-protocol.ts';

const HEADERS = 'NATS/1.0\r\nA: b\r\n\r\n';
const SAID = [
  'CONNECT {"verbose":false}\r\n',
  'SUB a.> 1\r\n',
  'PUB a.b 5\r\nhe\r\no\r\n',
  'PUB a.c _INBOX.x 0\r\n\r\n',
  `HPUB a.d ${HEADERS.length} ${HEADERS.length + 2}\r\n${HEADERS}ok\r\n`,
  `HPUB a.é _INBOX.y ${HEADERS.length} ${HEADERS.length}\r\n${HEADERS}\r\n`,
  'PING\r\n',
];
const whole = Buffer.from(SAID.join(''));

describe('what a NATS client says', () => {
  it('is read the same wherever its bytes are split, and handed on as it came', () => {
    for (let at = 0; at <= whole.length; at += 1) {
      const protocol = new ClientProtocol();
      const said = [whole.subarray(0, at), whole.subarray(at)].flatMap((chunk) => [
        ...protocol.take(chunk),
      ]);
      expect(said.map(({ bytes }) => bytes.toString())).toEqual(SAID);
      const published = said.flatMap(({ publication }) => publication ?? []);
      expect(
        published.map(({ subject, reply, payload, hasHeaders }) => {
          return [subject, reply, payload.toString(), hasHeaders];
        }),
      ).toEqual([
        ['a.b', '', 'he\r\no', false],
        ['a.c', '_INBOX.x', '', false],
        ['a.d', '', 'ok', true],
        ['a.é', '_INBOX.y', '', true],
      ]);
    }
  });

  it('is written as a client writes it', () => {
    expect(publish('a.b', '', Buffer.from('he\r\no')).toString()).toBe(SAID[2]);
    expect(publish('a.c', '_INBOX.x', Buffer.alloc(0)).toString()).toBe(SAID[3]);
  });

  it('is refused where it is not NATS', () => {
    expect(() => [...new ClientProtocol().take(Buffer.alloc(100_000, 'a'))]).toThrow('no NATS');
    expect(() => [...new ClientProtocol().take(Buffer.from('PUB a b\r\n'))]).toThrow('no NATS');
  });
});
