/**
 * One message of a partition's log: a header and the records of one append. Big-endian.
 *
 * u8 version, u32 epoch, u64 nonce, u32 CRC of the append before, u8 has a snapshot, [f64 covers, f64 first, f64 last,
 * u32 chunks, u32 crc], records, u32 CRC-32 of all before it.
 */
import { crc32 } from 'node:zlib';

export interface AppendHeader {
  epoch: number;
  /** Drawn by each owner at its takeover: no two owners write the same bytes. */
  nonce: bigint;
  /**
   * The newest complete snapshot: it has all up to the append `covers`, whose checksum is `crc`; the others are sequences of
   * the snapshot stream.
   */
  snapshot:
    | {
        covers: number;
        crc: number;
        firstSequence: number;
        lastSequence: number;
        chunks: number;
      }
    | undefined;
  /** 0 for the first append. */
  previousCrc: number;
}

export interface Append extends AppendHeader {
  records: Uint8Array;
}

const VERSION = 1;
const FIXED_BYTES = 18;
const SNAPSHOT_BYTES = 32;
const CRC_BYTES = 4;

export function encodeAppend({ epoch, nonce, snapshot, previousCrc, records }: Append): Uint8Array {
  const headerBytes = FIXED_BYTES + (snapshot === undefined ? 0 : SNAPSHOT_BYTES);
  const bytes = Buffer.allocUnsafe(headerBytes + records.length + CRC_BYTES);
  bytes.writeUInt8(VERSION, 0);
  bytes.writeUInt32BE(epoch, 1);
  bytes.writeBigUInt64BE(nonce, 5);
  bytes.writeUInt32BE(previousCrc, 13);
  bytes.writeUInt8(snapshot === undefined ? 0 : 1, 17);
  if (snapshot !== undefined) {
    bytes.writeDoubleBE(snapshot.covers, 18);
    bytes.writeDoubleBE(snapshot.firstSequence, 26);
    bytes.writeDoubleBE(snapshot.lastSequence, 34);
    bytes.writeUInt32BE(snapshot.chunks, 42);
    bytes.writeUInt32BE(snapshot.crc, 46);
  }
  bytes.set(records, headerBytes);
  const end = bytes.length - CRC_BYTES;
  bytes.writeUInt32BE(crc32(bytes.subarray(0, end)), end);
  return bytes;
}

/** Undefined for what is not whole, or not of this version. */
export function decodeAppend(message: Uint8Array): (Append & { crc: number }) | undefined {
  const bytes = Buffer.from(message.buffer, message.byteOffset, message.byteLength);
  const end = bytes.length - CRC_BYTES;
  if (end < FIXED_BYTES || bytes.readUInt8(0) !== VERSION) return undefined;
  const crc = bytes.readUInt32BE(end);
  if (crc32(bytes.subarray(0, end)) !== crc) return undefined;
  const hasSnapshot = bytes.readUInt8(17) === 1;
  const headerBytes = FIXED_BYTES + (hasSnapshot ? SNAPSHOT_BYTES : 0);
  if (end < headerBytes) return undefined;
  return {
    epoch: bytes.readUInt32BE(1),
    nonce: bytes.readBigUInt64BE(5),
    previousCrc: bytes.readUInt32BE(13),
    snapshot: hasSnapshot
      ? {
          covers: bytes.readDoubleBE(18),
          firstSequence: bytes.readDoubleBE(26),
          lastSequence: bytes.readDoubleBE(34),
          chunks: bytes.readUInt32BE(42),
          crc: bytes.readUInt32BE(46),
        }
      : undefined,
    records: bytes.subarray(headerBytes, end),
    crc,
  };
}
