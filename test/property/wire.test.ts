import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_PARTITIONS } from '../../src/core/key-ring.ts';
import type {
  CoordinatorMessage,
  LogRecord,
  PartitionMessage,
  Refusal,
} from '../../src/core/state/messages.ts';
import { decodeRecords, encodeRecords } from '../../src/core/state/records.ts';
import { decodeEnvelopes, encodeEnvelopes, type Envelope } from '../../src/core/state/wire.ts';

const text = fc.string({ unit: 'grapheme', maxLength: 12 });
const count = fc.nat(2 ** 31);
const partition = fc.nat(MAX_PARTITIONS - 1);
const worker = fc.stringMatching(/^[A-Za-z0-9_-]{1,64}$/);
const tx = text;
const mode = fc.constantFrom('shared' as const, 'exclusive' as const);
const value = fc.option(text, { nil: null });
const writers = fc.array(count, { maxLength: 4 });
const emits = fc.array(fc.uint8Array({ maxLength: 8 }), { maxLength: 3 });
const versioned = fc.array(fc.tuple(text, value, count), { maxLength: 3 });
const refusal: fc.Arbitrary<Refusal> = fc.record(
  {
    why: fc.constantFrom('conflict', 'lost', 'full', 'overloaded', 'timeout'),
    partition: count,
    key: text,
    other: text,
  },
  { requiredKeys: ['why', 'partition'] },
);
/** Of items that are moved: none of them is deleted. */
const moved = fc.array(fc.tuple(text, text, count), { maxLength: 3 });
const none = fc.constant('' as const);
const partitions = fc.array(partition, { maxLength: 4 });
const kind = <Kind extends string>(name: Kind): fc.Arbitrary<Kind> => fc.constant(name);

const toPartition: fc.Arbitrary<PartitionMessage> = fc.oneof(
  fc.record({
    kind: kind('lock'),
    tx,
    age: fc.record({ startMs: fc.double({ noNaN: true, noDefaultInfinity: true }), first: text }),
    coordinator: worker,
    key: text,
    mode,
    ttlMs: fc.double({ min: 0, max: 1e6, noNaN: true }),
  }),
  fc.record({ kind: kind('release'), tx }),
  fc.record({
    kind: kind('prepare'),
    tx,
    coordinator: worker,
    epoch: count,
    grant: count,
    home: count,
    participants: partitions,
    writers: partitions,
    writes: fc.array(fc.tuple(text, value), { maxLength: 3 }),
    emits,
  }),
  fc.record(
    { kind: kind('vote'), tx, from: partition, yes: fc.boolean(), refusal },
    { requiredKeys: ['kind', 'tx', 'from', 'yes'] },
  ),
  fc.record({ kind: kind('commit'), tx, home: count }),
  fc.record({ kind: kind('abort'), tx }),
  fc.record({ kind: kind('ended'), tx, from: fc.option(count, { nil: undefined }) }),
  fc.record({ kind: kind('resolve'), tx, coordinator: worker }),
  fc.record({ kind: kind('fetch'), tx: none, generation: count, to: count, after: text }),
  fc.record({
    kind: kind('items'),
    tx: none,
    generation: count,
    from: count,
    after: text,
    items: moved,
    last: fc.boolean(),
    version: count,
  }),
  fc.record({ kind: kind('left'), tx: none, generation: count, from: count }),
  fc.record({ kind: kind('arrived'), tx: none, generation: count, to: count }),
);

const toCoordinator: fc.Arbitrary<CoordinatorMessage> = fc.oneof(
  fc.record({
    kind: kind('granted'),
    tx,
    partition: count,
    key: text,
    mode,
    value,
    version: count,
    epoch: count,
    grant: count,
    contention: count,
  }),
  fc.record({ kind: kind('queued'), tx, partition: count, key: text, behind: text }),
  fc.record({ kind: kind('wound'), tx, partition: count, key: text, by: text }),
  fc.record({ kind: kind('lost'), tx, epoch: count, grant: count, refusal }),
  fc.record({
    kind: kind('elsewhere'),
    tx,
    partition: count,
    key: text,
    to: count,
    generation: count,
  }),
  fc.record({ kind: kind('outcome'), tx, refusal }, { requiredKeys: ['kind', 'tx'] }),
);

const envelope: fc.Arbitrary<Envelope> = fc.oneof(
  fc.record({ partition: count, message: toPartition }),
  fc.record({ partition: fc.constant(undefined), message: toCoordinator }),
);

const record: fc.Arbitrary<LogRecord> = fc.oneof(
  fc.record({
    kind: kind('prepare'),
    tx,
    home: count,
    coordinator: text,
    dependsOn: fc.array(text, { maxLength: 3 }),
    writes: versioned,
  }),
  fc.record({ kind: kind('decide'), tx, coordinator: text, writers, writes: versioned, emits }),
  fc.record({
    kind: fc.constantFrom(
      'commit' as const,
      'abort' as const,
      'end' as const,
      'published' as const,
    ),
    tx,
  }),
  fc.record({
    kind: kind('expire'),
    tx: fc.constant(''),
    items: fc.array(fc.tuple(text, count), { maxLength: 3 }),
  }),
  fc.record({
    kind: kind('layout'),
    tx: none,
    generation: count,
    from: count,
    to: count,
    left: partitions,
    moved: partitions,
    arrived: partitions,
  }),
  fc.record({ kind: fc.constantFrom('leaving' as const, 'moved' as const), tx: none, to: count }),
  fc.record({
    kind: kind('arriving'),
    tx: none,
    from: count,
    items: moved,
    last: fc.boolean(),
    version: count,
  }),
);

/** Bytes that are others now, and where the message ends. */
const mutations = fc.array(fc.tuple(fc.nat(10_000), fc.nat(255)), { minLength: 1, maxLength: 4 });

function mutated(
  bytes: Uint8Array,
  changes: readonly (readonly [at: number, byte: number])[],
  cut: number,
): Uint8Array {
  const copy = Buffer.from(bytes);
  for (const [at, byte] of changes) copy.writeUInt8(byte, at % copy.length);
  // Every other one keeps its length.
  return cut % 2 === 0 ? copy : copy.subarray(0, cut % copy.length);
}

function failureOf(read: () => unknown): unknown {
  try {
    read();
    return undefined;
  } catch (error) {
    return error;
  }
}

/** Objects without prototypes, byte arrays of any class: as plain data. */
const plain = (data: unknown): unknown =>
  JSON.parse(
    JSON.stringify(data, (_, each: unknown) => (each instanceof Uint8Array ? [...each] : each)),
    (_, each: unknown) =>
      each !== null && typeof each === 'object' && 'type' in each && 'data' in each
        ? each.data
        : each,
  );

describe('the wire', () => {
  it('brings every message as it was sent', () => {
    fc.assert(
      fc.property(fc.array(envelope, { maxLength: 5 }), (envelopes) => {
        const decoded = decodeEnvelopes(encodeEnvelopes(envelopes));
        expect(decoded.refused).toBe(0);
        expect(plain(decoded.envelopes)).toEqual(plain(envelopes));
      }),
    );
  });

  it('brings every record as it was written', () => {
    fc.assert(
      fc.property(fc.array(record, { maxLength: 5 }), (records) => {
        expect(plain(decodeRecords(encodeRecords(records)))).toEqual(plain(records));
      }),
    );
  });

  it('lets through only what has the right types, whatever comes, and reads on', () => {
    fc.assert(
      fc.property(
        fc.array(envelope, { minLength: 1, maxLength: 3 }),
        mutations,
        fc.nat(10_000),
        (envelopes, changes, cut) => {
          const good = encodeEnvelopes(envelopes);
          const decoded = decodeEnvelopes(mutated(good, changes, cut));
          for (const { partition, message } of decoded.envelopes) {
            expect(typeof message.tx).toBe('string');
            expect(partition === undefined || partition >= 0).toBe(true);
          }
          // What was let through can be sent on.
          const again = decodeEnvelopes(encodeEnvelopes(decoded.envelopes));
          expect(again.refused).toBe(0);
          // The reader has kept nothing of what it could not read.
          expect(plain(decodeEnvelopes(good).envelopes)).toEqual(plain(envelopes));
        },
      ),
      { numRuns: 2_000 },
    );
  });

  it('refuses records that are not whole, and reads on', () => {
    fc.assert(
      fc.property(
        fc.array(record, { minLength: 1, maxLength: 3 }),
        mutations,
        fc.nat(10_000),
        (records, changes, cut) => {
          const good = encodeRecords(records);
          // Whatever they have become, it ends, and does not harm what is read next.
          const error = failureOf(() => decodeRecords(mutated(good, changes, cut)));
          expect(error === undefined || error instanceof Error).toBe(true);
          for (let length = 0; length < good.length; length += 1) {
            expect(failureOf(() => decodeRecords(good.subarray(0, length)))).toBeInstanceOf(Error);
          }
          expect(plain(decodeRecords(good))).toEqual(plain(records));
        },
      ),
      { numRuns: 100 },
    );
  });

  it('lets nothing through of random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        const { envelopes } = decodeEnvelopes(bytes);
        // Each takes a kind, which no chance spells.
        expect(envelopes).toEqual([]);
      }),
      { numRuns: 2_000 },
    );
  });

  it.each([
    ['array', [0xdd, 0x00, 0xff, 0xff, 0xff]],
    ['larger array', [0xdd, 0xff, 0xff, 0xff, 0xff]],
    ['map', [0xdf, 0x00, 0xff, 0xff, 0xff]],
    ['binary', [0xc6, 0x7f, 0xff, 0xff, 0xff]],
    ['text', [0xdb, 0x7f, 0xff, 0xff, 0xff]],
    ['extension', [0xc9, 0x7f, 0xff, 0xff, 0xff, 0x42]],
    ['array of one', [0x91]],
    ['map of one', [0x81, 0xa1, 0x61]],
  ])('takes no memory for an %s that is announced and not there, however deep', (_, head) => {
    const bytes = Uint8Array.from(Array.from({ length: 50_000 }, () => head).flat());
    const before = process.resourceUsage().maxRSS;
    expect(decodeEnvelopes(bytes.subarray(0, head.length))).toEqual({ envelopes: [], refused: 1 });
    expect(decodeEnvelopes(bytes)).toEqual({ envelopes: [], refused: 1 });
    const grownKb = process.resourceUsage().maxRSS - before;
    expect(grownKb).toBeLessThan(64 * 1_024);
  });
});
