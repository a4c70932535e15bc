/** The checker itself: histories made by hand, each with one anomaly. */
import { describe, expect, it } from 'vitest';
import { checkHistory, type Operation } from '../support/serializability.ts';

interface Short {
  reads?: Record<string, number[]>;
  appends?: string[];
  /** From when to when; all at once unless it is said. */
  time?: readonly [number, number];
  status?: Operation['status'];
}

/** `operations` by their number, `final` the lists at the end. */
function found(operations: Record<number, Short>, final: Record<string, number[]>): string {
  const history = Object.entries(operations).map(([id, short]): Operation => ({
    id: Number(id),
    startMs: short.time?.[0] ?? 0,
    endMs: short.time?.[1] ?? 100,
    status: short.status ?? 'ok',
    reads: Object.entries(short.reads ?? {}).map(([key, list]) => ({ key, list })),
    appends: short.appends ?? [],
  }));
  return checkHistory(history, new Map(Object.entries(final))).join('\n');
}

describe('a history that is strictly serializable passes', () => {
  it('when one follows the other', () => {
    const operations: Record<number, Short> = {
      1: { reads: { x: [] }, appends: ['x'], time: [0, 1] },
      2: { reads: { x: [1] }, appends: ['x', 'y'], time: [2, 3] },
      3: { reads: { x: [1, 2], y: [2] }, time: [4, 5] },
    };
    expect(found(operations, { x: [1, 2], y: [2] })).toBe('');
  });

  it('when those at one time are ordered in another way than they began', () => {
    const operations: Record<number, Short> = {
      1: { reads: { x: [2] }, appends: ['x'], time: [0, 10] },
      2: { reads: { x: [] }, appends: ['x'], time: [5, 8] },
      3: { reads: { x: [] }, time: [1, 9] },
    };
    expect(found(operations, { x: [2, 1] })).toBe('');
  });

  it('when an unknown outcome is either', () => {
    const unknown: Record<number, Short> = { 1: { appends: ['x', 'y'], status: 'unknown' } };
    expect(found(unknown, { x: [1], y: [1] })).toBe('');
    expect(found(unknown, {})).toBe('');
  });

  it('when an unknown outcome comes after it was reported', () => {
    const operations: Record<number, Short> = {
      1: { appends: ['x'], status: 'unknown', time: [0, 1] },
      2: { reads: { x: [] }, time: [2, 3] },
    };
    expect(found(operations, { x: [1] })).toBe('');
  });

  it('when what was aborted has read what it liked', () => {
    expect(found({ 1: { reads: { x: [9] }, appends: ['x'], status: 'failed' } }, {})).toBe('');
  });
});

describe('checkHistory finds', () => {
  it('a dirty write (G0)', () => {
    const operations = { 1: { appends: ['x', 'y'] }, 2: { appends: ['x', 'y'] } };
    expect(found(operations, { x: [1, 2], y: [2, 1] })).toContain('(G0)');
  });

  it('circular reads (G1c)', () => {
    const operations = {
      1: { reads: { y: [2] }, appends: ['x'] },
      2: { reads: { x: [1] }, appends: ['y'] },
    };
    expect(found(operations, { x: [1], y: [2] })).toContain('(G1c)');
  });

  it('a lost update', () => {
    const operations = {
      1: { reads: { x: [] }, appends: ['x'] },
      2: { reads: { x: [] }, appends: ['x'] },
    };
    expect(found(operations, { x: [2] })).toBe('1 was committed and is lost');
    expect(found(operations, { x: [1, 2] })).toContain('(G-single) 1 -ww x-> 2 -rw x-> 1');
  });

  it('a read of what was aborted', () => {
    const operations: Record<number, Short> = {
      1: { appends: ['x'], status: 'failed' },
      2: { reads: { x: [1] } },
    };
    expect(found(operations, {})).toBe('2 read x as [1], which it never was');
  });

  it('a dirty read of what another order made of it', () => {
    const operations = { 1: { appends: ['x'] }, 2: { appends: ['x'] }, 3: { reads: { x: [2] } } };
    expect(found(operations, { x: [1, 2] })).toBe('3 read x as [2], which it never was');
  });

  it('an intermediate read: one key with the write, the other without', () => {
    const operations = { 1: { appends: ['x', 'y'] }, 2: { reads: { x: [1], y: [] } } };
    expect(found(operations, { x: [1], y: [1] })).toContain('(G-single)');
  });

  it('read skew over two writers', () => {
    const operations = {
      1: { reads: { x: [] }, appends: ['x'] },
      2: { reads: { x: [1] }, appends: ['y'] },
      3: { reads: { x: [], y: [2] } },
    };
    expect(found(operations, { x: [1], y: [2] })).toContain('(G-single)');
  });

  it('write skew (G2)', () => {
    const operations = {
      1: { reads: { x: [], y: [] }, appends: ['x'] },
      2: { reads: { x: [], y: [] }, appends: ['y'] },
    };
    expect(found(operations, { x: [1], y: [2] })).toContain('(G2)');
  });

  it('write skew of one whose outcome nobody was told', () => {
    const operations: Record<number, Short> = {
      1: { reads: { x: [], y: [] }, appends: ['x'] },
      2: { reads: { x: [], y: [] }, appends: ['y'], status: 'unknown' },
    };
    expect(found(operations, { x: [1], y: [2] })).toContain('(G2)');
    expect(found(operations, { x: [1] })).toBe('');
  });

  it('a stale read', () => {
    const operations: Record<number, Short> = {
      1: { appends: ['x'], time: [0, 1] },
      2: { reads: { x: [] }, time: [2, 3] },
    };
    expect(found(operations, { x: [1] })).toContain('(against real time) 1 -time-> 2 -rw x-> 1');
    operations[2] = { reads: { x: [] }, time: [0.5, 3] };
    expect(found(operations, { x: [1] })).toBe('');
  });

  it('an order of two writers against real time', () => {
    const operations: Record<number, Short> = {
      1: { appends: ['x'], time: [0, 1] },
      2: { appends: ['x'], time: [2, 3] },
    };
    expect(found(operations, { x: [2, 1] })).toContain('(against real time)');
  });

  it('an order against real time that shows only by way of a third', () => {
    const operations: Record<number, Short> = {
      1: { appends: ['x'], time: [0, 1] },
      2: { reads: { y: [3], x: [] }, time: [0, 20] },
      3: { appends: ['y'], time: [5, 6] },
    };
    expect(found(operations, { x: [1], y: [3] })).toContain('(against real time)');
  });

  it('a write that is there twice', () => {
    expect(found({ 1: { appends: ['x'] } }, { x: [1, 1] })).toBe('x has 1 twice');
  });

  it('half a transaction', () => {
    const half: Record<number, Short> = { 1: { appends: ['x', 'y'], status: 'unknown' } };
    expect(found(half, { x: [1] })).toBe('1 was committed by half');
    expect(found(half, { y: [1] })).toBe('1 was committed by half');
  });

  it('a lost write, and a refusal that was none', () => {
    expect(found({ 1: { appends: ['x'] } }, {})).toBe('1 was committed and is lost');
    const refused: Record<number, Short> = { 1: { appends: ['x'], status: 'failed' } };
    expect(found(refused, { x: [1] })).toBe('x has 1, which was aborted');
  });

  it('writes of nobody, and to keys that were not written to', () => {
    expect(found({}, { x: [7] })).toBe('x has 7, which nobody appended');
    expect(found({ 1: { appends: ['x'] } }, { x: [1], y: [1] })).toContain('y has 1, which nobody');
  });
});
