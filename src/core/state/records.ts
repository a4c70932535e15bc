/**
 * Log records as MessagePack: arrays whose first member says what they are. They come from our own log, whose appends
 * carry checksums.
 */
import { Packr } from 'msgpackr';
import { newerVersion } from '../newer.ts';
import type { LogRecord, VersionedWrite } from './messages.ts';

type Fields = readonly unknown[];
const packr = new Packr({ useRecords: false, moreTypes: false, variableMapSize: true });

export function encodeRecords(records: readonly LogRecord[]): Uint8Array {
  return packr.pack(records.map((record) => recordFields(record)));
}

/** Throws where the bytes are no records, NEWER_VERSION where one is of a kind that came later: a log that cannot be read must not be served. */
export function decodeRecords(bytes: Uint8Array): LogRecord[] {
  const list = packr.unpack(bytes) as unknown;
  if (!Array.isArray(list)) throw new Error('not a list of records');
  return list.map((fields) => recordOf(fields as Fields));
}

/** A log lives longer than a program's version: kinds are numbers here, and none may ever change its meaning. */
const RECORD_KINDS = {
  prepare: 1,
  decide: 2,
  commit: 3,
  abort: 4,
  end: 5,
  expire: 6,
  layout: 7,
  leaving: 8,
  moved: 9,
  arriving: 10,
  published: 11,
} as const;
const NEWEST_KIND = Math.max(...Object.values(RECORD_KINDS));

function recordFields(record: LogRecord): Fields {
  const { kind, tx } = record;
  const code = RECORD_KINDS[kind];
  if (kind === 'prepare') {
    const { home, coordinator, dependsOn, writes } = record;
    return [code, tx, home, coordinator, dependsOn, writes];
  }
  if (kind === 'decide') {
    const { coordinator, writers, writes, emits } = record;
    return [code, tx, coordinator, writers, writes, emits];
  }
  if (kind === 'expire') return [code, tx, record.items];
  if (kind === 'layout') {
    const { generation, from, to, left, moved, arrived } = record;
    return [code, tx, generation, from, to, left, moved, arrived];
  }
  if (kind === 'leaving' || kind === 'moved') return [code, tx, record.to];
  if (kind === 'arriving') {
    const { from, items, last, version } = record;
    return [code, tx, from, items, last, version];
  }
  return [code, tx];
}

function recordOf(fields: Fields): LogRecord {
  const [code, tx, ...rest] = fields as [number, string, ...unknown[]];
  switch (code) {
    case RECORD_KINDS.prepare: {
      const [home, coordinator, dependsOn, writes] = rest as [
        number,
        string,
        string[],
        VersionedWrite[],
      ];
      return { kind: 'prepare', tx, home, coordinator, dependsOn, writes };
    }
    case RECORD_KINDS.decide: {
      const [coordinator, writers, writes, emits] = rest as [
        string,
        number[],
        VersionedWrite[],
        Uint8Array[],
      ];
      return { kind: 'decide', tx, coordinator, writers, writes, emits };
    }
    case RECORD_KINDS.commit:
      return { kind: 'commit', tx };
    case RECORD_KINDS.abort:
      return { kind: 'abort', tx };
    case RECORD_KINDS.end:
      return { kind: 'end', tx };
    case RECORD_KINDS.published:
      return { kind: 'published', tx };
    case RECORD_KINDS.expire:
      return { kind: 'expire', tx: '', items: rest[0] as [string, number][] };
    case RECORD_KINDS.layout: {
      const [generation, from, to, left, moved, arrived] = rest as [
        number,
        number,
        number,
        number[],
        number[],
        number[],
      ];
      return { kind: 'layout', tx: '', generation, from, to, left, moved, arrived };
    }
    case RECORD_KINDS.leaving:
      return { kind: 'leaving', tx: '', to: rest[0] as number };
    case RECORD_KINDS.moved:
      return { kind: 'moved', tx: '', to: rest[0] as number };
    case RECORD_KINDS.arriving: {
      const [from, items, last, version] = rest as [number, VersionedWrite[], boolean, number];
      return { kind: 'arriving', tx: '', from, items, last, version };
    }
    default:
      if (Number.isSafeInteger(code) && code > NEWEST_KIND) {
        throw newerVersion('A record of the log', code, NEWEST_KIND);
      }
      throw new Error(`record kind ${String(code)} is none: the log is corrupt`);
  }
}

/** What the markers, the number and the list around a key and its value take at most. */
const WRITE_OVERHEAD_BYTES = 20;

/** At most so many, as it is sent and stored. */
export function writeBytes(key: string, value: string | null): number {
  return Buffer.byteLength(key) + Buffer.byteLength(value ?? '') + WRITE_OVERHEAD_BYTES;
}

/** What a record takes beside its writes and emits, lists of partitions included. */
const RECORD_OVERHEAD_BYTES = 256;

/** About as many as the record takes in the log; of what can be large no less. */
export function recordBytes(record: LogRecord): number {
  let bytes = RECORD_OVERHEAD_BYTES;
  if (record.kind === 'prepare' || record.kind === 'decide') {
    for (const [key, value] of record.writes) bytes += writeBytes(key, value);
  }
  if (record.kind === 'arriving') {
    for (const [key, value] of record.items) bytes += writeBytes(key, value);
  }
  if (record.kind === 'decide') for (const emit of record.emits) bytes += emit.length;
  return bytes;
}
