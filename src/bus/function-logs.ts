/** What followers of a function's log and the workers that run it say to each other. All are JSON. */
import { z } from 'zod';
import { functionNameReason } from '../core/names.ts';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** pino's numbers. */
export function levelNumber(level: LogLevel): number {
  return 10 * (LOG_LEVELS.indexOf(level) + 1);
}

export const MAX_TAIL_LINES = 10_000;
/** A follower says so again and again; one that died is forgotten after this time. */
export const MAX_LEASE_MS = 30_000;
const MAX_ID_LENGTH = 255;

const wanted = {
  /** The least that is wanted. */
  level: z.enum(LOG_LEVELS).optional(),
  invocation: z.string().max(MAX_ID_LENGTH).optional(),
};

export const logAskSchema = z.discriminatedUnion('what', [
  /** Answered with `logLinesSchema`. */
  z.object({
    what: z.literal('tail'),
    lines: z.number().int().min(1).max(MAX_TAIL_LINES),
    ...wanted,
  }),
  /** Lines go to the function's subject for `forMs` from now; 0 ends it. */
  z.object({
    what: z.literal('follow'),
    follower: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/),
    forMs: z.number().int().min(0).max(MAX_LEASE_MS),
    ...wanted,
  }),
]);
export type LogAsk = z.infer<typeof logAskSchema>;

export const logLinesSchema = z.object({
  worker: z.string(),
  /** JSON each, as pino has written them. */
  lines: z.array(z.string()),
  /** Lines that were left out since the message before: more were written than may be sent. */
  dropped: z.number().int().nonnegative(),
});
export type LogLines = z.infer<typeof logLinesSchema>;

/** The function that a subject ends in; undefined for what is no name. */
export function functionAsked(subject: string): string | undefined {
  const name = subject.slice(subject.lastIndexOf('.') + 1);
  return functionNameReason(name) === undefined ? name : undefined;
}
