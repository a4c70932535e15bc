/**
 * The snapshots of one partition: each a run of messages on its subject.
 *
 * u8 version, 8 bytes the snapshot's random id, u32 index, u32 CRC-32 of all else, chunk. Big-endian. Nothing fences these
 * messages, so parts of one that a former owner began may lie between: the id tells them apart. What counts is the
 * pointer, and that is in the partition's claim, which is fenced.
 */
import { randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { MillraceError } from '../core/errors.ts';
import { newerVersion } from '../core/newer.ts';
import type { SnapshotPointer } from '../core/state/claim.ts';
import type { SnapshotPort } from '../core/state/log-port.ts';
import { asBuffer } from '../core/state/whole.ts';
import type { JetStreamApi } from './jetstream-api.ts';
import type { LogWriter } from './log-writer.ts';
import type { Retention } from './retention.ts';
import type { StreamReader } from './stream-reader.ts';

const VERSION = 1;
const ID_BYTES = 8;
const INDEX_AT = 1 + ID_BYTES;
const CRC_AT = INDEX_AT + 4;
const HEAD_BYTES = CRC_AT + 4;
/** Messages of one snapshot that are under way at once. */
const WINDOW = 8;

export class SnapshotStore implements SnapshotPort {
  readonly #stream: string;
  readonly #subject: string;
  readonly #api: JetStreamApi;
  readonly #reader: StreamReader;
  readonly #writer: LogWriter;
  readonly #retention: Retention | undefined;

  constructor(
    stream: string,
    subject: string,
    api: JetStreamApi,
    reader: StreamReader,
    writer: LogWriter,
    retention?: Retention,
  ) {
    this.#retention = retention;
    this.#stream = stream;
    this.#subject = subject;
    this.#api = api;
    this.#reader = reader;
    this.#writer = writer;
  }

  /**
   * Each chunk must fit into a message (`maxMessageBytes` of the bus). Throws AppendError or PAYLOAD_TOO_LARGE as soon as
   * one chunk is not surely stored, or what the chunks throw; what was stored goes with the next `removeBefore`.
   */
  async write(chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<SnapshotPointer> {
    const id = randomBytes(ID_BYTES);
    const sequences: number[] = [];
    const underWay = new Set<Promise<void>>();
    let failure: Error | undefined;
    let count = 0;
    for await (const chunk of chunks) {
      const message = encodeChunk(id, count, chunk);
      count += 1;
      const task = this.#writer.store(this.#stream, this.#subject, message).then(
        (sequence) => void sequences.push(sequence),
        (error: Error) => {
          failure ??= error;
        },
      );
      underWay.add(task);
      void task.then(() => underWay.delete(task));
      if (underWay.size >= WINDOW) await Promise.race(underWay);
      if (failure !== undefined) throw failure;
    }
    await Promise.all(underWay);
    if (failure !== undefined) throw failure;
    if (count === 0) throw new MillraceError('INVALID_INPUT', 'A snapshot has at least one chunk.');
    sequences.sort((left, right) => left - right);
    return {
      firstSequence: sequences[0] ?? 0,
      lastSequence: sequences.at(-1) ?? 0,
      chunks: count,
    };
  }

  /** Throws NEWER_VERSION, and UNAVAILABLE where the snapshot is not whole: nothing of what `onChunk` was given may be used then. */
  async read(
    { firstSequence, lastSequence, chunks }: SnapshotPointer,
    onChunk: (bytes: Uint8Array) => void,
  ): Promise<void> {
    let count = 0;
    let id: Buffer | undefined;
    await this.#reader.read(
      this.#stream,
      this.#subject,
      firstSequence,
      lastSequence,
      (_, bytes) => {
        const part = decodeChunk(bytes);
        // Nobody's of ours; were it a part, the next one's index would say so, or their number.
        if (part === undefined) return;
        id ??= part.id;
        if (!part.id.equals(id)) return;
        if (part.index !== count) throw corrupt(`part ${count} is missing`);
        count += 1;
        onChunk(part.chunk);
      },
    );
    if (count !== chunks) throw corrupt(`it has ${count} parts instead of ${chunks}`);
  }

  /** Removes the snapshots that begin before `sequence`; not while a backup is taken. Throws UNAVAILABLE or TIMEOUT. */
  async removeBefore(sequence: number): Promise<void> {
    const remove = (before: number): Promise<void> =>
      this.#api.purge(this.#stream, this.#subject, before);
    await (this.#retention?.whenFree(this.#subject, sequence, remove) ?? remove(sequence));
  }
}

function encodeChunk(id: Buffer, index: number, chunk: Uint8Array): Buffer {
  const message = Buffer.allocUnsafe(HEAD_BYTES + chunk.length);
  message.writeUInt8(VERSION, 0);
  message.set(id, 1);
  message.writeUInt32BE(index, INDEX_AT);
  message.set(chunk, HEAD_BYTES);
  message.writeUInt32BE(checksum(message), CRC_AT);
  return message;
}

function decodeChunk(
  bytes: Uint8Array,
): { id: Buffer; index: number; chunk: Uint8Array } | undefined {
  const message = asBuffer(bytes);
  if (message.length < HEAD_BYTES) return undefined;
  if (message.readUInt32BE(CRC_AT) !== checksum(message)) return undefined;
  const version = message.readUInt8(0);
  if (version > VERSION) throw newerVersion('A snapshot', version, VERSION);
  if (version < VERSION) return undefined;
  return {
    id: message.subarray(1, INDEX_AT),
    index: message.readUInt32BE(INDEX_AT),
    chunk: message.subarray(HEAD_BYTES),
  };
}

function checksum(message: Buffer): number {
  return crc32(message.subarray(HEAD_BYTES), crc32(message.subarray(0, CRC_AT)));
}

function corrupt(why: string): MillraceError {
  return new MillraceError('UNAVAILABLE', `The snapshot is not whole: ${why}.`);
}
