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

export const FORMAT = 1;
/** The largest is a deployed function with its source maps. */
const MAX_FRAME_BYTES = 64 * 1024 * 1024;
const LENGTH_BYTES = 4;

const whole = z.number().int().nonnegative();
const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array);

const frameSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('head'),
    format: whole,
    namespace: z.string(),
    /** ISO 8601: the moment that the state is of, by the clock of who has taken it. */
    at: z.string(),
    /** As in the table of owners, which never gets shorter. */
    partitions: whole.min(1),
    layout: z.object({ generation: whole, from: whole.min(1), to: whole.min(1) }),
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
  /** Ids of events whose transactions committed after that moment: they are not to be in the streams. */
  z.object({ kind: z.literal('emitted'), ids: z.array(z.string()) }),
  /** A partition, followed by the parts of its snapshot. */
  z.object({ kind: z.literal('partition'), id: whole, epoch: whole, keys: whole }),
  z.object({ kind: z.literal('part'), content: bytes }),
  z.object({ kind: z.literal('end'), frames: whole, sha256: z.string() }),
]);
export type Frame = z.infer<typeof frameSchema>;
export type Head = Extract<Frame, { kind: 'head' }>;

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
  let rest: Buffer = Buffer.alloc(0);
  try {
    for await (const piece of unpacked as AsyncIterable<Buffer>) {
      rest = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
      let at = 0;
      while (rest.length - at >= LENGTH_BYTES) {
        const length = rest.readUInt32BE(at);
        if (length > MAX_FRAME_BYTES) throw unreadable(file, 'it is damaged');
        const end = at + LENGTH_BYTES + length;
        if (rest.length < end) break;
        yield rest.subarray(at, end);
        at = end;
      }
      rest = rest.subarray(at);
    }
  } catch (error) {
    throw error instanceof MillraceError ? error : unreadable(file, whyUnpacked(error));
  }
  if (rest.length > 0) throw unreadable(file, 'it is cut short');
}

function decodeFrame(file: string, body: Uint8Array): Frame {
  let fields: unknown;
  try {
    fields = packr.unpack(body);
  } catch {
    throw unreadable(file, 'it is damaged');
  }
  const { format } = fields as { format?: unknown };
  if (typeof format === 'number' && format > FORMAT) {
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
