import type { Logger } from 'pino';

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
