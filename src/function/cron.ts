/** When a function with `cron` is due. */
import { Cron as Pattern } from 'croner';
import { quote } from '../core/names.ts';

/** What becomes of ticks for which no worker was there: the last one of them is made up for, or none, or each. */
export type MissedTicks = 'last' | 'skip' | 'all';

export interface Schedule {
  /** Five fields, or six with seconds first, or a nickname such as `@daily`. */
  schedule: string;
  /** IANA name. */
  timeZone: string;
  missed: MissedTicks;
}
export type CronOption =
  string | { schedule: string; timeZone?: string | undefined; missed?: MissedTicks | undefined };

const OPTIONS = ['schedule', 'timeZone', 'missed'];
const MISSED: readonly unknown[] = ['last', 'skip', 'all', undefined];
/** A tick that is younger is none that was missed: another worker takes over within seconds. */
const GRACE_MS = 60_000;

/** Why it is none, to be put behind "cron", or undefined. */
export function cronReason(given: unknown): string | undefined {
  const option: unknown = typeof given === 'string' ? { schedule: given } : given;
  if (typeof option !== 'object' || option === null || Array.isArray(option)) {
    return "must be an expression such as '*/5 * * * *', or { schedule, timeZone, missed }";
  }
  const unknown = Object.keys(option).find((name) => !OPTIONS.includes(name));
  if (unknown !== undefined) return `has no option ${quote(unknown)}`;
  const { schedule, timeZone, missed } = option as Record<string, unknown>;
  if (!MISSED.includes(missed)) return "has missed, which must be 'last', 'skip' or 'all'";
  if (timeZone !== undefined && !isTimeZone(timeZone)) {
    return `has the time zone ${quote(timeZone)}, which is none: use a name such as 'Europe/Berlin'`;
  }
  // A date is no pattern: it would come once.
  if (typeof schedule !== 'string' || !/^@|\s/.test(schedule.trim())) {
    return `has the schedule ${quote(schedule)}, which is no cron expression`;
  }
  try {
    const next = patternOf(toSchedule(option as CronOption)).nextRun();
    return next === null ? `has the schedule ${quote(schedule)}, which never comes` : undefined;
  } catch (error) {
    const why = (error as Error).message.replace(/^CronPattern: /, '');
    return `has the schedule ${quote(schedule)}, which is no cron expression: ${why.replace(/\.$/, '')}`;
  }
}

/** What was left out is filled in. Only for what has no reason against it. */
export function toSchedule(option: CronOption): Schedule {
  const given = typeof option === 'string' ? { schedule: option } : option;
  const { schedule, timeZone = 'UTC', missed = 'last' } = given;
  return { schedule, timeZone, missed };
}

/** Says which ticks are due. All times in milliseconds since 1970. */
export class Ticks {
  readonly #pattern: Pattern;
  readonly #missed: MissedTicks;

  constructor(schedule: Schedule) {
    this.#pattern = patternOf(schedule);
    this.#missed = schedule.missed;
  }

  /** The first tick at `fromMs` or later that is to be run, seen from `nowMs`: it may be due later. Undefined: there is none. */
  first(fromMs: number, nowMs: number): number | undefined {
    const graceMs = nowMs - GRACE_MS;
    if (this.#missed === 'all' || fromMs >= graceMs) return this.#from(fromMs);
    if (this.#missed === 'last') {
      // The end is not included.
      const [last] = this.#pattern.previousRuns(1, new Date(graceMs));
      if (last !== undefined && last.getTime() >= fromMs) return last.getTime();
    }
    return this.#from(graceMs);
  }

  #from(fromMs: number): number | undefined {
    return this.#pattern.nextRun(new Date(fromMs - 1))?.getTime();
  }
}

function patternOf({ schedule, timeZone }: Schedule): Pattern {
  return new Pattern(schedule.trim(), { timezone: timeZone, paused: true });
}

function isTimeZone(name: unknown): boolean {
  if (typeof name !== 'string') return false;
  try {
    return Boolean(Intl.DateTimeFormat('en', { timeZone: name }));
  } catch {
    return false;
  }
}
