/** What of a function decides which events it gets and how they are told apart. */
import { createHash } from 'node:crypto';
import type { Schedule } from '../function/cron.ts';
import type { FunctionDefinition } from '../function/definition.ts';

const DIGITS = 12;

/**
 * Versions of a function with the same identity dispatch alike: the same subjects, key and schedule. One with another takes over
 * when no worker has the one before any more (SPEC.md, "A new version").
 */
export function identityOf({ on, key, cron }: FunctionDefinition): string {
  // The key's function by its text: what it calls may change unseen.
  const keyText = key === undefined ? undefined : digest(Function.prototype.toString.call(key));
  return digest(JSON.stringify([on.toSorted(), keyText, cron && scheduleText(cron)]));
}

/** Names a schedule, as a subject names what comes in a stream. */
export function scheduleText({ schedule, timeZone }: Schedule): string {
  return `${schedule} ${timeZone}`;
}

/** Has it events that are kept? */
export function isDurable({ delivery, on, cron }: FunctionDefinition): boolean {
  return delivery === 'durable' && (on.length > 0 || cron !== undefined);
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('base64url').slice(0, DIGITS);
}
