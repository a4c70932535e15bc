import { Packr } from 'msgpackr';
import { describe, expect, it } from 'vitest';
import { MillraceError } from '../../src/core/errors.ts';
import {
  ContentType,
  contentTypeHeader,
  contentTypeOf,
  decodePayload,
  encodePayload,
  type PayloadLimits,
} from '../../src/core/payload.ts';

const LIMITS: PayloadLimits = {
  maxPayloadBytes: 1024 * 1024,
  maxPayloadDepth: 128,
  maxPayloadValues: 262_144,
};
const limits = (some: Partial<PayloadLimits>): PayloadLimits => ({ ...LIMITS, ...some });
const { json, msgpack, bytes, empty } = ContentType;

function refusal(action: () => unknown): MillraceError {
  try {
    action();
  } catch (error) {
    if (error instanceof MillraceError) return error;
    throw error;
  }
  throw new Error('was accepted');
}

const decodeJson = (text: string, some: Partial<PayloadLimits> = {}): unknown =>
  decodePayload(json, Buffer.from(text), limits(some));
const decodeMsgpack = (data: readonly number[], some: Partial<PayloadLimits> = {}): unknown =>
  decodePayload(msgpack, Uint8Array.from(data), limits(some));
const textBytes = (text: string): number[] => [...Buffer.from(text)];
const roundTrip = (value: unknown, type: ContentType): unknown => {
  const { type: written, body } = encodePayload(value, type, LIMITS);
  return decodePayload(written, body, LIMITS);
};

describe('a Content-Type header', () => {
  it.each([
    [undefined, json],
    ['', json],
    ['application/json', json],
    ['APPLICATION/Json', json],
    ['application/json; charset=utf-8', json],
    [' application/json ;x', json],
    ['application/msgpack', msgpack],
    ['Application/MsgPack;v=1', msgpack],
    ['application/octet-stream', bytes],
    ['application/x-msgpack', bytes],
    ['application/jsonp', bytes],
    ['text/plain', bytes],
    ['json', bytes],
    [';', bytes],
  ])('of %j names the type %j', (header, type) => {
    expect(contentTypeOf(header)).toBe(type);
  });

  it.each([json, msgpack, bytes])('made for the type %j names it', (type) => {
    expect(contentTypeOf(contentTypeHeader(type))).toBe(type);
  });
});

describe('the empty payload', () => {
  it('is what undefined is written as, and undefined is what it is read as', () => {
    for (const type of [json, msgpack, bytes]) {
      expect(encodePayload(undefined, type, LIMITS)).toEqual({ type: empty, body: '' });
    }
    for (const type of [json, msgpack, empty]) {
      expect(decodePayload(type, new Uint8Array(), LIMITS)).toBeUndefined();
    }
  });

  it('is no bytes where bytes are expected', () => {
    expect(decodePayload(bytes, new Uint8Array(), LIMITS)).toEqual(new Uint8Array());
  });
});

describe('values', () => {
  it('that are bytes stay bytes, whatever is wanted', () => {
    const given = Uint8Array.of(0, 255, 7);
    for (const type of [json, msgpack, bytes]) {
      expect(encodePayload(given, type, LIMITS)).toEqual({ type: bytes, body: given });
    }
    expect(decodePayload(bytes, given, LIMITS)).toEqual(given);
  });

  it('are written as JSON where bytes are wanted', () => {
    expect(encodePayload({ a: 1 }, bytes, LIMITS)).toEqual({ type: json, body: '{"a":1}' });
  });

  it.each([
    ['JSON', json],
    ['MessagePack', msgpack],
  ])('lose in %s what it cannot hold: the sign of -0, undefined in arrays', (_, type) => {
    expect(Object.is(roundTrip(-0, type), 0)).toBe(true);
    expect(roundTrip([1, undefined, 3], type)).toEqual([1, null, 3]);
  });

  it('keep in MessagePack dates and whole numbers of 64 bits', () => {
    const value = { at: new Date(1_700_000_000_123), big: 2n ** 63n, low: -(2n ** 63n) };
    expect(roundTrip(value, msgpack)).toEqual(value);
  });

  it('whose toJSON gives undefined are null', () => {
    expect(roundTrip({ toJSON: () => undefined }, json)).toBeNull();
  });

  const cycle: Record<string, unknown> = {};
  cycle['self'] = cycle;
  it.each([
    ['a function', (): number => 1, json],
    ['a function', (): number => 1, msgpack],
    ['a symbol', Symbol('s'), json],
    ['a symbol', Symbol('s'), msgpack],
    ['a symbol in an object', { s: Symbol('s') }, msgpack],
    ['a cycle', cycle, json],
    ['a cycle', cycle, msgpack],
    ['a BigInt', 1n, json],
    ['a BigInt of more than 64 bits', 2n ** 64n, msgpack],
    ['a BigInt of more than 64 bits', -(2n ** 64n), msgpack],
    [
      'a toJSON that throws',
      {
        toJSON() {
          throw new TypeError('no');
        },
      },
      json,
    ],
  ])('such as %s are refused as INVALID_INPUT', (_, value, type) => {
    expect(refusal(() => encodePayload(value, type, LIMITS)).code).toBe('INVALID_INPUT');
    // A failure leaves nothing behind for the next value.
    expect(roundTrip({ next: ['x'] }, type)).toEqual({ next: ['x'] });
  });
  it('that are BigInts of more than 64 bits are not said to refer to themselves', () => {
    const { message } = refusal(() => encodePayload(2n ** 64n, msgpack, LIMITS));
    expect(message).not.toContain('refers to itself');
  });
});

describe('the size of a payload', () => {
  it.each(['a', 'é', '€', '😀'])('is measured in bytes of UTF-8 where the text has %s', (one) => {
    for (const value of [one.repeat(50), one.repeat(51)]) {
      const size = Buffer.byteLength(JSON.stringify(value));
      expect(encodePayload(value, json, limits({ maxPayloadBytes: size })).type).toBe(json);
      const bound = limits({ maxPayloadBytes: size - 1 });
      const error = refusal(() => encodePayload(value, json, bound));
      expect(error.code).toBe('PAYLOAD_TOO_LARGE');
      expect(error.details).toEqual({ bytes: size, limitBytes: size - 1 });
    }
  });

  it.each([
    ['JSON', json],
    ['MessagePack', msgpack],
    ['bytes', bytes],
  ])('is bounded on the way in: %s', (_, type) => {
    const data = new Uint8Array(11).fill(0x31);
    data[0] = type === msgpack ? 0xaa : 0x31;
    expect(() => decodePayload(type, data, limits({ maxPayloadBytes: 11 }))).not.toThrow();
    const error = refusal(() => decodePayload(type, data, limits({ maxPayloadBytes: 10 })));
    expect(error.code).toBe('PAYLOAD_TOO_LARGE');
  });

  it('of text from a frame is measured in bytes, too', () => {
    const text = JSON.stringify('€€€€');
    expect(decodePayload(json, text, limits({ maxPayloadBytes: 14 }))).toBe('€€€€');
    const error = refusal(() => decodePayload(json, text, limits({ maxPayloadBytes: 13 })));
    expect(error.code).toBe('PAYLOAD_TOO_LARGE');
  });

  it('of bytes and MessagePack is bounded on the way out', () => {
    const data = new Uint8Array(11);
    const bound = limits({ maxPayloadBytes: 10 });
    expect(refusal(() => encodePayload(data, bytes, bound)).code).toBe('PAYLOAD_TOO_LARGE');
    const text = 'x'.repeat(10);
    expect(refusal(() => encodePayload(text, msgpack, bound)).code).toBe('PAYLOAD_TOO_LARGE');
  });
});

describe('the depth of a payload', () => {
  const nestedJson = (depth: number): string =>
    `${'[{"a":'.repeat(depth / 2)}1${'}]'.repeat(depth / 2)}`;
  // One array, or one map with the key "a", inside the other.
  const nestedMsgpack = (depth: number): number[] => [
    ...Array.from({ length: depth / 2 }, () => [0x91, 0x81, 0xa1, 0x61]).flat(),
    1,
  ];

  it('is accepted at the limit and refused above it: JSON', () => {
    expect(() => decodeJson(nestedJson(10), { maxPayloadDepth: 10 })).not.toThrow();
    expect(refusal(() => decodeJson(nestedJson(12), { maxPayloadDepth: 11 })).code).toBe(
      'INVALID_INPUT',
    );
    expect(refusal(() => decodeJson(nestedJson(10), { maxPayloadDepth: 9 })).message).toContain(
      'deeper than 9',
    );
  });

  it('is accepted at the limit and refused above it: MessagePack', () => {
    expect(() => decodeMsgpack(nestedMsgpack(10), { maxPayloadDepth: 10 })).not.toThrow();
    expect(
      refusal(() => decodeMsgpack(nestedMsgpack(10), { maxPayloadDepth: 9 })).message,
    ).toContain('deeper than 9');
  });

  it('is counted where it is, not over all: siblings do not nest', () => {
    const siblings = `[${Array.from({ length: 50 }, () => '[]').join(',')}]`;
    expect(decodeJson(siblings, { maxPayloadDepth: 2 })).toHaveLength(50);
    expect(
      decodeMsgpack([0xdc, 0, 50, ...new Uint8Array(50).fill(0x90)], { maxPayloadDepth: 2 }),
    ).toHaveLength(50);
  });

  it('is refused long before it costs a stack', () => {
    const deep = '['.repeat(500_000);
    expect(refusal(() => decodeJson(deep)).message).toContain('deeper than 128');
    const packed = new Uint8Array(500_000).fill(0x91);
    expect(refusal(() => decodePayload(msgpack, packed, LIMITS)).message).toContain('deeper than');
  });
});

describe('the number of values in a payload', () => {
  const zeros = (count: number): string => `[${Array.from({ length: count }, () => 0).join(',')}]`;

  it('is accepted at the limit and refused above it: JSON', () => {
    // The array itself is a value.
    expect(decodeJson(zeros(9), { maxPayloadValues: 10 })).toHaveLength(9);
    expect(refusal(() => decodeJson(zeros(10), { maxPayloadValues: 10 })).message).toContain(
      'more than 10 values',
    );
  });

  it('is accepted at the limit and refused above it: MessagePack', () => {
    const array = (count: number): number[] => [0x90 + count, ...new Uint8Array(count)];
    expect(decodeMsgpack(array(9), { maxPayloadValues: 10 })).toHaveLength(9);
    expect(refusal(() => decodeMsgpack(array(10), { maxPayloadValues: 10 })).message).toContain(
      'more than 10 values',
    );
  });

  it('counts empty containers, of which a megabyte would be many', () => {
    const many = `[${Array.from({ length: 300_000 }, () => '{}').join(',')}]`;
    expect(refusal(() => decodeJson(many)).message).toContain('more than 262144 values');
    const packed = new Uint8Array(300_005).fill(0x80);
    packed.set([0xdd, 0, 4, 0x93, 0xe0]);
    expect(refusal(() => decodePayload(msgpack, packed, LIMITS)).message).toContain('more than');
  });

  it('claimed and not given ends too early instead of costing memory', () => {
    for (const tag of [0xdd, 0xdf, 0xdb, 0xc6]) {
      expect(refusal(() => decodeMsgpack([tag, 0xff, 0xff, 0xff, 0xff])).message).toContain(
        'ends too early',
      );
    }
  });
});

describe('JSON text in quotes', () => {
  it.each([
    ['"[[[[{{{{,,,,,,,,"', 1],
    [String.raw`"\\",[[1]]`, 3],
    [String.raw`"\"[[[[,,,,"`, 1],
    [String.raw`"\\\"[[[,,,"`, 1],
    [String.raw`"a\\\\",[]`, 3],
    [String.raw`"\u005b,\u0022[,"`, 1],
  ])('is not counted: %s', (inner, expected) => {
    const text = `[${inner}]`;
    // One level for each side, and no limit that only quoted characters would pass.
    expect(() =>
      decodeJson(text, { maxPayloadDepth: expected, maxPayloadValues: 5 }),
    ).not.toThrow();
    expect(decodeJson(text, { maxPayloadDepth: expected, maxPayloadValues: 5 })).toEqual(
      JSON.parse(text),
    );
  });

  it('that ends in an escaped backslash hides nothing that follows', () => {
    const text = String.raw`["\\",[[[1]]]]`;
    expect(refusal(() => decodeJson(text, { maxPayloadDepth: 3 })).message).toContain('deeper');
    expect(decodeJson(text, { maxPayloadDepth: 4 })).toEqual(JSON.parse(text));
  });
});

describe('JSON', () => {
  it.each([
    '{"__proto__":1}',
    '{"a":[{"__proto__":{"polluted":true}}]}',
    String.raw`{"\u005f_proto__":{"polluted":true}}`,
    String.raw`{"__\u0070roto__":{"polluted":true}}`,
    '{"constructor":{"prototype":{"polluted":true}}}',
    String.raw`{"\u0063onstructor":{"prototype":{"polluted":true}}}`,
  ])('that would name a prototype is refused: %s', (text) => {
    expect(refusal(() => decodeJson(text)).code).toBe('INVALID_INPUT');
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });

  it.each(['{"constructor":1}', '{"constructor":null}', '{"a":"__proto__"}', '["__proto__"]'])(
    'that only looks like it is accepted: %s',
    (text) => {
      expect(decodeJson(text)).toEqual(JSON.parse(text));
    },
  );

  it.each(['{', '[1,]', 'NaN', "{'a':1}", '1 2', '"', 'undefined', '\u0000'])(
    'that is none is refused: %j',
    (text) => {
      expect(refusal(() => decodeJson(text)).code).toBe('INVALID_INPUT');
    },
  );

  it('that is no UTF-8 is refused, and the replacement character itself is not', () => {
    const wrong = Buffer.from([0x22, 0xff, 0x22]);
    expect(refusal(() => decodePayload(json, wrong, LIMITS)).message).toContain('UTF-8');
    const overlong = Buffer.from([0x22, 0xc0, 0xaf, 0x22]);
    expect(refusal(() => decodePayload(json, overlong, LIMITS)).message).toContain('UTF-8');
    expect(decodeJson('"\ufffd"')).toBe('\ufffd');
  });

  it('is read from a view into a larger buffer', () => {
    const larger = Uint8Array.from(textBytes('xx[1]xx'));
    expect(decodePayload(json, larger.subarray(2, 5), LIMITS)).toEqual([1]);
  });
});

describe('MessagePack', () => {
  const proto = textBytes('__proto__');

  it.each([
    ['an extension type of 1 byte', [0xd4, 0x01, 0x00]],
    ['a record definition of msgpackr', [0xd4, 0x72, 0x40]],
    ['an extension type with a length', [0xc7, 0x01, 0x42, 0x00]],
    ['a set of msgpackr', [0xd4, 0x73, 0x90]],
    ['the byte that means nothing', [0xc1]],
    ['an array as a key', [0x81, 0x90, 0x01]],
    ['a map as a key', [0x81, 0x80, 0x01]],
    ['the key __proto__', [0x81, 0xa9, ...proto, 0x01]],
    ['the key __proto__ with a length of 1 byte', [0x81, 0xd9, 9, ...proto, 0x01]],
    ['the key __proto__ with a length of 4 bytes', [0x81, 0xdb, 0, 0, 0, 9, ...proto, 0x01]],
    ['the key __proto__ further in', [0x91, 0xde, 0, 2, 0x01, 0x01, 0xa9, ...proto, 0x80]],
    ['a byte after its end', [0x01, 0x01]],
    ['text that is cut', [0xa5, 0x61]],
    ['a map without its last value', [0x82, 0xa1, 0x61, 0x01, 0xa1, 0x62]],
    ['a number that is cut', [0xcf, 0, 0, 0]],
    ['a length that is cut', [0xdd, 0, 0]],
  ])('with %s is refused as INVALID_INPUT', (_, data) => {
    expect(refusal(() => decodeMsgpack(data)).code).toBe('INVALID_INPUT');
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });

  it('may have __proto__ as a value', () => {
    expect(decodeMsgpack([0x81, 0xa1, 0x61, 0xa9, ...proto])).toEqual({ a: '__proto__' });
  });

  it('whose key becomes __proto__ by a wrong way of writing it changes no prototype', () => {
    // 0xc1 0x9f is an overlong "_": no legal UTF-8, but a lenient reader makes an underscore of it.
    const overlong = [0xc1, 0x9f, ...proto.slice(1)];
    const data = [
      0x81,
      0xa0 + overlong.length,
      ...overlong,
      0x81,
      0xa8,
      ...textBytes('polluted'),
      1,
    ];
    const value = decodeMsgpack(data);
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
    expect((value as { polluted?: unknown }).polluted).toBeUndefined();
  });

  it('may have numbers as keys and timestamps as values', () => {
    expect(decodeMsgpack([0x81, 0x05, 0xd6, 0xff, 0, 0, 0, 1])).toEqual({ 5: new Date(1_000) });
  });

  it('from other writers is read, with whatever lengths they choose', () => {
    const packed = new Packr({ useRecords: false, variableMapSize: false }).pack({ a: [1, 'x'] });
    expect(decodePayload(msgpack, packed, LIMITS)).toEqual({ a: [1, 'x'] });
    expect(decodeMsgpack([0xdf, 0, 0, 0, 1, 0xdb, 0, 0, 0, 1, 0x61, 0xdd, 0, 0, 0, 0])).toEqual({
      a: [],
    });
  });
});

describe('a byte order mark before JSON', () => {
  const texts: [string, unknown][] = [
    ['{"a":1}', { a: 1 }],
    [String.raw`"\u00fc"`, 'ü'],
    ['{"constructor":1}', { constructor: 1 }],
  ];
  it.each(texts)('is skipped in bytes and in text: %s', (text, value) => {
    const marked = `\ufeff${text}`;
    expect(decodePayload(ContentType.json, Buffer.from(marked), LIMITS)).toEqual(value);
    expect(decodePayload(ContentType.json, marked, LIMITS)).toEqual(value);
  });
});
