/** A log outlives the program that wrote it: what these bytes mean may never change. */
import { describe, expect, it } from 'vitest';
import { decodeAppend, encodeAppend } from '../../src/core/state/append.ts';
import type { LogRecord } from '../../src/core/state/messages.ts';
import { decodeRecords, encodeRecords } from '../../src/core/state/records.ts';

const RECORD_BYTES = Buffer.from(
  '969601a477312d3103a2773191a477322d379193a66c6973742f61a35b315d09' +
    '9602a477312d32a2773191049193a66c6973742f62c00a91c4020102' +
    '9203a477312d33' +
    '9204a477312d34' +
    '9205a477312d35' +
    '9306a09192a424612f620b',
  'hex',
);
const BYTES = Buffer.concat([
  // Version, kind, nonce, index, two sections.
  Buffer.from('0200fffffffffffffffe427000000000000000000002', 'hex'),
  // Partition, epoch, length.
  Buffer.from('00000007ee6b2800', 'hex'),
  Buffer.from('0000005c', 'hex'),
  RECORD_BYTES,
  Buffer.from('000000ff0000000100000000', 'hex'),
  Buffer.from('88c1b5d9', 'hex'),
]);
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

const APPEND = {
  kind: 'records' as const,
  nonce: 0xff_ff_ff_ff_ff_ff_ff_fen,
  index: 2 ** 40,
  sections: [
    { partition: 7, epoch: 4_000_000_000, records: encodeRecords(RECORDS) },
    { partition: 255, epoch: 1, records: Buffer.alloc(0) },
  ],
};

describe('an append of version 2', () => {
  it('is written as it always was', () => {
    expect(Buffer.from(encodeAppend(APPEND)).toString('hex')).toBe(BYTES.toString('hex'));
  });

  it('is read as it always was', () => {
    const append = decodeAppend(BYTES);
    expect(append).toMatchObject({ kind: 'records', nonce: APPEND.nonce, index: APPEND.index });
    const [first, second] = append?.sections ?? [];
    expect(first).toMatchObject({ partition: 7, epoch: 4_000_000_000 });
    expect(decodeRecords(first?.records ?? Buffer.alloc(0))).toEqual(RECORDS);
    expect(second).toMatchObject({ partition: 255, epoch: 1 });
    expect(second?.records).toHaveLength(0);
  });

  it('may be a seal', () => {
    const seal = { kind: 'seal' as const, nonce: 1n, index: 9, sections: [] };
    expect(decodeAppend(encodeAppend(seal))).toEqual(seal);
    expect(encodeAppend(seal)[1]).toBe(1);
  });

  it('may say that the journal was emptied', () => {
    const emptied = { kind: 'emptied' as const, nonce: 1n, index: 10, sections: [] };
    expect(decodeAppend(encodeAppend(emptied))).toEqual(emptied);
    expect(encodeAppend(emptied)[1]).toBe(2);
  });

  it('refuses a record of a kind that this version does not know', () => {
    const unknown = Uint8Array.of(0x91, 0x92, 0x7f, 0xa1, 0x78);
    expect(() => decodeRecords(unknown)).toThrow('A record of the log is of format 127');
  });
});
