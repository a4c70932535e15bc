/**
 * Frames: many calls, or many replies, in one NATS message between our own processes. One message costs the broker
 * and both clients several microseconds, whatever it holds; a call inside a frame costs a fraction of that.
 *
 * All numbers are big-endian. A reader checks every length against the frame's end and gives undefined for a frame
 * that is cut short, has bytes left over, or is of a version or kind that it does not know.
 *
 * Calls frame:   u8 version, u8 kind=1, u32 firstId, u16 count, u8 names, names × (u8 length, text),
 *                count × (u8 name, u8 type and flags, u8 attempt, u32 timeoutMs, u8 idLength, id, u16 headersLength,
 *                headers as JSON, u32 bodyLength, body). The calls' ids are firstId, firstId + 1, …
 * Replies frame: u8 version, u8 kind=2, u16 count, count × (u32 id, u8 status, u8 type, u32 bodyLength, body).
 */
import { ContentType, type Encoded, type EncodedBody } from '../core/payload.ts';

const FRAME_VERSION = 1;
const CALLS = 1;
const REPLIES = 2;
const CALL_OVERHEAD_BYTES = 14;
const REPLY_OVERHEAD_BYTES = 10;
/** Beside a call's type: it is sent once, so that its answer need not be kept. */
const NOT_REPEATED = 0x80;
/** Likewise: its headers are `UNTRACED_TEXT`, and left out. With traces on that is what nearly every call would carry. */
const UNTRACED_FLAG = 0x40;
/** Likewise: its caller takes an answer in parts. */
const PARTS_FLAG = 0x20;
const FLAGS = NOT_REPEATED | UNTRACED_FLAG | PARTS_FLAG;

/** A call's header: its trace began at its caller and is not kept. */
export const UNTRACED_HEADER = 'Millrace-Untraced';
export const UNTRACED: Readonly<Record<string, string>> = Object.freeze({ [UNTRACED_HEADER]: '1' });
export const UNTRACED_TEXT = JSON.stringify(UNTRACED);

/** Room that one call or reply may need beside its payload: names, id (255) and headers. */
export const FRAME_OVERHEAD_BYTES = 8 * 1024;
export const MAX_ID_BYTES = 255;
export const MAX_HEADERS_BYTES = 4 * 1024;

/** `parts`: the body is the subject where the answer's parts are asked for, docs/streaming.md. */
export const ReplyStatus = { ok: 0, error: 1, parts: 2 } as const;
export type ReplyStatus = (typeof ReplyStatus)[keyof typeof ReplyStatus];

export interface OutgoingCall {
  functionName: string;
  encoded: Encoded;
  attempt: number;
  /** It comes again when its worker dies. */
  retry: boolean;
  /** Its caller takes an answer in parts. */
  parts?: boolean;
  /** From now on. With 0 the receiver starts nothing: an answer comes only from the same call that it runs already. */
  timeoutMs: number;
  /** '' where the receiver derives it from the caller and the call's number. */
  eventId: string;
  /** JSON of the headers, '' for none. */
  headers: string;
}

export interface IncomingCall {
  callId: number;
  functionName: string;
  type: ContentType;
  attempt: number;
  retry: boolean;
  parts: boolean;
  timeoutMs: number;
  eventId: string;
  headers: string;
  body: EncodedBody;
}

export interface OutgoingReply {
  callId: number;
  status: ReplyStatus;
  encoded: Encoded;
}

export interface IncomingReply {
  callId: number;
  status: number;
  type: ContentType;
  body: EncodedBody;
}

/** An upper bound of what the call adds to a frame. */
export function callSizeBytes(call: OutgoingCall): number {
  return (
    CALL_OVERHEAD_BYTES +
    call.functionName.length +
    maxUtf8Bytes(call.eventId) +
    (call.headers === UNTRACED_TEXT ? 0 : maxUtf8Bytes(call.headers)) +
    maxUtf8Bytes(call.encoded.body)
  );
}

export function replySizeBytes(reply: OutgoingReply): number {
  return REPLY_OVERHEAD_BYTES + maxUtf8Bytes(reply.encoded.body);
}

/** Cuts a list into frames of at most `maxItems` and `maxBytes`; an item that is larger by itself travels alone. */
export function packFrames<Item>(
  items: readonly Item[],
  sizeOf: (item: Item) => number,
  maxItems: number,
  maxBytes: number,
): { items: Item[]; sizeBytes: number }[] {
  const frames: { items: Item[]; sizeBytes: number }[] = [];
  let frame = { items: [] as Item[], sizeBytes: 0 };
  for (const item of items) {
    const itemBytes = sizeOf(item);
    const full = frame.items.length >= maxItems || frame.sizeBytes + itemBytes > maxBytes;
    if (frame.items.length > 0 && full) {
      frames.push(frame);
      frame = { items: [], sizeBytes: 0 };
    }
    frame.items.push(item);
    frame.sizeBytes += itemBytes;
  }
  if (frame.items.length > 0) frames.push(frame);
  return frames;
}

function maxUtf8Bytes(body: EncodedBody): number {
  return typeof body === 'string' ? body.length * 3 : body.length;
}

/** `sizeBytes` is the sum of `callSizeBytes` over the calls. */
export function encodeCalls(
  firstId: number,
  calls: readonly OutgoingCall[],
  sizeBytes: number,
): Uint8Array {
  const names: string[] = [];
  for (const call of calls) if (!names.includes(call.functionName)) names.push(call.functionName);
  const frame = Buffer.allocUnsafe(9 + names.length + sizeBytes);
  frame[0] = FRAME_VERSION;
  frame[1] = CALLS;
  frame.writeUInt32BE(firstId, 2);
  frame.writeUInt16BE(calls.length, 6);
  frame[8] = names.length;
  let at = 9;
  for (const name of names) {
    frame[at] = name.length;
    at += 1 + frame.write(name, at + 1, 'latin1');
  }
  for (const call of calls) {
    frame[at] = names.indexOf(call.functionName);
    const untraced = call.headers === UNTRACED_TEXT;
    frame[at + 1] =
      call.encoded.type |
      (call.retry ? 0 : NOT_REPEATED) |
      (untraced ? UNTRACED_FLAG : 0) |
      (call.parts === true ? PARTS_FLAG : 0);
    frame[at + 2] = call.attempt;
    frame.writeUInt32BE(call.timeoutMs, at + 3);
    const idBytes = call.eventId === '' ? 0 : frame.write(call.eventId, at + 8, 'utf8');
    frame[at + 7] = idBytes;
    at += 8 + idBytes;
    const headerBytes =
      untraced || call.headers === '' ? 0 : frame.write(call.headers, at + 2, 'utf8');
    frame.writeUInt16BE(headerBytes, at);
    at = writeBody(frame, at + 2 + headerBytes, call.encoded.body);
  }
  return frame.subarray(0, at);
}

export function encodeReplies(replies: readonly OutgoingReply[], sizeBytes: number): Uint8Array {
  const frame = Buffer.allocUnsafe(4 + sizeBytes);
  frame[0] = FRAME_VERSION;
  frame[1] = REPLIES;
  frame.writeUInt16BE(replies.length, 2);
  let at = 4;
  for (const reply of replies) {
    frame.writeUInt32BE(reply.callId, at);
    frame[at + 4] = reply.status;
    frame[at + 5] = reply.encoded.type;
    at = writeBody(frame, at + 6, reply.encoded.body);
  }
  return frame.subarray(0, at);
}

function writeBody(frame: Buffer, at: number, body: EncodedBody): number {
  let written: number;
  if (typeof body === 'string') {
    written = frame.write(body, at + 4, 'utf8');
  } else {
    frame.set(body, at + 4);
    written = body.length;
  }
  frame.writeUInt32BE(written, at);
  return at + 4 + written;
}

export function decodeCalls(data: Uint8Array): IncomingCall[] | undefined {
  const reader = new FrameReader(data);
  if (reader.u8() !== FRAME_VERSION || reader.u8() !== CALLS) return undefined;
  const firstId = reader.u32();
  const count = reader.u16();
  const names = Array.from({ length: reader.u8() }, () => reader.latin1(reader.u8()));
  const calls: IncomingCall[] = [];
  for (let index = 0; index < count && !reader.overrun; index += 1) {
    const functionName = names[reader.u8()];
    const typeAndFlags = reader.u8();
    const type = contentTypeFrom(typeAndFlags & ~FLAGS);
    const attempt = reader.u8();
    const timeoutMs = reader.u32();
    const eventId = reader.utf8(reader.u8());
    const written = reader.utf8(reader.u16());
    const headers = (typeAndFlags & UNTRACED_FLAG) === 0 ? written : UNTRACED_TEXT;
    const body = reader.body(type, reader.u32());
    if (functionName === undefined || type === undefined) return undefined;
    calls.push({
      callId: (firstId + index) >>> 0,
      functionName,
      type,
      attempt,
      retry: (typeAndFlags & NOT_REPEATED) === 0,
      parts: (typeAndFlags & PARTS_FLAG) !== 0,
      timeoutMs,
      eventId,
      headers,
      body,
    });
  }
  return reader.finished ? calls : undefined;
}

export function decodeReplies(data: Uint8Array): IncomingReply[] | undefined {
  const reader = new FrameReader(data);
  if (reader.u8() !== FRAME_VERSION || reader.u8() !== REPLIES) return undefined;
  const count = reader.u16();
  const replies: IncomingReply[] = [];
  for (let index = 0; index < count && !reader.overrun; index += 1) {
    const callId = reader.u32();
    const status = reader.u8();
    const type = contentTypeFrom(reader.u8());
    const body = reader.body(type, reader.u32());
    if (type === undefined) return undefined;
    replies.push({ callId, status, type, body });
  }
  return reader.finished ? replies : undefined;
}

function contentTypeFrom(code: number): ContentType | undefined {
  return code <= ContentType.empty ? (code as ContentType) : undefined;
}

const NOTHING = Buffer.alloc(0);

/** Reads past the end give zeros and set `overrun`; the caller looks once at the end instead of at every step. */
class FrameReader {
  private readonly data: Buffer;
  private at = 0;
  overrun = false;

  constructor(data: Uint8Array) {
    this.data = Buffer.isBuffer(data)
      ? data
      : Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  }

  get finished(): boolean {
    return !this.overrun && this.at === this.data.length;
  }

  u8(): number {
    return this.take(1) ? (this.data[this.at - 1] ?? 0) : 0;
  }

  u16(): number {
    return this.take(2) ? this.data.readUInt16BE(this.at - 2) : 0;
  }

  u32(): number {
    return this.take(4) ? this.data.readUInt32BE(this.at - 4) : 0;
  }

  latin1(length: number): string {
    return this.take(length) ? this.data.toString('latin1', this.at - length, this.at) : '';
  }

  utf8(length: number): string {
    if (length === 0) return '';
    return this.take(length) ? this.data.toString('utf8', this.at - length, this.at) : '';
  }

  /** JSON is read as text at once: a view on the bytes in between would cost more than the reading. */
  body(type: ContentType | undefined, length: number): EncodedBody {
    if (type === ContentType.json) return this.utf8(length);
    return this.take(length) ? this.data.subarray(this.at - length, this.at) : NOTHING;
  }

  private take(length: number): boolean {
    if (this.at + length > this.data.length) {
      this.overrun = true;
      return false;
    }
    this.at += length;
    return true;
  }
}
