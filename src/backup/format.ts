/**
 * A backup file: gzip over frames, each a u32 length (big-endian) and a MessagePack map, one schema for each kind. The first one
 * is `head`, the last one `end`, which counts and hashes all before it: what is cut short, damaged or put together from two
 * files is noticed before anything of it is used.
 */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { Packr } from 'msgpackr';
import { z } from 'zod';
import { MillraceError, messageOf } from '../core/errors.ts';
import { MAX_PARTITIONS } from '../core/key-ring.ts';
import { scanMsgpack } from '../core/msgpack-scan.ts';

export const FORMAT = 1;
/** The largest is a deployed function with its source maps. */
const MAX_FRAME_BYTES = 64 * 1024 * 1024;
const LENGTH_BYTES = 4;
/** A frame with more was made to fill the memory: its objects take many times its bytes. The most have ids of emitted events. */
const LIMITS = { maxDepth: 16, maxValues: 4_000_000 };

const whole = z.number().int().nonnegative();
const partitions = whole.min(1).max(MAX_PARTITIONS);
const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array);

const frameSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('head'),
    format: whole,
    namespace: z.string(),
    /** ISO 8601: the moment that the state is of, by the clock of who has taken it. */
    at: z.string(),
    /** As in the table of owners, which never gets shorter. */
    partitions,
    layout: z.object({ generation: whole, from: partitions, to: partitions }),
  }),
  /** A key of a KV bucket. */
  z.object({ kind: z.literal('entry'), bucket: z.string(), key: z.string(), value: bytes }),
  /** Of an object store. */
  z.object({ kind: z.literal('object'), bucket: z.string(), name: z.string(), content: bytes }),
  /** A stream, followed by its chunks. `end`: its last sequence when the state was what it is here. */
  z.object({
    kind: z.literal('stream'),
    config: z.looseObject({
      name: z.string(),
      subjects: z.array(z.string()).optional(),
      deny_delete: z.boolean().optional(),
      sealed: z.boolean().optional(),
      placement: z.unknown().optional(),
      duplicate_window: z.number().optional(),
      metadata: z.record(z.string(), z.string()).optional(),
    }),
    state: z.looseObject({
      messages: whole,
      bytes: whole,
      first_seq: whole,
      last_seq: whole,
    }),
    end: whole,
  }),
  z.object({ kind: z.literal('chunk'), content: bytes }),
  /**
   * A message that came into the stream before while it was copied, in the place of another one that went: the copy may have neither
   * (docs/backup.md, K4).
   */
  z.object({
    kind: z.literal('moved'),
    sequence: whole,
    subject: z.string(),
    headers: z.array(z.tuple([z.string(), z.string()])),
    content: bytes,
  }),
  /** Subjects and ids of events whose transactions committed after that moment: they are not to be in the streams. */
  z.object({ kind: z.literal('emitted'), ids: z.array(z.string()) }),
  /** A partition, followed by the parts of its snapshot. */
  z.object({
    kind: z.literal('partition'),
    id: whole.max(MAX_PARTITIONS - 1),
    epoch: whole,
    keys: whole,
  }),
  z.object({ kind: z.literal('part'), content: bytes }),
  z.object({ kind: z.literal('end'), frames: whole, sha256: z.string() }),
]);
export type Frame = z.infer<typeof frameSchema>;
export type Head = Extract<Frame, { kind: 'head' }>;
export type StreamFrame = Extract<Frame, { kind: 'stream' }>;

/** What a backup has. */
export interface BackupContent {
  /** ISO 8601: the moment that it is of. */
  at: string;
  namespace: string;
  partitions: number;
  keys: number;
  /** Messages, by stream. */
  events: Readonly<Record<string, number>>;
  deployedFiles: number;
}

/** Of any version. */
const headSchema = z.looseObject({ kind: z.literal('head'), format: whole });

const packr = new Packr({ useRecords: false, moreTypes: false, variableMapSize: true });

/** Frames as the bytes of a file, before they are compressed. */
export class FrameEncoder {
  readonly #hash = createHash('sha256');
  #frames = 0;

  encode(frame: Exclude<Frame, { kind: 'end' }>): Buffer {
    return this.#encode(frame);
  }

  end(): Buffer {
    return this.#encode({ kind: 'end', frames: this.#frames, sha256: digestOf(this.#hash) });
  }

  #encode(frame: Frame): Buffer {
    const body = packr.pack(frame);
    if (body.length > MAX_FRAME_BYTES) throw new Error(`a frame has ${body.length} bytes`);
    const framed = Buffer.allocUnsafe(LENGTH_BYTES + body.length);
    framed.writeUInt32BE(body.length);
    framed.set(body, LENGTH_BYTES);
    this.#hash.update(framed);
    this.#frames += 1;
    return framed;
  }
}

/** All frames of a file but the last one, in order. Throws BACKUP_UNREADABLE as soon as something is not as it should be. */
export async function* readFrames(file: string): AsyncGenerator<Exclude<Frame, { kind: 'end' }>> {
  const hash = createHash('sha256');
  let frames = 0;
  let ended = false;
  for await (const framed of framesOf(file)) {
    const frame = decodeFrame(file, framed.subarray(LENGTH_BYTES));
    if (ended) throw unreadable(file, 'something follows its end');
    if ((frame.kind === 'head') !== (frames === 0)) throw unreadable(file, 'it is no backup');
    if (frame.kind === 'end') {
      ended = true;
      if (frame.frames !== frames || frame.sha256 !== digestOf(hash)) {
        throw unreadable(file, 'it is damaged');
      }
      continue;
    }
    hash.update(framed);
    frames += 1;
    yield frame;
  }
  if (!ended) throw unreadable(file, 'it is cut short');
}

async function* framesOf(file: string): AsyncGenerator<Buffer> {
  const unpacked = createGunzip();
  // Its errors are the reader's, who reads to the end or gives up.
  pipeline(createReadStream(file), unpacked, () => {});
  let pieces: Buffer[] = [];
  let bytes = 0;
  /** What has to be there before it is worth looking. */
  let wanted = LENGTH_BYTES;
  try {
    for await (const piece of unpacked as AsyncIterable<Buffer>) {
      pieces.push(piece);
      bytes += piece.length;
      if (bytes < wanted) continue;
      const all = Buffer.concat(pieces, bytes);
      let at = 0;
      wanted = LENGTH_BYTES;
      while (bytes - at >= wanted) {
        const length = all.readUInt32BE(at);
        if (length > MAX_FRAME_BYTES) throw unreadable(file, 'it is no backup, or damaged');
        wanted = LENGTH_BYTES + length;
        if (bytes - at < wanted) break;
        yield all.subarray(at, at + wanted);
        at += wanted;
        wanted = LENGTH_BYTES;
      }
      pieces = [all.subarray(at)];
      bytes -= at;
    }
  } catch (error) {
    throw error instanceof MillraceError ? error : unreadable(file, whyUnpacked(error));
  }
  if (bytes > 0) throw unreadable(file, 'it is cut short');
}

function decodeFrame(file: string, body: Uint8Array): Frame {
  if (scanMsgpack(body, LIMITS) !== undefined) throw unreadable(file, 'it is damaged');
  let fields: unknown;
  try {
    fields = packr.unpack(body);
  } catch {
    throw unreadable(file, 'it is damaged');
  }
  const format = headSchema.safeParse(fields).data?.format ?? FORMAT;
  if (format > FORMAT) {
    throw unreadable(file, 'a newer version of millrace has written it');
  }
  const { data } = frameSchema.safeParse(fields);
  if (data === undefined) throw unreadable(file, 'it is no backup, or damaged');
  return data;
}

function digestOf(hash: Hash): string {
  return hash.copy().digest('hex');
}

/** zlib's and the file system's words. */
function whyUnpacked(error: unknown): string {
  const { code = '' } = error as { code?: string };
  if (code === 'ENOENT') return 'there is no such file';
  if (code === 'Z_BUF_ERROR') return 'it is cut short';
  if (code === 'Z_DATA_ERROR') return 'it is no backup, or damaged';
  return messageOf(error);
}

export function unreadable(file: string, why: string): MillraceError {
  return new MillraceError('BACKUP_UNREADABLE', `The backup ${file} cannot be used: ${why}.`);
}
