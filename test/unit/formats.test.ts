/**
 * What workers say to each other and leave in logs. Workers of two versions read each other's, and a log outlives both: if the first
 * test fails, a format has changed. docs/upgrade.md says what may be changed, and how.
 */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { Packr } from 'msgpackr';
import { headers as newHeaders } from 'nats';
import { describe, expect, it } from 'vitest';
import { encodeAssignment } from '../../src/bus/assignment-store.ts';
import { encodeCalls, encodeReplies } from '../../src/bus/frame.ts';
import {
  announcementSchema,
  assertFormat,
  ownerBeatSchema,
  writeControl,
} from '../../src/bus/messages.ts';
import { SnapshotStore } from '../../src/bus/snapshot-store.ts';
import { PROTOCOL } from '../../src/core/newer.ts';
import { decodeAppend, encodeAppend } from '../../src/core/state/append.ts';
import { decodeClaim, encodeClaim } from '../../src/core/state/claim.ts';
import type { LogRecord, Refusal } from '../../src/core/state/messages.ts';
import type { Partition } from '../../src/core/state/partition.ts';
import { decodeRecords, encodeRecords } from '../../src/core/state/records.ts';
import { readSnapshot } from '../../src/core/state/snapshot.ts';
import { encodeEnvelopes, type Envelope } from '../../src/core/state/wire.ts';
import { readCursor } from '../../src/delivery/cursors.ts';
import { encodeEmit } from '../../src/state/outbox.ts';

const tx = 'w1-7';
const refusal: Refusal = { why: 'conflict', partition: 2, key: 'list/a', other: 'w2-3' };
const RECORDS: LogRecord[] = [
  {
    kind: 'prepare',
    tx,
    home: 3,
    coordinator: 'w1',
    dependsOn: ['w2-7'],
    writes: [['a/b', '1', 9]],
  },
  {
    kind: 'decide',
    tx,
    coordinator: 'w1',
    writers: [4],
    writes: [['a/c', null, 10]],
    emits: [Buffer.of(1)],
  },
  { kind: 'commit', tx },
  { kind: 'abort', tx },
  { kind: 'end', tx },
  { kind: 'published', tx },
  { kind: 'expire', tx: '', items: [['$a/b', 11]] },
  { kind: 'layout', tx: '', generation: 1, from: 8, to: 9, left: [1], moved: [2], arrived: [3] },
  { kind: 'leaving', tx: '', to: 4 },
  { kind: 'moved', tx: '', to: 4 },
  { kind: 'arriving', tx: '', from: 2, items: [['a/d', '2', 12]], last: true, version: 12 },
];
const ENVELOPES: Envelope[] = [
  ...(
    [
      {
        kind: 'lock',
        tx,
        age: { startMs: 1.5, first: tx },
        coordinator: 'w1',
        key: 'a/b',
        mode: 'exclusive',
        ttlMs: 9,
      },
      { kind: 'release', tx },
      {
        kind: 'prepare',
        tx,
        coordinator: 'w1',
        epoch: 1,
        grant: 2,
        home: 3,
        participants: [4],
        writers: [4],
        writes: [['a/b', null]],
        emits: [Buffer.of(1)],
      },
      { kind: 'vote', tx, from: 4, yes: false, refusal },
      { kind: 'commit', tx, home: 3 },
      { kind: 'abort', tx },
      { kind: 'ended', tx, from: undefined },
      { kind: 'resolve', tx, coordinator: 'w1' },
      { kind: 'fetch', tx: '', generation: 1, to: 2, after: 'a' },
      {
        kind: 'items',
        tx: '',
        generation: 1,
        from: 2,
        after: 'a',
        items: [['a/b', '1', 3]],
        last: false,
        version: 3,
      },
      { kind: 'left', tx: '', generation: 1, from: 2 },
      { kind: 'arrived', tx: '', generation: 1, to: 2 },
    ] as const
  ).map((message) => ({ partition: 5, message })),
  ...(
    [
      {
        kind: 'granted',
        tx,
        partition: 5,
        key: 'a/b',
        mode: 'shared',
        value: '1',
        version: 2,
        epoch: 3,
        grant: 4,
        contention: 5,
      },
      { kind: 'queued', tx, partition: 5, key: 'a/b', behind: 'w2-1' },
      { kind: 'wound', tx, partition: 5, key: 'a/b', by: 'w2-1' },
      { kind: 'lost', tx, epoch: 1, grant: 2, refusal },
      { kind: 'elsewhere', tx, partition: 5, key: 'a/b', to: 6, generation: 1 },
      { kind: 'outcome', tx },
    ] as const
  ).map((message) => ({ partition: undefined, message })),
];
const APPEND = encodeAppend({
  kind: 'records',
  nonce: 7n,
  index: 3,
  sections: [{ partition: 5, epoch: 2, records: encodeRecords(RECORDS) }],
});
const CLAIM = encodeClaim({
  epoch: 2,
  nonce: 7n,
  snapshot: { firstSequence: 1, lastSequence: 2, chunks: 2 },
  segments: [{ journal: 'w1-1', epoch: 2, from: { index: 0, sequence: 0 } }],
});
const body = { type: 0, body: '{"a":1}' } as const;

/** The emit's time is the moment's own. */
function emitWithoutTime(): Uint8Array {
  const headers = newHeaders();
  headers.set('Nats-Msg-Id', 'e1');
  const payload = Buffer.from('{}');
  const packr = new Packr({ useRecords: false, moreTypes: false });
  const event = { id: 'e1', subject: 'a.b', payload, headers };
  return packr.pack((packr.unpack(encodeEmit(event)) as unknown[]).slice(0, 4));
}

const SAMPLES: Record<string, Uint8Array> = {
  records: encodeRecords(RECORDS),
  append: APPEND,
  claim: CLAIM,
  envelopes: encodeEnvelopes(ENVELOPES),
  emit: emitWithoutTime(),
  calls: encodeCalls(
    9,
    [
      {
        functionName: 'sum',
        encoded: body,
        attempt: 1,
        retry: false,
        parts: true,
        timeoutMs: 1_000,
        eventId: 'e1',
        headers: '{"a":"b"}',
      },
    ],
    200,
  ),
  replies: encodeReplies([{ callId: 9, status: 0, encoded: body }], 200),
  assignment: encodeAssignment({ owners: ['w1', null], layout: { generation: 1, from: 1, to: 2 } }),
  // What control messages hold.
  announcement: Buffer.from(Object.keys(announcementSchema.shape).join()),
  ownerBeat: Buffer.from(Object.keys(ownerBeatSchema.shape).join()),
};

/** As a newer version may have written it: of any version the first byte is the version, and the checksum the last four. */
function newer(bytes: Uint8Array, version: number): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(version, 0);
  copy.writeUInt32BE(crc32(copy.subarray(0, -4)), copy.length - 4);
  return copy;
}

const REFUSED = expect.objectContaining({
  code: 'NEWER_VERSION',
  message: expect.stringMatching(
    /is of format \d+, written by a newer version of millrace; .*Nothing was changed/,
  ),
});
function failureOf(read: () => unknown): unknown {
  try {
    return { read: read() };
  } catch (error) {
    return error;
  }
}

describe('formats', () => {
  it(`are those of protocol ${PROTOCOL}`, () => {
    const hashes = Object.entries(SAMPLES).map(([name, bytes]) => {
      return `${name} ${createHash('sha256').update(bytes).digest('hex').slice(0, 16)}`;
    });
    expect([PROTOCOL, ...hashes]).toMatchInlineSnapshot(`
      [
        1,
        "records c72a7b22742c255a",
        "append ca9ca91b9680618c",
        "claim b1d36472c573632a",
        "envelopes 1b327f630130ffd7",
        "emit f51bbd23c9b29bf8",
        "calls 21889a10de47d5c6",
        "replies 1ce93b343171ca60",
        "assignment 004a47831093cf0c",
        "announcement e5fa691891efdcc1",
        "ownerBeat 7be768f12026d197",
      ]
    `);
  });
});

describe('what a newer version has written is told from what is damaged', () => {
  it('in appends, by version and by kind', () => {
    expect(failureOf(() => decodeAppend(newer(APPEND, 3)))).toEqual(REFUSED);
    const kind = Buffer.from(APPEND);
    kind.writeUInt8(9, 1);
    expect(failureOf(() => decodeAppend(newer(kind, 2)))).toEqual(REFUSED);
    // Of which only the ends are what they are in all versions.
    expect(failureOf(() => decodeAppend(newer(Buffer.alloc(9), 3)))).toEqual(REFUSED);
    expect(decodeAppend(newer(APPEND, 1))).toBeUndefined();
    const damaged = newer(APPEND, 3);
    damaged.writeUInt8(255, 5);
    expect(decodeAppend(damaged)).toBeUndefined();
  });

  it('in claims', () => {
    expect(failureOf(() => decodeClaim(newer(CLAIM, 3)))).toEqual(REFUSED);
    expect(decodeClaim(newer(CLAIM, 1))).toBeUndefined();
    const damaged = newer(CLAIM, 3);
    damaged.writeUInt8(255, 5);
    expect(decodeClaim(damaged)).toBeUndefined();
  });

  it('in records, by kind', () => {
    const packr = new Packr({ useRecords: false });
    expect(failureOf(() => decodeRecords(packr.pack([[12, tx]])))).toEqual(REFUSED);
    for (const none of [0, -1, 1.5, 'a', null]) {
      const failure = failureOf(() => decodeRecords(packr.pack([[none, tx]])));
      expect(failure).toMatchObject({ message: expect.stringContaining('the log is corrupt') });
    }
  });

  it('in snapshots, by their parts and by what is in them', async () => {
    const packr = new Packr({ useRecords: false });
    const nobody = {} as unknown as Partition;
    expect(failureOf(() => readSnapshot(nobody, packr.pack([2, 'a'])))).toEqual(REFUSED);

    const part = (version: number, checksum = 0): Buffer => {
      const bytes = Buffer.alloc(20, 7);
      bytes.writeUInt8(version, 0);
      bytes.writeUInt32BE(0, 9);
      bytes.writeUInt32BE(
        (crc32(bytes.subarray(17), crc32(bytes.subarray(0, 13))) ^ checksum) >>> 0,
        13,
      );
      return bytes;
    };
    const read = async (bytes: Buffer): Promise<unknown> => {
      const reader = {
        read: async (...given: unknown[]) =>
          (given.at(-1) as (sequence: number, bytes: Buffer) => void)(1, bytes),
      };
      const nothing = {} as never;
      const store = new SnapshotStore('stream', 'subject', nothing, reader as never, nothing);
      const pointer = { firstSequence: 1, lastSequence: 1, chunks: 1 };
      return store
        .read(pointer, () => {})
        .then(
          () => 'read',
          (error: unknown) => error,
        );
    };
    expect(await read(part(1))).toBe('read');
    expect(await read(part(2))).toEqual(REFUSED);
    expect(await read(part(2, 1))).toMatchObject({ code: 'UNAVAILABLE' });
  });

  it('in what is stored as JSON', () => {
    expect(failureOf(() => assertFormat(writeControl({ format: 2 }), 'The table', 1))).toEqual(
      REFUSED,
    );
    expect(failureOf(() => assertFormat(writeControl({ owners: [] }), 'The table', 1))).toEqual({});
    expect(failureOf(() => readCursor(writeControl({ format: 2 })))).toEqual(REFUSED);
  });
});
