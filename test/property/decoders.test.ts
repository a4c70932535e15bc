/**
 * Every decoder of what may come from others: whatever the bytes are, it gives a value of the right shape or refuses them, in a
 * bounded time and with bounded memory, and touches no prototype. ABUSE_RUNS makes it longer.
 */
import { gzipSync } from 'node:zlib';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { Packr } from 'msgpackr';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { readFrames } from '../../src/backup/format.ts';
import { decodeCalls, decodeReplies } from '../../src/bus/frame.ts';
import { dueEvent } from '../../src/bus/later.ts';
import {
  announcementSchema,
  beatSchema,
  leaveSchema,
  ownerBeatSchema,
  readControl,
} from '../../src/bus/messages.ts';
import { MillraceError } from '../../src/core/errors.ts';
import { ContentType, decodePayload } from '../../src/core/payload.ts';
import { parseSettings } from '../../src/core/settings.ts';
import { decodeAppend, encodeAppend } from '../../src/core/state/append.ts';
import { decodeClaim, encodeClaim } from '../../src/core/state/claim.ts';
import { decodeEnvelopes, encodeEnvelopes } from '../../src/core/state/wire.ts';
import { eventsOf } from '../../src/delivery/outcome.ts';
import { unpackFile } from '../../src/deploy/packed.ts';
import { decodeRef } from '../../src/state/join.ts';
import { decodeEmit } from '../../src/state/outbox.ts';
import { hostileBytes, mutated } from '../support/hostile.ts';
import { Random } from '../support/random.ts';

const RUNS = Number(process.env['ABUSE_RUNS'] ?? 500);
const limits = parseSettings();
const packr = new Packr({ useRecords: false });

const lock = encodeEnvelopes([
  {
    partition: 3,
    message: {
      kind: 'lock',
      tx: 'W-1',
      age: { startMs: 1, first: 'W-1' },
      coordinator: 'W',
      key: 'accounts/alice',
      mode: 'exclusive',
      ttlMs: 1_000,
    },
  },
]);
const claim = encodeClaim({
  epoch: 3,
  nonce: 7n,
  segments: [{ journal: 'W-1', epoch: 3, from: { index: 0, sequence: 0 } }],
});
const append = encodeAppend({
  kind: 'records',
  nonce: 1n,
  index: 1,
  sections: [{ partition: 1, epoch: 1, records: packr.pack([[3, 'W-1']]) }],
});
const emit = packr.pack(['id', 'a.b', Buffer.from('{}'), [['Nats-Msg-Id', 'id']], 1]);
const delivery = JSON.stringify(['id', 'a.b', 1, 1, false, 's', 1, 's', 1, null, 1, []]);
const batch = packr.pack([[delivery, ContentType.json, {}, '{}']]);
const beat = Buffer.from('{"id":"W","connectionEpoch":1,"state":"running","revision":1}');

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

/** A decoder, something that it accepts, and what of it is right: false fails. */
const decoders: Record<string, [sample: Uint8Array, decode: (bytes: Uint8Array) => unknown]> = {
  'frames of calls': [Buffer.from('01010000000100000000', 'hex'), decodeCalls],
  'frames of replies': [Buffer.from('01020000', 'hex'), decodeReplies],
  'messages of transactions': [lock, decodeEnvelopes],
  claims: [claim, decodeClaim],
  appends: [append, decodeAppend],
  'emitted events': [emit, decodeEmit],
  'references to transactions': [Buffer.from('W-1 W'), (bytes) => decodeRef(text(bytes))],
  'delivered batches': [
    batch,
    (bytes) => eventsOf({ 'Millrace-Delivery': 'batch' }, ContentType.bytes, bytes),
  ],
  'delivered events': [
    Buffer.from(delivery),
    (bytes) => eventsOf({ 'Millrace-Delivery': text(bytes) }, ContentType.json, '{}'),
  ],
  'JSON payloads': [beat, (bytes) => decodePayload(ContentType.json, bytes, limits)],
  'MessagePack payloads': [emit, (bytes) => decodePayload(ContentType.msgpack, bytes, limits)],
  beats: [beat, (bytes) => readControl(beatSchema, bytes)],
  announcements: [beat, (bytes) => readControl(announcementSchema, bytes)],
  farewells: [beat, (bytes) => readControl(leaveSchema, bytes)],
  "owners' beats": [beat, (bytes) => readControl(ownerBeatSchema, bytes)],
  'anything of control': [beat, (bytes) => readControl(z.looseObject({}), bytes)],
  'due events': [
    Buffer.from('{"id":"a","subject":"a.b","dueMs":1,"headers":{}}'),
    (bytes) => dueEvent({ 'Millrace-Later': text(bytes) }, new Uint8Array(), 'millrace'),
  ],
};

/** What it throws, unless that is a coded refusal. */
function uncoded(decode: () => unknown): unknown {
  try {
    decode();
    return undefined;
  } catch (error) {
    return error instanceof MillraceError ? undefined : error;
  }
}

describe('what decoders do with bytes that nobody of ours has written', () => {
  it.each(Object.entries(decoders))('%s: a value or a coded refusal', (_, [sample, decode]) => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 31 }), (seed) => {
        const random = new Random(seed);
        const bytes = random.chance(0.5)
          ? hostileBytes(random)
          : mutated(sample, hostileBytes(random), random);
        expect(uncoded(() => decode(bytes))).toBeUndefined();
        expect(Object.keys(Object.prototype)).toEqual([]);
      }),
      { numRuns: RUNS },
    );
  });

  it.each(Object.entries(decoders))('%s: bombs are refused before they are built', (_, of) => {
    const [, decode] = of;
    const maps = Buffer.alloc(4 * 1024 * 1024, 0x80);
    maps.writeUInt8(0xdd, 0);
    maps.writeUInt32BE(maps.length - 5, 1);
    const deep = Buffer.alloc(1024 * 1024, 0x91);
    const brackets = Buffer.alloc(1024 * 1024, '[');
    for (const bomb of [maps, deep, brackets]) {
      const before = process.memoryUsage().heapUsed;
      expect(uncoded(() => decode(bomb))).toBeUndefined();
      // Built, the maps alone take more than 200 MB.
      expect(process.memoryUsage().heapUsed - before).toBeLessThan(100 * 1024 * 1024);
    }
  });

  it('a message to a coordinator whose name is no token is refused: it would be a command to the broker', () => {
    const evil = (coordinator: string): Uint8Array =>
      packr.pack([[0, 'lock', 'W-1', 1, 'W-1', coordinator, 'a/b', 0, 1]]);
    expect(decodeEnvelopes(evil('W')).envelopes).toHaveLength(1);
    for (const name of ['x\r\nPUB evil 0\r\n\r\n', 'a.b', '*', '>', '', 'a b', 'x'.repeat(65)]) {
      expect(decodeEnvelopes(evil(name))).toEqual({ envelopes: [], refused: 1 });
    }
  });

  it('an emitted event on what is no subject is refused', () => {
    const on = (subject: unknown): Uint8Array => packr.pack(['id', subject, Buffer.alloc(0), []]);
    expect(decodeEmit(on('a.b')).subject).toBe('a.b');
    for (const subject of ['a b', 'a\r\nPUB x 0\r\n', '$JS.API.x', 'a.*', '', 7]) {
      expect(() => decodeEmit(on(subject))).toThrow(MillraceError);
    }
  });

  it('a deployed file that unpacks to more than is allowed is refused', async () => {
    const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024));
    await expect(unpackFile('0'.repeat(64), bomb)).rejects.toMatchObject({
      code: 'FUNCTION_LOAD_FAILED',
    });
  });

  it('a backup that is none, or unpacks to more than is allowed, is refused', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-abuse-'));
    try {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(32 * 1024 * 1024);
      const maps = Buffer.alloc(32 * 1024 * 1024, 0x80);
      maps.writeUInt8(0xdd, 0);
      maps.writeUInt32BE(maps.length - 5, 1);
      const bombs = [
        gzipSync(Buffer.alloc(32 * 1024 * 1024, 0xff)),
        gzipSync(Buffer.concat([length, maps])),
        gzipSync(Buffer.alloc(1_000)),
        Buffer.from('no gzip'),
      ];
      for (const [index, bomb] of bombs.entries()) {
        const file = join(directory, String(index));
        await writeFile(file, bomb);
        const before = process.memoryUsage().rss;
        const read = async (): Promise<void> => {
          for await (const frame of readFrames(file)) expect(frame).toBeUndefined();
        };
        await expect(read()).rejects.toMatchObject({ code: 'BACKUP_UNREADABLE' });
        expect(process.memoryUsage().rss - before).toBeLessThan(512 * 1024 * 1024);
      }
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
