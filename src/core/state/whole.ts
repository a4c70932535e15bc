/** What an append and a claim end with, of any version: the CRC-32 of all before it, big-endian. */
import { crc32 } from 'node:zlib';

export const CRC_BYTES = 4;

/** Writes it into the last four bytes, for all before them. */
export function closeWithChecksum(bytes: Buffer): Buffer {
  const end = bytes.length - CRC_BYTES;
  bytes.writeUInt32BE(crc32(bytes.subarray(0, end)), end);
  return bytes;
}

/** The length without it; undefined for what is not whole. */
export function wholeEnd(bytes: Buffer): number | undefined {
  const end = bytes.length - CRC_BYTES;
  return end >= 1 && crc32(bytes.subarray(0, end)) === bytes.readUInt32BE(end) ? end : undefined;
}

export function isWhole(message: Uint8Array): boolean {
  return wholeEnd(asBuffer(message)) !== undefined;
}

/** The same bytes. */
export function asBuffer({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
