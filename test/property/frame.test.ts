import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  callSizeBytes,
  decodeCalls,
  decodeReplies,
  encodeCalls,
  encodeReplies,
  replySizeBytes,
  ReplyStatus,
  type OutgoingCall,
  type OutgoingReply,
} from '../../src/bus/frame.ts';
import { ContentType, type Encoded } from '../../src/core/payload.ts';

const NAME = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-';
const functionName = fc
  .array(fc.constantFrom(...NAME.split('')), { minLength: 1, maxLength: 64, size: 'max' })
  .map((characters) => characters.join(''));
/** Well-formed: what has no UTF-8 form cannot survive a frame. */
const text = (maxLength: number): fc.Arbitrary<string> =>
  fc.string({ unit: 'binary', maxLength }).map((any) => any.toWellFormed());
const upToBytes = (maxBytes: number): fc.Arbitrary<string> =>
  text(maxBytes).map((any) => {
    let short = any;
    while (Buffer.byteLength(short) > maxBytes) {
      short = short.slice(0, Math.floor(short.length * 0.75)).toWellFormed();
    }
    return short;
  });
const bytes = fc.uint8Array({ maxLength: 80 });
const encoded: fc.Arbitrary<Encoded> = fc.oneof(
  text(40).map((body) => ({ type: ContentType.json, body })),
  bytes.map((body) => ({ type: ContentType.msgpack, body })),
  bytes.map((body) => ({ type: ContentType.bytes, body })),
  fc.constant({ type: ContentType.empty, body: '' }),
);
const headers = fc
  .dictionary(fc.string(), text(40), { maxKeys: 4 })
  .map((given) => (Object.keys(given).length === 0 ? '' : JSON.stringify(given)));
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const call: fc.Arbitrary<OutgoingCall> = fc.record({
  functionName,
  encoded,
  attempt: fc.integer({ min: 1, max: 100 }),
  retry: fc.boolean(),
  parts: fc.boolean(),
  timeoutMs: u32,
  eventId: fc.oneof(
    fc.constant(''),
    upToBytes(40),
    fc.constantFrom('x'.repeat(255), 'é'.repeat(127), '😀'.repeat(63)),
  ),
  headers,
});
const calls = fc.array(call, { minLength: 1, maxLength: 8 });
const reply: fc.Arbitrary<OutgoingReply> = fc.record({
  callId: u32,
  status: fc.constantFrom(ReplyStatus.ok, ReplyStatus.error),
  encoded,
});
const replies = fc.array(reply, { minLength: 1, maxLength: 8 });

const sum = (sizes: readonly number[]): number => sizes.reduce((total, size) => total + size, 0);
const callsFrame = (firstId: number, calls: readonly OutgoingCall[]): Uint8Array =>
  encodeCalls(firstId, calls, sum(calls.map(callSizeBytes)));
const repliesFrame = (replies: readonly OutgoingReply[]): Uint8Array =>
  encodeReplies(replies, sum(replies.map(replySizeBytes)));
/** A view with other bytes on both sides, as the NATS client hands them out. */
function inside(frame: Uint8Array): Uint8Array {
  const larger = new Uint8Array(frame.length + 16).fill(0xa5);
  larger.set(frame, 8);
  return larger.subarray(8, 8 + frame.length);
}

/** Lengths at which the frame could be cut and still be read. */
function readableCuts(frame: Uint8Array, decode: (data: Uint8Array) => unknown): number[] {
  const lengths = Array.from({ length: frame.length }, (_, length) => length);
  return lengths.filter((length) => decode(frame.subarray(0, length)) !== undefined);
}

/** Text and bytes are the same on the wire: both as hexadecimal digits. */
const hex = (body: string | Uint8Array): string => Buffer.from(body as string).toString('hex');

const u16At = (value: number): number[] => [value >>> 8, value & 0xff];
const HUGE = [0xff, 0xff, 0xff, 0xff];

describe('a frame of calls', () => {
  it('is read as it was written', () => {
    fc.assert(
      fc.property(u32, calls, (firstId, sent) => {
        const received = decodeCalls(inside(callsFrame(firstId, sent)));
        expect(received?.map((call) => ({ ...call, body: hex(call.body) }))).toEqual(
          sent.map(({ encoded, ...call }, index) => ({
            ...call,
            callId: (firstId + index) % 2 ** 32,
            type: encoded.type,
            body: hex(encoded.body),
          })),
        );
      }),
      { numRuns: 300 },
    );
  });

  it('is no larger than the sizes of its calls say, apart from its own head', () => {
    fc.assert(
      fc.property(calls, (sent) => {
        const names = new Set(sent.map(({ functionName }) => functionName)).size;
        const bound = 9 + names + sum(sent.map(callSizeBytes));
        expect(callsFrame(1, sent).length).toBeLessThanOrEqual(bound);
      }),
    );
  });

  it('carries 255 different functions', () => {
    const sent = Array.from({ length: 255 }, (_, index) => callOf(`f${index}`));
    expect(decodeCalls(callsFrame(1, sent))?.map((call) => call.functionName)).toEqual(
      sent.map((call) => call.functionName),
    );
  });

  it('is refused when it is cut anywhere', () => {
    fc.assert(
      fc.property(calls, (sent) => {
        const frame = callsFrame(1, sent);
        expect(readableCuts(frame, decodeCalls)).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });

  it('is refused when anything follows', () => {
    fc.assert(
      fc.property(calls, fc.uint8Array({ minLength: 1, maxLength: 9 }), (sent, more) => {
        expect(decodeCalls(Buffer.concat([callsFrame(1, sent), more]))).toBeUndefined();
      }),
    );
  });

  it('is refused with another version, as a frame of replies, and with a type nobody knows', () => {
    const frame = Buffer.from(callsFrame(1, [callOf('f')]));
    const changed = (at: number, value: number): Uint8Array => {
      const other = Buffer.from(frame);
      other[at] = value;
      return other;
    };
    expect(decodeCalls(frame)).toHaveLength(1);
    expect(decodeCalls(changed(0, 2))).toBeUndefined();
    expect(decodeCalls(changed(1, 2))).toBeUndefined();
    // Head 9, name 1 + 1, then the call: its name's index and its type.
    expect(decodeCalls(changed(11, 1))).toBeUndefined();
    expect(decodeCalls(changed(12, 4))).toBeUndefined();
    expect(decodeReplies(frame)).toBeUndefined();
  });
});

function callOf(functionName: string): OutgoingCall {
  const encoded = { type: ContentType.json, body: '1' };
  return { functionName, encoded, attempt: 1, retry: true, timeoutMs: 1, eventId: '', headers: '' };
}

describe('a frame of replies', () => {
  it('is read as it was written', () => {
    fc.assert(
      fc.property(replies, (sent) => {
        const received = decodeReplies(inside(repliesFrame(sent)));
        expect(received?.map((reply) => ({ ...reply, body: hex(reply.body) }))).toEqual(
          sent.map(({ callId, status, encoded: { type, body } }) => ({
            callId,
            status,
            type,
            body: hex(body),
          })),
        );
      }),
      { numRuns: 300 },
    );
  });

  it('is no larger than the sizes of its replies say, apart from its own head', () => {
    fc.assert(
      fc.property(replies, (sent) => {
        const bound = 4 + sum(sent.map(replySizeBytes));
        expect(repliesFrame(sent).length).toBeLessThanOrEqual(bound);
      }),
    );
  });

  it('is refused when it is cut anywhere, and when anything follows', () => {
    fc.assert(
      fc.property(replies, (sent) => {
        const frame = repliesFrame(sent);
        expect(readableCuts(frame, decodeReplies)).toEqual([]);
        expect(decodeReplies(Buffer.concat([frame, Buffer.from([0])]))).toBeUndefined();
      }),
      { numRuns: 60 },
    );
  });
});

describe('bytes that are no frame', () => {
  it('are never a reason to throw, whatever they are', () => {
    const head = fc.constantFrom([1, 1], [1, 2], []);
    const any = fc.uint8Array({ maxLength: 400, size: 'max' });
    fc.assert(
      fc.property(head, any, (head, rest) => {
        const data = Uint8Array.from([...head, ...rest]);
        expect(() => decodeCalls(data)).not.toThrow();
        expect(() => decodeReplies(data)).not.toThrow();
      }),
      { numRuns: 2_000 },
    );
  });

  it('are never a reason to throw where a frame has some wrong bytes', () => {
    const wrong = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(calls, replies, wrong, (sent, answers, wrong) => {
        for (const frame of [callsFrame(1, sent), repliesFrame(answers)]) {
          const changed = Uint8Array.from(frame);
          for (const [at, value] of wrong) changed[at % changed.length] = value;
          expect(() => decodeCalls(changed)).not.toThrow();
          expect(() => decodeReplies(changed)).not.toThrow();
        }
      }),
      { numRuns: 500 },
    );
  });

  it.each([
    ['calls, 65,535 of them', [1, 1, 0, 0, 0, 1, ...u16At(0xffff), 1, 1, 0x66]],
    ['255 names', [1, 1, 0, 0, 0, 1, ...u16At(1), 255]],
    [
      'a body of 4 GiB',
      [1, 1, 0, 0, 0, 1, ...u16At(1), 1, 1, 0x66, 0, 2, 1, 0, 0, 0, 9, 0, 0, 0, ...HUGE],
    ],
    [
      'headers of 64 KiB',
      [1, 1, 0, 0, 0, 1, ...u16At(1), 1, 1, 0x66, 0, 2, 1, 0, 0, 0, 9, 0, ...u16At(0xffff)],
    ],
    ['replies, 65,535 of them', [1, 2, ...u16At(0xffff)]],
    ['a reply of 4 GiB', [1, 2, ...u16At(1), 0, 0, 0, 1, 0, 2, ...HUGE]],
    ['a reply of 4 GiB of text', [1, 2, ...u16At(1), 0, 0, 0, 1, 0, 0, ...HUGE]],
  ])('that claim %s are refused at once and for little memory', (_, claim) => {
    const data = Uint8Array.from(claim);
    const before = process.memoryUsage();
    const start = performance.now();
    for (let round = 0; round < 200; round += 1) {
      expect(decodeCalls(data)).toBeUndefined();
      expect(decodeReplies(data)).toBeUndefined();
    }
    expect(performance.now() - start).toBeLessThan(500);
    const after = process.memoryUsage();
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(16 * 1024 * 1024);
  });
});
