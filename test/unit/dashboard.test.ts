/** What the dashboard works out before it draws: pure. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { Run } from '../../src/bus/run-traces.ts';
import { KeyRing } from '../../src/core/key-ring.ts';
import { hash32 } from '../../src/core/hash.ts';
import type { TransactionReport } from '../../src/core/state-report.ts';
import { arcPath, placesOf, sharesOf } from '../../src/gateway/dashboard/arcs.ts';
import { age, bytes, duration } from '../../src/gateway/dashboard/format.ts';
import { functionRates, growth, movesBetween } from '../../src/gateway/dashboard/rates.ts';
import { sizeOf, waitTrees } from '../../src/gateway/dashboard/waits.ts';
import { waterfallOf } from '../../src/gateway/dashboard/waterfall.ts';
import type { FunctionRow, LiveParts } from '../../src/gateway/live-parts.ts';

const run = (id: string, startedAtMs: number, more: Partial<Run> = {}): Run => ({
  trace: 't',
  run: id,
  function: id,
  version: 'v',
  worker: 'w',
  invocation: id,
  subject: 's',
  attempt: 1,
  runs: 1,
  startedAtMs,
  handlerMs: 4,
  durationMs: 6,
  emitted: [],
  calls: [],
  more: 0,
  ...more,
});

describe('a waterfall', () => {
  it('has what a run has caused below it, from when the first event was stored', () => {
    const runs = [
      run('mail', 130, { parent: 'pay' }),
      run('order', 110, { storedAtMs: 100 }),
      run('pay', 120, { parent: 'order', storedAtMs: 117 }),
      run('price', 111, { parent: 'order', durationMs: 2, handlerMs: 2 }),
    ];
    const { rows, durationMs, beganMs } = waterfallOf(runs);
    expect(
      rows.map(({ run: { run: id }, depth, fromMs, waitedMs, commitMs }) => [
        id,
        depth,
        fromMs,
        waitedMs,
        commitMs,
      ]),
    ).toEqual([
      ['order', 0, 0, 10, 2],
      ['price', 1, 11, 0, 0],
      ['pay', 1, 17, 3, 2],
      ['mail', 2, 30, 0, 2],
    ]);
    expect([beganMs, durationMs]).toEqual([100, 36]);
  });

  it('shows runs whose cause it does not know, and those that name each other as theirs, at most once', () => {
    const lost = waterfallOf([run('child', 5, { parent: 'unknown' })]);
    expect(lost.rows.map(({ depth }) => depth)).toEqual([0]);
    expect(waterfallOf([run('self', 5, { parent: 'self' })]).rows).toHaveLength(1);
    const circle = waterfallOf([
      run('a', 5, { parent: 'b' }),
      run('b', 6, { parent: 'a' }),
      run('c', 7),
    ]);
    expect(circle.rows.map(({ run: { run: id } }) => id)).toEqual(['c']);
    expect(waterfallOf([])).toEqual({ rows: [], beganMs: 0, durationMs: 0 });
  });
});

describe('who waits for whom', () => {
  const transaction = (id: string, ...behind: string[]): TransactionReport => ({
    id,
    state: 'locking',
    coordinator: 'w',
    participants: [1],
    ageMs: 1,
    waitsFor: behind.map((each) => ({ key: `c/${each}`, partition: 1, transaction: each })),
  });

  it('is a tree below each transaction that others wait for', () => {
    const trees = waitTrees([
      transaction('a'),
      transaction('b', 'a'),
      transaction('c', 'b'),
      transaction('d', 'a'),
      transaction('x'),
    ]);
    expect(trees).toHaveLength(1);
    expect(trees[0]).toMatchObject({
      id: 'a',
      waiting: [{ id: 'b', wants: [{ key: 'c/a' }], waiting: [{ id: 'c' }] }, { id: 'd' }],
    });
    expect(sizeOf(trees[0] as (typeof trees)[0])).toBe(3);
  });

  it('has an end where two reports of different moments make a circle, and names holders that are not reported', () => {
    const circle = waitTrees([transaction('a', 'b'), transaction('b', 'a')]);
    expect(circle.map(({ id }) => id)).toHaveLength(1);
    expect(waitTrees([transaction('a', 'gone')])[0]).toMatchObject({
      id: 'gone',
      transaction: undefined,
    });
  });
});

describe('the ring', () => {
  it('has each partition where its keys are, and as wide as its share', () => {
    const places = placesOf(8);
    const ring = new KeyRing(8);
    for (let at = 0; at < 2_000; at += 1) {
      const place = Math.floor((hash32(`key ${at}`) / 2 ** 32) * places.length);
      expect(places[place]).toBe(ring.partitionOf(`key ${at}`));
    }
    const shares = sharesOf(places, 8);
    expect(shares.at(-1)?.to).toBeCloseTo(1);
    for (const { share } of shares) expect(share).toBeGreaterThan(0.08);
  });

  it('is whole with one partition, too', () => {
    expect(arcPath(0, 1, 10, 20).match(/Z/g)).toHaveLength(2);
  });

  it('tells moves: partitions whose owner is another one', () => {
    const rows = (...owners: (string | null)[]) =>
      owners.map((owner, id) => ({ id, owner })) as LiveParts['partitions'];
    expect(movesBetween(rows('a', 'b', 'c'), rows('a', 'a', null), 7)).toEqual([
      { atMs: 7, partition: 1, from: 'a', to: 'b' },
      { atMs: 7, partition: 2, from: null, to: 'c' },
    ]);
    expect(movesBetween(rows('a'), [], 7)).toEqual([]);
  });
});

describe('rates', () => {
  it('are what counters have grown by, and nothing where they have begun anew or are seen for the first time', () => {
    expect(growth(30, 10, 2_000)).toBe(10);
    expect(growth(3, 10, 2_000)).toBe(0);
    const row = (name: string, calls: number): FunctionRow =>
      ({ name, calls, errors: 0 }) as FunctionRow;
    const rates = functionRates([row('old', 30), row('new', 500)], [row('old', 10)], 1_000);
    expect([rates.get('old')?.calls, rates.get('new')?.calls]).toEqual([20, 0]);
  });
});

describe('numbers', () => {
  it('have units that fit', () => {
    expect([0.02, 0.5, 4.25, 250, 2_500, 75_000].map(duration)).toEqual([
      '20 µs',
      '0.50 ms',
      '4.3 ms',
      '250 ms',
      '2.50 s',
      '1 min 15 s',
    ]);
    expect([59_000, 3_700_000, 90_000_000].map(age)).toEqual(['59 s', '1 h 1 min', '1 d 1 h']);
    expect([12, 2_048, 5 * 1024 ** 2].map(bytes)).toEqual(['12 B', '2.0 KiB', '5.0 MiB']);
  });
});

describe('the page', () => {
  const directory = fileURLToPath(new URL('../../dist/gateway/dashboard/', import.meta.url));
  const LIMIT_BYTES = 150_000;

  it.skipIf(!existsSync(directory))('has less than 150 KB, compressed', () => {
    const files = readdirSync(directory);
    expect(files.sort()).toEqual(['app.js', 'icon.svg', 'index.html', 'style.css']);
    const sum = files.reduce(
      (total, file) => total + gzipSync(readFileSync(`${directory}${file}`)).length,
      0,
    );
    expect(sum).toBeLessThan(LIMIT_BYTES);
  });
});
