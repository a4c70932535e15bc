/**
 * A snapshot of a partition as a list of chunks: first what is under way, then the items. It is fuzzy: the partition
 * goes on while it is written, and replaying the log from where it began sets right what has changed since (SPEC.md).
 */
import { Packr } from 'msgpackr';
import { newerVersion } from '../newer.ts';
import type { Partition } from './partition.ts';
import type { LogRecord } from './messages.ts';
import { decodeRecords, encodeRecords, recordBytes, writeBytes } from './records.ts';

const packr = new Packr({ useRecords: false, moreTypes: false, variableMapSize: true });
const HEAD = 0;
const ITEMS = 1;

type Chunk =
  | [kind: typeof HEAD, version: number, records: Uint8Array]
  | [kind: typeof ITEMS, ...items: (string | number)[]];

/** The first chunk is taken at the first call of `next`, the others when they are asked for. */
export async function* writeSnapshot(
  partition: Partition,
  chunkBytes: number,
): AsyncGenerator<Uint8Array> {
  const { items } = partition;
  const heads = batches(partition.openRecords(), chunkBytes).map((each) => encodeRecords(each));
  const { version: highest } = items;
  for (const records of heads) yield packr.pack([HEAD, highest, records]);
  let chunk: (string | number)[] = [ITEMS];
  let bytes = 0;
  for (const [key, { value, version }] of items) {
    chunk.push(key, value, version);
    bytes += writeBytes(key, value);
    if (bytes < chunkBytes) continue;
    yield packr.pack(chunk);
    chunk = [ITEMS];
    bytes = 0;
  }
  if (chunk.length > 1) yield packr.pack(chunk);
}

/** In order, none larger than `maxBytes` unless a single record is; one at least, if empty. */
function batches(records: readonly LogRecord[], maxBytes: number): LogRecord[][] {
  const all: LogRecord[][] = [[]];
  let bytes = 0;
  for (const record of records) {
    const size = recordBytes(record);
    if (bytes > 0 && bytes + size > maxBytes) {
      all.push([]);
      bytes = 0;
    }
    all.at(-1)?.push(record);
    bytes += size;
  }
  return all;
}

export function readSnapshot(partition: Partition, bytes: Uint8Array): void {
  const chunk = packr.unpack(bytes) as Chunk;
  if (chunk[0] === HEAD) {
    partition.items.raiseVersion(chunk[1]);
    for (const record of decodeRecords(chunk[2])) partition.replay(record);
    return;
  }
  if (chunk[0] !== ITEMS) throw newerVersion('A part of a snapshot', Number(chunk[0]), ITEMS);
  for (let at = 1; at < chunk.length; at += 3) {
    partition.items.apply([chunk[at] as string, chunk[at + 1] as string, chunk[at + 2] as number]);
  }
}
