/** A log outlives the program that wrote it: what these bytes mean may never change. */
import { describe, expect, it } from 'vitest';
import { decodeAppend, encodeAppend } from '../../src/core/state/append.ts';
import type { LogRecord } from '../../src/core/state/messages.ts';
import { decodeRecords, encodeRecords } from '../../src/core/state/wire.ts';

const BYTES = Buffer.from(
  '01ee6b2800fffffffffffffffefedcba98014270000000000000401c000000000000402200000000000000000003ffffffff' +
    '969601a477312d3103a2773191a477322d379193a66c6973742f61a35b315d09' +
    '9602a477312d32a2773191049193a66c6973742f62c00a91c4020102' +
    '9203a477312d33' +
    '9204a477312d34' +
    '9205a477312d35' +
    '9306a09192a424612f620b' +
    'cd7389d2',
  'hex',
);
const HEADER = {
  epoch: 4_000_000_000,
  nonce: 0xff_ff_ff_ff_ff_ff_ff_fen,
  previousCrc: 0xfe_dc_ba_98,
  snapshot: {
    covers: 2 ** 40,
    crc: 0xff_ff_ff_ff,
    firstSequence: 7,
    lastSequence: 9,
    chunks: 3,
  },
};
const RECORDS: LogRecord[] = [
  {
    kind: 'prepare',
    tx: 'w1-1',
    home: 3,
    coordinator: 'w1',
    dependsOn: ['w2-7'],
    writes: [['list/a', '[1]', 9]],
  },
  {
    kind: 'decide',
    tx: 'w1-2',
    coordinator: 'w1',
    writers: [4],
    writes: [['list/b', null, 10]],
    emits: [Buffer.of(1, 2)],
  },
  { kind: 'commit', tx: 'w1-3' },
  { kind: 'abort', tx: 'w1-4' },
  { kind: 'end', tx: 'w1-5' },
  { kind: 'expire', tx: '', items: [['$a/b', 11]] },
];

describe('an append of version 1', () => {
  it('is written as it always was', () => {
    const bytes = encodeAppend({ ...HEADER, records: encodeRecords(RECORDS) });
    expect(Buffer.from(bytes).toString('hex')).toBe(BYTES.toString('hex'));
  });

  it('is read as it always was', () => {
    const { records, crc, ...header } = decodeAppend(BYTES) as NonNullable<
      ReturnType<typeof decodeAppend>
    >;
    expect(header).toEqual(HEADER);
    expect(crc).toBe(0xcd_73_89_d2);
    expect(decodeRecords(records)).toEqual(RECORDS);
  });

  it('without records and without a snapshot is one, too', () => {
    const bare = { ...HEADER, snapshot: undefined, records: Buffer.alloc(0) };
    expect(decodeAppend(encodeAppend(bare))).toMatchObject(bare);
  });

  it('refuses a record of a kind that this version does not know', () => {
    const unknown = Uint8Array.of(0x91, 0x92, 0x07, 0xa1, 0x78);
    expect(() => decodeRecords(unknown)).toThrow('record kind 7 is not known');
  });
});
