/**
 * Who owns a partition, and where its log lies: the last message on the partition's own subject, changed only by one who
 * knows the one before (I1). SPEC.md, "Ownership".
 */
import { asBuffer, closeWithChecksum, CRC_BYTES, wholeEnd } from './whole.ts';
import { Packr } from 'msgpackr';
import { z } from 'zod';
import { newerVersion } from '../newer.ts';

const whole = z.number().int().nonnegative();
/** A place in a journal: behind the append with this index, which has this sequence in the stream; both 0 before the first. */
const positionSchema = z.object({ index: whole, sequence: whole });
export type Position = z.infer<typeof positionSchema>;

const segmentSchema = z.object({
  journal: z.string(),
  epoch: whole,
  /** What follows this place, */
  from: positionSchema,
  /** up to and with this one; absent while the owner is writing. */
  to: positionSchema.optional(),
});
export type Segment = z.infer<typeof segmentSchema>;

/** A complete snapshot: sequences of the snapshot stream. */
const snapshotSchema = z.object({ firstSequence: whole, lastSequence: whole, chunks: whole });
export type SnapshotPointer = z.infer<typeof snapshotSchema>;

const claimSchema = z.object({
  epoch: whole,
  /** Drawn by each owner: no two write the same bytes. */
  nonce: z.bigint(),
  snapshot: snapshotSchema.optional(),
  /** In order, behind the snapshot; only the last one may be open. */
  segments: z.array(segmentSchema).min(1),
});
export type Claim = z.infer<typeof claimSchema>;

const packr = new Packr({ useRecords: false, variableMapSize: true, int64AsType: 'bigint' });
const VERSION = 2;

/** u8 version, MessagePack, u32 CRC-32 of all before it. */
export function encodeClaim(claim: Claim): Uint8Array {
  const body = packr.pack(claim);
  const bytes = Buffer.allocUnsafe(1 + body.length + CRC_BYTES);
  bytes.writeUInt8(VERSION, 0);
  bytes.set(body, 1);
  return closeWithChecksum(bytes);
}

/** Undefined for what is not whole. Throws NEWER_VERSION: of any version the first byte is it, and the last four the checksum. */
export function decodeClaim(message: Uint8Array): Claim | undefined {
  const bytes = asBuffer(message);
  const end = wholeEnd(bytes);
  if (end === undefined) return undefined;
  const version = bytes.readUInt8(0);
  if (version > VERSION) throw newerVersion('The claim of a partition', version, VERSION);
  if (version < VERSION) return undefined;
  try {
    return claimSchema.safeParse(packr.unpack(bytes.subarray(1, end))).data;
  } catch {
    return undefined;
  }
}

/** Up to which sequence the journal may forget for this partition's sake; undefined when it may forget all. */
export function neededFrom({ segments }: Claim, journal: string): number | undefined {
  return segments.find((segment) => segment.journal === journal)?.from.sequence;
}
