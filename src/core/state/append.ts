/**
 * One message of a worker's journal: what it writes for its partitions in one go. Big-endian.
 *
 * u8 version, u8 kind, u64 nonce, f64 index, u32 sections, sections, u32 CRC-32 of all before it.
 * A section: u32 partition, u32 epoch, u32 length, records of that partition.
 */
import { newerVersion } from '../newer.ts';
import { asBuffer, closeWithChecksum, CRC_BYTES, wholeEnd } from './whole.ts';

export interface Section {
  partition: number;
  epoch: number;
  records: Uint8Array;
}

/**
 * A seal is written by somebody else, who takes over from the journal's worker: no records follow it.
 * Emptied: behind a seal, says that all before it may be gone, because no claim named the journal any more.
 */
export type AppendKind = 'records' | 'seal' | 'emptied';

export interface Append {
  kind: AppendKind;
  /** Drawn once by each writer: no two write the same bytes. */
  nonce: bigint;
  /** 1 for the first append of the journal, then one more each time: a gap shows. */
  index: number;
  sections: readonly Section[];
}

const VERSION = 2;
/** By their code. */
const KINDS: readonly AppendKind[] = ['records', 'seal', 'emptied'];
const HEADER_BYTES = 22;
const SECTION_BYTES = 12;

export function encodeAppend({ kind, nonce, index, sections }: Append): Uint8Array {
  const length = sections.reduce(
    (sum, { records }) => sum + SECTION_BYTES + records.length,
    HEADER_BYTES + CRC_BYTES,
  );
  const bytes = Buffer.allocUnsafe(length);
  bytes.writeUInt8(VERSION, 0);
  bytes.writeUInt8(KINDS.indexOf(kind), 1);
  bytes.writeBigUInt64BE(nonce, 2);
  bytes.writeDoubleBE(index, 10);
  bytes.writeUInt32BE(sections.length, 18);
  let at = HEADER_BYTES;
  for (const { partition, epoch, records } of sections) {
    bytes.writeUInt32BE(partition, at);
    bytes.writeUInt32BE(epoch, at + 4);
    bytes.writeUInt32BE(records.length, at + 8);
    bytes.set(records, at + SECTION_BYTES);
    at += SECTION_BYTES + records.length;
  }
  return closeWithChecksum(bytes);
}

/** Undefined for what is not whole. Throws NEWER_VERSION: of any version the first byte is it, and the last four the checksum. */
export function decodeAppend(message: Uint8Array): Append | undefined {
  const bytes = asBuffer(message);
  const end = wholeEnd(bytes);
  if (end === undefined) return undefined;
  const version = bytes.readUInt8(0);
  if (version > VERSION) throw newerVersion('An append of the log', version, VERSION);
  if (version < VERSION || end < HEADER_BYTES) return undefined;
  const code = bytes.readUInt8(1);
  const kind = KINDS[code];
  if (kind === undefined) throw newerVersion('A kind of append', code, KINDS.length - 1);
  const sections: Section[] = [];
  let at = HEADER_BYTES;
  for (let count = bytes.readUInt32BE(18); count > 0; count -= 1) {
    if (at + SECTION_BYTES > end) return undefined;
    const begin = at + SECTION_BYTES;
    const records = bytes.subarray(begin, begin + bytes.readUInt32BE(at + 8));
    sections.push({
      partition: bytes.readUInt32BE(at),
      epoch: bytes.readUInt32BE(at + 4),
      records,
    });
    at = begin + records.length;
  }
  if (at !== end) return undefined;
  return {
    kind,
    nonce: bytes.readBigUInt64BE(2),
    index: bytes.readDoubleBE(10),
    sections,
  };
}
