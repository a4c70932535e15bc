/** What a newer millrace has written: docs/upgrade.md. Told apart from what is damaged, whose checksum is wrong. */
import { MillraceError } from './errors.ts';

/**
 * How workers talk with each other: frames, envelopes, control messages, and what their logs hold. Grows by one with each change that
 * the version before could not read; two workers may run side by side whose numbers differ by one at most.
 */
export const PROTOCOL = 1;

/** Of a worker that doesn't say so: from before it was said. */
export const FIRST_PROTOCOL = 1;

/** `what` begins the sentence. */
export function newerVersion(what: string, found: number, known: number): MillraceError {
  return new MillraceError(
    'NEWER_VERSION',
    `${what} is of format ${found}, written by a newer version of millrace; this one reads up to ${known}. Nothing was changed: run the newer version.`,
    { details: { found, known } },
  );
}
