import type { Logger } from 'pino';
import { MillraceError } from '../core/errors.ts';
import { isInterrupted } from '../state/attempt.ts';

/**
 * Logs what user code has thrown, under `err`. Never throws itself: the logger reads all that the value has, whose
 * getters may throw, and writes to where writing may fail; neither must keep a slot taken or end the worker.
 */
export function logThrown(
  log: Logger,
  level: 'debug' | 'warn' | 'error',
  facts: object,
  thrown: unknown,
  message: string,
): void {
  try {
    log[level]({ ...facts, err: thrown }, message);
  } catch {
    try {
      log[level](facts, message);
    } catch {
      // There is nowhere left to say it.
    }
  }
}

/** False for what a function that was called has refused, and for a run that another transaction interrupted. Never throws. */
export function isUnexpected(thrown: unknown): boolean {
  try {
    const refused = thrown instanceof MillraceError && thrown.code === 'INVALID_INPUT';
    return !refused && !isInterrupted(thrown);
  } catch {
    // What cannot even be looked at.
    return true;
  }
}
