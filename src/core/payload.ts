/**
 * Payloads at the edge: JSON, MessagePack, bytes. No `Content-Type` header or `application/json` is
 * JSON, `application/msgpack` is MessagePack, anything else is bytes (a Uint8Array). An empty payload is `undefined` in
 * JSON and MessagePack, and no bytes in bytes.
 *
 * Decoding never trusts its input: size, depth, number of values and `__proto__` are checked before objects are
 * built: 1 MB of MessagePack can be 64 MB of objects. Every refusal is a MillraceError with INVALID_INPUT or PAYLOAD_TOO_LARGE.
 */
import { isUtf8 } from 'node:buffer';
import { Packr } from 'msgpackr';
import { parse as parseSecureJson } from 'secure-json-parse';
import { MillraceError, messageOf } from './errors.ts';
import { scanJson } from './json-scan.ts';
import { scanMsgpack } from './msgpack-scan.ts';

export const ContentType = { json: 0, msgpack: 1, bytes: 2, empty: 3 } as const;
export type ContentType = (typeof ContentType)[keyof typeof ContentType];

export const CONTENT_TYPE_HEADER = 'Content-Type';
const JSON_TYPE = 'application/json';
const MSGPACK_TYPE = 'application/msgpack';
const BYTES_TYPE = 'application/octet-stream';

export interface PayloadLimits {
  maxPayloadBytes: number;
  maxPayloadDepth: number;
  maxPayloadValues: number;
}

/** Text stays a string until it is written into a frame: one copy less on the hot path. */
export type EncodedBody = string | Uint8Array;

export interface Encoded {
  type: ContentType;
  body: EncodedBody;
}

const REPLACEMENT_CHARACTER = '\ufffd';
/** Some programs write it before JSON; RFC 8259 lets a reader skip it. */
const BYTE_ORDER_MARK = '\ufeff';
const EMPTY: Encoded = { type: ContentType.empty, body: '' };

const packr = new Packr({
  useRecords: false,
  mapsAsObjects: true,
  moreTypes: false,
  encodeUndefinedAsNil: true,
  copyBuffers: true,
  variableMapSize: true,
  // Encoders that write every integer in 64 bits mean numbers; a BigInt is for what a number cannot hold.
  // The package's types do not list this value; its decoder has it.
  int64AsType: 'auto' as 'number',
});

/** The type named by a `Content-Type` header; parameters such as `charset=utf-8` are ignored, case too. */
export function contentTypeOf(header: string | undefined): ContentType {
  if (header === undefined || header === '') return ContentType.json;
  const [type = ''] = header.split(';', 1);
  switch (type.trim().toLowerCase()) {
    case JSON_TYPE:
      return ContentType.json;
    case MSGPACK_TYPE:
      return ContentType.msgpack;
    default:
      return ContentType.bytes;
  }
}

/** The header's value that names a type. */
export function contentTypeHeader(type: ContentType): string {
  if (type === ContentType.msgpack) return MSGPACK_TYPE;
  return type === ContentType.bytes ? BYTES_TYPE : JSON_TYPE;
}

/**
 * Bytes stay bytes, `undefined` becomes the empty payload, the rest is written in the wanted type (JSON where bytes
 * were wanted). Throws INVALID_INPUT for what the type can't hold, PAYLOAD_TOO_LARGE over the limit.
 */
export function encodePayload(value: unknown, wanted: ContentType, limits: PayloadLimits): Encoded {
  if (value === undefined) return EMPTY;
  const encoded = encode(value, wanted);
  checkSize(byteLength(encoded.body, limits.maxPayloadBytes), limits);
  return encoded;
}

/** One value in MessagePack, bytes among them. */
export function packed(value: unknown): Uint8Array {
  return packr.pack(value);
}

/** `body` is text only where a frame's reader has decoded JSON's already; see bus/frame.ts. */
export function decodePayload(
  type: ContentType,
  body: EncodedBody,
  limits: PayloadLimits,
): unknown {
  if (body.length === 0) return type === ContentType.bytes ? new Uint8Array() : undefined;
  checkSize(byteLength(body, limits.maxPayloadBytes), limits);
  if (typeof body === 'string') return decodeJson(body, limits);
  if (type === ContentType.json) return decodeJson(textOf(body), limits);
  return type === ContentType.msgpack ? decodeMsgpack(body, limits) : asPlainBytes(body);
}

function encode(value: unknown, wanted: ContentType): Encoded {
  if (value instanceof Uint8Array) return { type: ContentType.bytes, body: value };
  if (typeof value === 'function' || typeof value === 'symbol') {
    throw new MillraceError('INVALID_INPUT', `A ${typeof value} cannot be sent.`);
  }
  try {
    if (wanted === ContentType.msgpack) {
      return { type: ContentType.msgpack, body: packr.pack(value) };
    }
    // An object whose toJSON gives undefined has no JSON text: it is sent as null.
    const text = JSON.stringify(value) as string | undefined;
    return { type: ContentType.json, body: text ?? 'null' };
  } catch (cause) {
    const tooDeep = cause instanceof RangeError && cause.message.includes('call stack');
    const reason = tooDeep ? 'it refers to itself or nests too deep' : undefined;
    const format = wanted === ContentType.msgpack ? 'MessagePack' : 'JSON';
    throw new MillraceError(
      'INVALID_INPUT',
      `The value cannot be written as ${format}: ${reason ?? firstLine(cause)}.`,
      { cause },
    );
  }
}

function textOf(bytes: Uint8Array): string {
  const text = asBuffer(bytes).toString('utf8');
  // Decoding leaves this character where bytes were no UTF-8; it may also stand there rightly.
  if (text.includes(REPLACEMENT_CHARACTER) && !isUtf8(bytes)) {
    throw unreadable('JSON', 'it is not UTF-8');
  }
  return text;
}

/** A Buffer has other methods under the same names: bytes must not differ by the way on which they came. */
function asPlainBytes(bytes: Uint8Array): Uint8Array {
  return Buffer.isBuffer(bytes)
    ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    : bytes;
}

function decodeJson(given: string, limits: PayloadLimits): unknown {
  const text = given.startsWith(BYTE_ORDER_MARK) ? given.slice(1) : given;
  const refused = scanJson(text, scanLimits(limits));
  if (refused !== undefined) throw unreadable('JSON', refused);
  try {
    return mayNameAPrototype(text) ? parseSecureJson(text) : (JSON.parse(text) as unknown);
  } catch (cause) {
    throw unreadable('JSON', firstLine(cause), cause);
  }
}

/** Cheaper than the secure parser's own look: nearly all texts have none of these. */
function mayNameAPrototype(text: string): boolean {
  return text.includes('__proto__') || text.includes('constructor') || text.includes('\\u');
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function decodeMsgpack(bytes: Uint8Array, limits: PayloadLimits): unknown {
  const refused = scanMsgpack(bytes, scanLimits(limits));
  if (refused !== undefined) throw unreadable('MessagePack', refused);
  try {
    return packr.unpack(bytes);
  } catch (cause) {
    throw unreadable('MessagePack', firstLine(cause), cause);
  }
}

function scanLimits(limits: PayloadLimits): { maxDepth: number; maxValues: number } {
  return { maxDepth: limits.maxPayloadDepth, maxValues: limits.maxPayloadValues };
}

function unreadable(format: string, reason: string, cause?: unknown): MillraceError {
  return new MillraceError('INVALID_INPUT', `The payload is not acceptable ${format}: ${reason}.`, {
    cause,
  });
}

function firstLine(thrown: unknown): string {
  const [line = ''] = messageOf(thrown).split('\n', 1);
  return line.replace(/\.$/, '');
}

/** UTF-8 length of a body; text that is surely short enough is not measured exactly. */
function byteLength(body: EncodedBody, limit: number): number {
  if (typeof body !== 'string') return body.length;
  return body.length * 3 <= limit ? body.length : Buffer.byteLength(body);
}

function checkSize(size: number, limits: PayloadLimits): void {
  if (size <= limits.maxPayloadBytes) return;
  throw new MillraceError(
    'PAYLOAD_TOO_LARGE',
    `The payload has ${size} bytes, the limit is ${limits.maxPayloadBytes}.`,
    { details: { bytes: size, limitBytes: limits.maxPayloadBytes } },
  );
}
