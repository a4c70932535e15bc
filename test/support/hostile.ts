/** Messages that no program of ours would send: at random, and recorded ones that are changed. Seeded. */
import { headers as newHeaders, type Msg, type MsgHdrs } from 'nats';
import type { Random } from './random.ts';

export interface Recorded {
  subject: string;
  data: Uint8Array;
  reply: string;
  headers: MsgHdrs | undefined;
}

export function recorded({ subject, data, reply = '', headers }: Msg): Recorded {
  return { subject, data: Uint8Array.from(data), reply, headers };
}

/** Legal JSON, or MessagePack as hexadecimal: what decoders of ours fell for, or might. */
const TEXTS = [
  '',
  'null',
  '0',
  '[]',
  '{}',
  '"',
  '{"__proto__":{"polluted":true}}',
  '{"constructor":{"prototype":{"polluted":true}}}',
  '{"id":"__proto__","functions":["constructor"],"connectionEpoch":1,"state":"running","revision":1}',
  '{"id":1e999}',
  '{"partition":-1}',
  '{"partition":1e300,"list":{"prefix":"","after":"","limit":-9007199254740991}}',
  '{"partition":0,"list":{"prefix":"","after":"","limit":9007199254740991}}',
  '{"collection":"__proto__","key":"__proto__"}',
  '{"collection":"accounts","limit":1e9}',
  '{"partitions":257}',
  '{"load":[["../../etc","../passwd"]]}',
  '{"generation":9007199254740991}',
  '{"keepMs":1e9}',
  '{"tx":"__proto__","what":"set","collection":"a/b","key":"","value":"{"}',
  '{"functions":[["__proto__",null],["constructor",["toString"]]]}',
  '{"collections":[["accounts",null]]}',
  '['.repeat(10_000),
  `${'{"a":'.repeat(5_000)}1${'}'.repeat(5_000)}`,
  '\ufeff{}',
  '\u0000\u0000',
];
const MSGPACKS = [
  '90',
  '91c0',
  '9190',
  'dfffffffff',
  'ddffffffff',
  'c6ffffffff',
  '91d472',
  'd47240',
  'd5724091a161',
  '91c70078',
  '92a0c70e4200',
  '919300a46c6f636bc0',
  '9198ffa46c6f636ba0cb7ff0000000000000a0a0a000',
];
const REPLIES = [
  '',
  '',
  '',
  '_INBOX.nobody.1',
  '*',
  '>',
  '$JS.API.STREAM.LIST',
  '$JS.ACK.a.b.1.1.1.1.1',
  'millrace.cache',
  '_INBOX.x.c.f.4294967295.65535',
];
const LONGEST_BYTES = 4_096;
const SELDOM_BYTES = 128 * 1024;

export function randomBytes(random: Random): Uint8Array {
  const longest = random.chance(0.005) ? SELDOM_BYTES : LONGEST_BYTES;
  const bytes = new Uint8Array(random.below(random.chance(0.5) ? 32 : longest));
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = random.below(256);
  return bytes;
}

/** Something that a decoder may take for a beginning of what it knows. */
export function hostileBytes(random: Random): Uint8Array {
  const dice = random.next();
  if (dice < 0.4) return randomBytes(random);
  if (dice < 0.7) return Buffer.from(random.pick(TEXTS));
  return Buffer.from(random.pick(MSGPACKS), 'hex');
}

/** One to three changes: bits that flip, a part that is missing, is there twice, or is another message's. */
export function mutated(bytes: Uint8Array, other: Uint8Array, random: Random): Uint8Array {
  let changed = Buffer.from(bytes);
  for (let left = 1 + random.below(3); left > 0; left -= 1) {
    const at = random.below(changed.length + 1);
    const to = Math.min(changed.length, at + random.below(64));
    const dice = random.next();
    if (dice < 0.4 && at < changed.length) {
      changed[at] = (changed[at] as number) ^ (1 << random.below(8));
    } else if (dice < 0.55) changed = Buffer.from(changed.subarray(0, at));
    else if (dice < 0.7) changed = Buffer.concat([changed.subarray(0, at), changed.subarray(to)]);
    else if (dice < 0.85) changed = Buffer.concat([changed.subarray(0, to), changed.subarray(at)]);
    else {
      const from = random.below(other.length + 1);
      changed = Buffer.concat([changed.subarray(0, at), other.subarray(from)]);
    }
  }
  return changed;
}

export function hostileReply(random: Random): string {
  return random.pick(REPLIES);
}

const HEADER_NAMES = [
  'Content-Type',
  'Nats-Msg-Id',
  'traceparent',
  '__proto__',
  'constructor',
  'Millrace-Transaction',
  'Millrace-Later',
  'Millrace-Delivery',
  'Nats-Expected-Last-Sequence',
  'Nats-Schedule',
  'Nats-Rollup',
];
const HEADER_VALUES = [
  '',
  '__proto__',
  'application/msgpack',
  'application/json; charset=utf-16',
  '{"__proto__":{"polluted":1}}',
  'a b',
  '00-00000000000000000000000000000000-0000000000000000-ff',
  'x'.repeat(8_000),
];

export function hostileHeaders(random: Random): MsgHdrs | undefined {
  if (random.chance(0.7)) return undefined;
  const headers = newHeaders();
  for (let left = random.chance(0.02) ? 500 : random.below(4); left > 0; left -= 1) {
    headers.append(random.pick(HEADER_NAMES), random.pick(HEADER_VALUES));
  }
  return headers;
}
