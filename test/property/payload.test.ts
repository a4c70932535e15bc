import * as fc from 'fast-check';
import { Packr } from 'msgpackr';
import { describe, expect, it } from 'vitest';
import { MillraceError } from '../../src/core/errors.ts';
import { scanJson } from '../../src/core/json-scan.ts';
import { scanMsgpack } from '../../src/core/msgpack-scan.ts';
import {
  ContentType,
  decodePayload,
  encodePayload,
  type PayloadLimits,
} from '../../src/core/payload.ts';

const LIMITS: PayloadLimits = {
  maxPayloadBytes: 1024 * 1024,
  maxPayloadDepth: 64,
  maxPayloadValues: 10_000,
};
const SCAN = { maxDepth: LIMITS.maxPayloadDepth, maxValues: LIMITS.maxPayloadValues };
const TYPES = [ContentType.json, ContentType.msgpack] as const;

/** Has the value a key that decoding refuses, or a -0, which neither format keeps? */
function isPlain(value: unknown): boolean {
  if (Object.is(value, -0)) return false;
  if (typeof value === 'string') return value.isWellFormed();
  if (typeof value !== 'object' || value === null) return true;
  if (Object.hasOwn(value, '__proto__')) return false;
  return Object.entries(value).every(([key, inner]) => key.isWellFormed() && isPlain(inner));
}

const key = fc.oneof(
  fc.string(),
  fc.string({ unit: 'grapheme' }),
  fc.constantFrom('constructor', 'prototype', 'toString', '__proto', '5', '\\', '"', '[,{'),
);
const leaf = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 60, size: 'max' }),
  fc.string({ unit: fc.constantFrom('"', '\\', '[', '{', ',', 'a'), maxLength: 12 }),
  fc.integer(),
  fc.maxSafeInteger(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.boolean(),
  fc.constant(null),
);
const { value } = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 6, withCrossShrink: true },
    leaf,
    fc.array(tie('value'), { maxLength: 20 }),
    fc.dictionary(key, tie('value'), { maxKeys: 20 }),
  ),
}));
const plain = fc.oneof(value, fc.jsonValue({ maxDepth: 8 })).filter(isPlain);

/** `{ constructor: { prototype } }` is refused in JSON. */
function namesPrototype(given: unknown): boolean {
  if (typeof given !== 'object' || given === null) return false;
  const { constructor } = given as { constructor?: unknown };
  if (
    Object.hasOwn(given, 'constructor') &&
    typeof constructor === 'object' &&
    constructor !== null &&
    Object.hasOwn(constructor, 'prototype')
  )
    return true;
  return Object.values(given).some(namesPrototype);
}

function depthOf(given: unknown): number {
  if (typeof given !== 'object' || given === null) return 0;
  return 1 + Math.max(0, ...Object.values(given).map(depthOf));
}

/** Values as MessagePack counts them: keys too. */
function valuesOf(given: unknown): number {
  if (typeof given !== 'object' || given === null) return 1;
  const inner = Object.values(given).reduce((sum: number, one) => sum + valuesOf(one), 0);
  return 1 + inner + (Array.isArray(given) ? 0 : Object.keys(given).length);
}

const prototypeKeys = (): string => Reflect.ownKeys(Object.prototype).map(String).join();
const PROTOTYPE_KEYS = prototypeKeys();

/** Decodes, and fails on anything but a value or a MillraceError; no prototype may change. */
function decodeSafely(type: ContentType, data: Uint8Array): unknown {
  try {
    const decoded = decodePayload(type, data, LIMITS);
    expectOrdinary(decoded);
    return decoded;
  } catch (error) {
    if (!(error instanceof MillraceError)) throw error;
    if (!['INVALID_INPUT', 'PAYLOAD_TOO_LARGE'].includes(error.code)) throw error;
    return undefined;
  } finally {
    expect(prototypeKeys()).toBe(PROTOTYPE_KEYS);
  }
}

function expectOrdinary(given: unknown): void {
  if (typeof given !== 'object' || given === null) return;
  if (given instanceof Uint8Array || given instanceof Date) return;
  const prototype: unknown = Object.getPrototypeOf(given);
  if (prototype !== Object.prototype && prototype !== Array.prototype)
    throw new Error('an object with a foreign prototype');
  for (const inner of Object.values(given)) expectOrdinary(inner);
}

function encodedBytes(given: unknown, type: ContentType): Uint8Array {
  const { body } = encodePayload(given, type, LIMITS);
  return Uint8Array.from(Buffer.from(body as string));
}

describe('any JSON value', () => {
  it.each(TYPES)('comes back from type %j as it was', (type) => {
    fc.assert(
      fc.property(plain, (given) => {
        fc.pre(type !== ContentType.json || !namesPrototype(given));
        const { type: written, body } = encodePayload(given, type, LIMITS);
        expect(written).toBe(type);
        expect(decodePayload(type, body, LIMITS)).toEqual(given);
        expect(decodePayload(type, encodedBytes(given, type), LIMITS)).toEqual(given);
      }),
      { numRuns: 500 },
    );
  });

  it('has as many levels for both scans as it has', () => {
    fc.assert(
      fc.property(plain, (given) => {
        const depth = depthOf(given);
        const text = JSON.stringify(given);
        const packed = encodedBytes(given, ContentType.msgpack);
        const at = { maxDepth: depth, maxValues: 1e9 };
        expect([scanJson(text, at), scanMsgpack(packed, at)]).toEqual([undefined, undefined]);
        if (depth === 0) return;
        const below = { maxDepth: depth - 1, maxValues: 1e9 };
        expect(scanJson(text, below)).toContain('nested deeper');
        expect(scanMsgpack(packed, below)).toContain('nested deeper');
      }),
      { numRuns: 500 },
    );
  });

  it('has as many values for the MessagePack scan as it has', () => {
    fc.assert(
      fc.property(plain, (given) => {
        const packed = encodedBytes(given, ContentType.msgpack);
        const maxValues = valuesOf(given);
        expect(scanMsgpack(packed, { maxDepth: 99, maxValues })).toBeUndefined();
        expect(scanMsgpack(packed, { maxDepth: 99, maxValues: maxValues - 1 })).toContain('values');
      }),
      { numRuns: 300 },
    );
  });

  it('is not refused by the JSON scan for more values than it has, keys and all', () => {
    fc.assert(
      fc.property(plain, (given) => {
        // An empty container counts twice: no comma tells it from one with a single value.
        const text = JSON.stringify(given);
        const allowed = 2 * valuesOf(given);
        expect(scanJson(text, { maxDepth: 99, maxValues: allowed })).toBeUndefined();
      }),
      { numRuns: 300 },
    );
  });

  it('with a key __proto__ anywhere is refused in both types', () => {
    const prefix = fc.array(fc.constantFrom('a', 'b', 0), { maxLength: 5 });
    fc.assert(
      fc.property(prefix, plain, (path, inner) => {
        const holder: Record<string, unknown> = Object.defineProperty({}, '__proto__', {
          value: inner,
          enumerable: true,
        });
        const given = path.reduce<unknown>(
          (nested, step) => (typeof step === 'number' ? [nested] : { [step]: nested }),
          holder,
        );
        for (const type of TYPES) {
          const data = encodedBytes(given, type);
          expect(() => decodePayload(type, data, LIMITS)).toThrow(MillraceError);
        }
      }),
    );
  });
});

describe('hostile bytes', () => {
  it.each(TYPES)('of type %j give a value or a MillraceError', (type) => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 120, size: 'max' }), (data) => {
        expect(() => decodeSafely(type, data)).not.toThrow();
      }),
      { numRuns: 3_000 },
    );
  });

  it.each(TYPES)('of type %j, made from legal ones, give a value or a MillraceError', (type) => {
    const changes = fc.array(fc.tuple(fc.nat(), fc.nat(255), fc.constantFrom(-1, 0, 1)), {
      minLength: 1,
      maxLength: 5,
    });
    fc.assert(
      fc.property(plain, changes, (given, changes) => {
        const data = [...encodedBytes(given, type)];
        for (const [at, byte, kind] of changes) {
          const index = at % (data.length + 1);
          // Removes, changes or inserts a byte.
          if (kind < 0) data.splice(index, 1);
          else if (kind === 0 && index < data.length) data[index] = byte;
          else data.splice(index, 0, byte);
        }
        expect(() => decodeSafely(type, Uint8Array.from(data))).not.toThrow();
      }),
      { numRuns: 3_000 },
    );
  });

  it('with pieces of __proto__ and constructor give a value or a MillraceError', () => {
    const piece = fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      ':',
      ',',
      '"__proto__"',
      '"constructor"',
      '"prototype"',
      String.raw`"\u005f_proto__"`,
      'null',
      '{"a":1}',
      '1',
    );
    const text = fc.array(piece, { maxLength: 14, size: 'max' }).map((pieces) => pieces.join(''));
    fc.assert(
      fc.property(text, (text) => {
        const decoded = decodeSafely(ContentType.json, Buffer.from(text));
        const keys = JSON.stringify(decoded ?? null);
        expect(keys).not.toMatch(/"__proto__":/);
      }),
      { numRuns: 3_000 },
    );
  });
});

/** MessagePack of legal structure from all the tags, so that most of it passes the scan. */
const { packed } = fc.letrec((tie) => {
  const inner = tie('packed') as fc.Arbitrary<number[]>;
  const body = (length: number): fc.Arbitrary<number[]> =>
    fc.array(fc.nat(255), { minLength: length, maxLength: length });
  const scalar = fc.oneof(
    fc.integer({ min: 0, max: 0x7f }).map((tag) => [tag]),
    fc.integer({ min: 0xe0, max: 0xff }).map((tag) => [tag]),
    fc.constantFrom([0xc0], [0xc2], [0xc3]),
    ...[
      [0xca, 4],
      [0xcb, 8],
      [0xcc, 1],
      [0xcd, 2],
      [0xce, 4],
      [0xcf, 8],
      [0xd0, 1],
      [0xd1, 2],
      [0xd2, 4],
      [0xd3, 8],
    ].map(([tag = 0, length = 0]) => body(length).map((rest) => [tag, ...rest])),
  );
  const text = fc
    .uint8Array({ maxLength: 40 })
    .chain((data) =>
      fc.constantFrom(
        data.length < 32 ? [0xa0 + data.length, ...data] : [0xd9, data.length, ...data],
        [0xd9, data.length, ...data],
        [0xda, 0, data.length, ...data],
        [0xdb, 0, 0, 0, data.length, ...data],
      ),
    );
  const binary = fc.uint8Array({ maxLength: 12 }).map((data) => [0xc4, data.length, ...data]);
  const timestamp = fc.oneof(
    body(4).map((data) => [0xd6, 0xff, ...data]),
    body(8).map((data) => [0xd7, 0xff, ...data]),
    body(12).map((data) => [0xc7, 12, 0xff, ...data]),
    body(1).map((data) => [0xd4, 0xff, ...data]),
    body(2).map((data) => [0xd5, 0xff, ...data]),
    body(16).map((data) => [0xd8, 0xff, ...data]),
    fc.uint8Array({ maxLength: 20 }).map((data) => [0xc7, data.length, 0xff, ...data]),
  );
  const list = fc.array(inner, { maxLength: 5 });
  const mapKey = fc.oneof({ arbitrary: text, weight: 5 }, scalar);
  const pairs = fc.array(fc.tuple(mapKey, inner), { maxLength: 5 });
  return {
    packed: fc.oneof(
      { maxDepth: 5 },
      scalar,
      text,
      binary,
      timestamp,
      list.map((items) => [0x90 + items.length, ...items.flat()]),
      list.map((items) => [0xdc, 0, items.length, ...items.flat()]),
      pairs.map((entries) => [0x80 + entries.length, ...entries.flat(2)]),
      pairs.map((entries) => [0xdf, 0, 0, 0, entries.length, ...entries.flat(2)]),
    ),
  };
});

describe('what the MessagePack scan accepts', () => {
  const packr = new Packr({ useRecords: false, mapsAsObjects: true, moreTypes: false });

  it('msgpackr reads without throwing', () => {
    let accepted = 0;
    fc.assert(
      fc.property(packed as fc.Arbitrary<number[]>, (data) => {
        const given = Uint8Array.from(data);
        fc.pre(scanMsgpack(given, SCAN) === undefined);
        accepted += 1;
        packr.unpack(given);
        decodeSafely(ContentType.msgpack, given);
      }),
      { numRuns: 2_000 },
    );
    expect(accepted).toBeGreaterThan(1_000);
  });
  it('has no key that is bytes or a timestamp', () => {
    const keys = [
      [0xc4, 1, 0x61],
      [0xd6, 0xff, 0, 0, 0, 1],
    ];
    for (const key of keys) {
      expect(scanMsgpack(Uint8Array.from([0x81, ...key, 0x01]), SCAN)).toBeDefined();
    }
  });
});
