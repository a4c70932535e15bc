/**
 * Walks MessagePack bytes without building anything, so that a hostile payload is refused before it costs memory:
 * one megabyte of empty maps would otherwise become 64 MB of objects.
 *
 * Refuses: truncated or trailing bytes, more than `maxDepth` levels, more than `maxValues` values, the key
 * `__proto__`, map keys that are containers, and extension types except the timestamp (-1).
 */
export interface ScanLimits {
  /** Levels of arrays and maps inside each other. */
  maxDepth: number;
  /** Values of any kind, keys included. */
  maxValues: number;
}

const TIMESTAMP_EXTENSION = 0xff;
const PROTO_KEY = Buffer.from('__proto__');

/** The reason why the bytes are refused, or undefined when they are good. */
export function scanMsgpack(bytes: Uint8Array, limits: ScanLimits): string | undefined {
  const length = bytes.length;
  const view = new DataView(bytes.buffer, bytes.byteOffset, length);
  /** Values still expected at each open level; maps expect two for each entry. */
  const remaining: number[] = [1];
  const isMap: boolean[] = [false];
  let offset = 0;
  let values = 0;

  while (remaining.length > 0) {
    const level = remaining.length - 1;
    const left = remaining[level] ?? 0;
    if (left === 0) {
      remaining.pop();
      isMap.pop();
      continue;
    }
    remaining[level] = left - 1;
    values += 1;
    if (values > limits.maxValues) return `more than ${limits.maxValues} values`;
    if (offset >= length) return 'it ends too early';

    const isKey = isMap[level] === true && left % 2 === 0;
    const tag = bytes[offset] ?? 0;
    const header = headerOf(tag);
    if (header === undefined) return `byte 0x${tag.toString(16)} is not MessagePack`;
    if (offset + header.size > length) return 'it ends too early';

    const count = header.lengthBytes === 0 ? header.inline : readLength(view, offset + 1, header);
    if (isKey && header.kind !== 'text' && header.kind !== 'scalar') {
      return 'a map has a key that is not text or a number';
    }
    if (header.kind === 'array' || header.kind === 'map') {
      if (level >= limits.maxDepth) return `nested deeper than ${limits.maxDepth} levels`;
      remaining.push(header.kind === 'map' ? count * 2 : count);
      isMap.push(header.kind === 'map');
      offset += header.size;
      continue;
    }
    if (header.kind === 'ext' && bytes[offset + header.size - 1] !== TIMESTAMP_EXTENSION) {
      return 'extension types are not accepted';
    }
    const end = offset + header.size + count;
    if (end > length) return 'it ends too early';
    if (isKey && header.kind === 'text' && isProtoKey(bytes, end - count, end)) {
      return 'the key __proto__ is not accepted';
    }
    offset = end;
  }
  return offset === length ? undefined : 'bytes follow after its end';
}

interface Header {
  kind: 'scalar' | 'text' | 'bytes' | 'ext' | 'array' | 'map';
  /** Bytes before the body: tag, length field, extension type. */
  size: number;
  lengthBytes: 0 | 1 | 2 | 4;
  /** The body's length in bytes, or the number of elements, where the tag itself tells. */
  inline: number;
}

const fixed = (kind: Header['kind'], inline: number, size = 1): Header => ({
  kind,
  size,
  lengthBytes: 0,
  inline,
});
const measured = (kind: Header['kind'], lengthBytes: 1 | 2 | 4): Header => ({
  kind,
  size: 1 + lengthBytes + (kind === 'ext' ? 1 : 0),
  lengthBytes,
  inline: 0,
});

/** All 256 tags, laid out once: see the MessagePack specification, "Formats". */
const HEADERS: readonly (Header | undefined)[] = Array.from({ length: 256 }, (_, tag) => {
  if (tag <= 0x7f || tag >= 0xe0) return fixed('scalar', 0);
  if (tag <= 0x8f) return fixed('map', tag & 0x0f);
  if (tag <= 0x9f) return fixed('array', tag & 0x0f);
  if (tag <= 0xbf) return fixed('text', tag & 0x1f);
  return LONG_HEADERS()[tag];
});

function LONG_HEADERS(): Record<number, Header> {
  return {
    0xc0: fixed('scalar', 0),
    0xc2: fixed('scalar', 0),
    0xc3: fixed('scalar', 0),
    0xc4: measured('bytes', 1),
    0xc5: measured('bytes', 2),
    0xc6: measured('bytes', 4),
    0xc7: measured('ext', 1),
    0xc8: measured('ext', 2),
    0xc9: measured('ext', 4),
    0xca: fixed('scalar', 4),
    0xcb: fixed('scalar', 8),
    0xcc: fixed('scalar', 1),
    0xcd: fixed('scalar', 2),
    0xce: fixed('scalar', 4),
    0xcf: fixed('scalar', 8),
    0xd0: fixed('scalar', 1),
    0xd1: fixed('scalar', 2),
    0xd2: fixed('scalar', 4),
    0xd3: fixed('scalar', 8),
    0xd4: fixed('ext', 1, 2),
    0xd5: fixed('ext', 2, 2),
    0xd6: fixed('ext', 4, 2),
    0xd7: fixed('ext', 8, 2),
    0xd8: fixed('ext', 16, 2),
    0xd9: measured('text', 1),
    0xda: measured('text', 2),
    0xdb: measured('text', 4),
    0xdc: measured('array', 2),
    0xdd: measured('array', 4),
    0xde: measured('map', 2),
    0xdf: measured('map', 4),
  };
}

function headerOf(tag: number): Header | undefined {
  return HEADERS[tag];
}

function readLength(view: DataView, at: number, header: Header): number {
  if (header.lengthBytes === 1) return view.getUint8(at);
  return header.lengthBytes === 2 ? view.getUint16(at) : view.getUint32(at);
}

function isProtoKey(bytes: Uint8Array, start: number, end: number): boolean {
  return end - start === PROTO_KEY.length && PROTO_KEY.equals(bytes.subarray(start, end));
}
