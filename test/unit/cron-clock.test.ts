/** Ticks while the clock is set: each once, none for a time that was before. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { CronTail } from '../../src/delivery/cron-tail.ts';
import { toSchedule } from '../../src/function/cron.ts';

const START_MS = Date.parse('2027-03-01T12:00:00Z');
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

let tails: CronTail[];
beforeEach(() => {
  vi.useFakeTimers({ now: START_MS });
  tails = [];
});
afterEach(() => {
  for (const tail of tails) tail.close();
  vi.useRealTimers();
});

/** Minutes after the start, of the ticks that it has told. */
function ticksOf(missed: 'last' | 'skip' | 'all'): number[] {
  const told: number[] = [];
  const tail = new CronTail({
    functionName: 'f',
    schedule: toSchedule({ schedule: '* * * * *', missed }),
    subject: 's',
    open: [],
    from: START_MS,
    room: () => 1,
    onEvent: ({ sequence }) => told.push((sequence - START_MS) / MINUTE_MS),
  });
  tails.push(tail);
  return told;
}

describe('a schedule', () => {
  it.each([
    ['last', [0, 1, 2, 60, 61, 62]],
    ['skip', [0, 1, 2, 60, 61, 62]],
    ['all', Array.from({ length: 63 }, (_, index) => index)],
  ] as const)('makes up for what a clock has skipped, as it says: %s', (missed, wanted) => {
    const told = ticksOf(missed);
    vi.advanceTimersByTime(2 * MINUTE_MS + 1_000);
    // It looks again within a minute.
    vi.setSystemTime(START_MS + HOUR_MS - 30_000);
    vi.advanceTimersByTime(3 * MINUTE_MS);
    expect(told.filter((minute) => minute < 3 || minute >= 60)).toEqual(
      wanted.filter((minute) => minute < 3 || minute >= 60),
    );
    const between = told.filter((minute) => minute >= 3 && minute < 60);
    expect(between.length).toBe(missed === 'all' ? 57 : missed === 'last' ? 1 : 0);
  });

  it('tells no tick again when the clock is set back', () => {
    const told = ticksOf('all');
    vi.advanceTimersByTime(2 * MINUTE_MS + 1_000);
    vi.setSystemTime(START_MS - HOUR_MS);
    vi.advanceTimersByTime(HOUR_MS + 2 * MINUTE_MS);
    expect(told).toEqual([0, 1, 2]);
    vi.advanceTimersByTime(2 * MINUTE_MS);
    expect(told).toEqual([0, 1, 2, 3, 4]);
  });
});
