/** When an event is to be published: `delayMs` and `at`, as users give them; and that it has been. */
import { z } from 'zod';
import { MillraceError } from './errors.ts';
import { quote } from './names.ts';

/** An event that is to come later waits in a stream, and what lies there for ever was hardly meant: 366 days. */
export const MAX_DELAY_MS = 366 * 86_400_000;

export interface When {
  /** Publish it so much later, in milliseconds from the call: an integer from 0 (at once) to 366 days. */
  delayMs?: number;
  /**
   * Publish it then: a Date, or ISO 8601 text with its zone, such as `2026-12-24T18:00:00Z`; at most 366 days ahead. A time that
   * is over means at once. Not together with `delayMs`.
   */
  at?: Date | string;
}

const isoSchema = z.iso.datetime({ offset: true });

/** In milliseconds since 1970; undefined for an event that is to be published at once. Throws INVALID_INPUT. */
export function dueMsOf({ delayMs, at }: When, nowMs: number): number | undefined {
  if (delayMs !== undefined && at !== undefined) {
    throw refused('An event has either delayMs or at, not both');
  }
  if (delayMs !== undefined) {
    if (!Number.isInteger(delayMs) || delayMs < 0 || delayMs > MAX_DELAY_MS) {
      const given = typeof delayMs === 'number' ? String(delayMs) : quote(delayMs);
      throw refused(
        `delayMs must be an integer from 0 to ${MAX_DELAY_MS} (milliseconds, at most 366 days), not ${given}`,
      );
    }
    return delayMs === 0 ? undefined : nowMs + delayMs;
  }
  if (at === undefined) return undefined;
  const dueMs = timeOf(at);
  if (dueMs - nowMs > MAX_DELAY_MS) {
    throw refused(
      `at must be at most 366 days ahead, and ${new Date(dueMs).toISOString()} is further`,
    );
  }
  return dueMs <= nowMs ? undefined : dueMs;
}

/** As long as streams of the platform's own remember an id. */
const ID_REMEMBERED_MS = 120_000;

/** That an event was published `nowMs` because it was due: a value that goes after `keepMs`. All times since 1970. */
export function writePublished(dueMs: number, nowMs: number, keepMs: number): string {
  return JSON.stringify([nowMs + keepMs, dueMs, nowMs]);
}

/**
 * Was it published before? Under its id and for the same time: surely. Under its id for another time: then it is what streams
 * call a duplicate, for as long as they do, and a new event after that. A clock that was set back must not make that long time longer.
 */
export function wasPublished(value: string | null, dueMs: number, nowMs: number): boolean {
  if (value === null) return false;
  const [, beforeDueMs, beforeMs] = JSON.parse(value) as [number, number, number];
  return beforeDueMs === dueMs || Math.abs(nowMs - beforeMs) < ID_REMEMBERED_MS;
}

function timeOf(at: unknown): number {
  if (at instanceof Date) {
    const timeMs = at.getTime();
    if (!Number.isNaN(timeMs)) return timeMs;
    throw refused('at is a Date without a time ("Invalid Date")');
  }
  if (isoSchema.safeParse(at).success) return Date.parse(at as string);
  throw refused(
    `at must be a Date, or ISO 8601 text with its zone such as "2026-12-24T18:00:00Z", not ${quote(at)}`,
  );
}

function refused(why: string): MillraceError {
  return new MillraceError('INVALID_INPUT', `${why}.`);
}
