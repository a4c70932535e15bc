import { describe, expect, it } from 'vitest';
import { cronReason, Ticks, toSchedule, type CronOption } from '../../src/function/cron.ts';

const at = (text: string): number => Date.parse(text);
/** What a worker runs that begins at `from` and looks at `now`, up to `count`. */
const due = (option: CronOption, from: string, now: string, count = 10): string[] => {
  const ticks = new Ticks(toSchedule(option));
  const found: string[] = [];
  let tick = ticks.first(at(from), at(now));
  while (tick !== undefined && tick <= at(now) && found.length < count) {
    found.push(new Date(tick).toISOString());
    tick = ticks.first(tick + 1, at(now));
  }
  return found;
};

describe('a schedule', () => {
  it.each([
    ['*/5 * * * *'],
    ['0 9 * * MON-FRI'],
    ['*/10 * * * * *'],
    ['@daily'],
    [{ schedule: '0 9 * * *', timeZone: 'Europe/Berlin', missed: 'skip' }],
    [{ schedule: '0 9 * * *', timeZone: undefined, missed: undefined }],
  ])('may be %j', (option) => {
    expect(cronReason(option)).toBeUndefined();
  });

  it.each([
    ['every day', /no cron expression/],
    ['61 * * * *', /no cron expression: Invalid value for minute/],
    ['* * *', /no cron expression/],
    ['', /no cron expression/],
    ['2030-01-01T00:00:00', /no cron expression/],
    ['0 0 30 2 *', /never comes/],
    [7, /must be an expression/],
    [['* * * * *'], /must be an expression/],
    [
      { schedule: '* * * * *', timeZone: 'Mars/Olympus' },
      /time zone "Mars\/Olympus", which is none/,
    ],
    [{ schedule: '* * * * *', timeZone: 2 }, /time zone/],
    [{ schedule: '* * * * *', missed: 'some' }, /missed/],
    [{ schedule: '* * * * *', timezone: 'UTC' }, /no option "timezone"/],
    [{}, /no cron expression/],
  ])('may not be %j', (option, reason) => {
    expect(cronReason(option)).toMatch(reason);
  });

  it('is due at each of its times, the first included', () => {
    expect(due('*/5 * * * *', '2026-01-01T00:00:00Z', '2026-01-01T00:00:59Z')).toEqual([
      '2026-01-01T00:00:00.000Z',
    ]);
    expect(due('* * * * * *', '2026-01-01T00:00:00.001Z', '2026-01-01T00:00:02Z')).toEqual([
      '2026-01-01T00:00:01.000Z',
      '2026-01-01T00:00:02.000Z',
    ]);
  });

  it('follows its time zone, also where clocks are changed', () => {
    const daily = { schedule: '30 2 * * *', timeZone: 'Europe/Berlin', missed: 'all' } as const;
    // 02:30 does not exist on the 29th of March.
    expect(due(daily, '2026-03-28T00:00:00Z', '2026-03-30T12:00:00Z')).toEqual([
      '2026-03-28T01:30:00.000Z',
      '2026-03-29T01:00:00.000Z',
      '2026-03-30T00:30:00.000Z',
    ]);
    // It exists twice on the 25th of October, and is due once.
    expect(due(daily, '2026-10-24T12:00:00Z', '2026-10-26T12:00:00Z')).toHaveLength(2);
  });

  it('makes up for the last missed tick, none or all, as it says', () => {
    const missed = (policy: 'last' | 'skip' | 'all'): string[] =>
      due(
        { schedule: '0 * * * *', missed: policy },
        '2026-01-01T00:30:00Z',
        '2026-01-01T05:30:00Z',
      );
    expect(missed('last')).toEqual(['2026-01-01T05:00:00.000Z']);
    expect(missed('skip')).toEqual([]);
    expect(missed('all')).toHaveLength(5);
  });

  it('takes no tick for missed that another worker may just have left', () => {
    const option = { schedule: '*/20 * * * * *', missed: 'skip' } as const;
    expect(due(option, '2026-01-01T00:00:00Z', '2026-01-01T00:01:30Z')).toEqual([
      '2026-01-01T00:00:40.000Z',
      '2026-01-01T00:01:00.000Z',
      '2026-01-01T00:01:20.000Z',
    ]);
  });
});
