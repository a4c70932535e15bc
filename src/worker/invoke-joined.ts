/** A call of a handler's: the called function takes part in its transaction. */
import { isUnclear } from '../bus/call-errors.ts';
import type { Caller } from '../bus/caller.ts';
import { invokeThrough, type InternalOptions, type InvokeOptions } from '../bus/invoke.ts';
import type { MillraceError } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import { encodeRef, type Joinable } from '../state/join.ts';

/**
 * When its worker dies it is called again only if it has not touched the transaction: it would meet what it wrote the first time. Otherwise the
 * transaction is given up and the handler that began it runs again.
 */
export async function invokeJoined(
  caller: Caller,
  settings: Settings,
  transaction: Joinable,
  name: string,
  data: unknown,
  options: InvokeOptions & InternalOptions & { timeoutMs: number },
): Promise<unknown> {
  const untilMs = performance.now() + options.timeoutMs;
  const { retry = true } = options;
  for (let tries = 1; ; tries += 1) {
    const before = transaction.operations;
    const timeoutMs = Math.max(1, untilMs - performance.now());
    const call = { ...options, timeoutMs, retry: false, transaction: encodeRef(transaction.ref) };
    try {
      return await invokeThrough(caller, settings, name, data, call);
    } catch (error) {
      if (!isUnclear(error)) throw error;
      const untouched = transaction.operations === before;
      const again = retry && tries < settings.maxCallAttempts;
      if (untouched && again && (error as MillraceError).code === 'UNAVAILABLE') continue;
      if (!untouched) await transaction.interrupt();
      throw error;
    }
  }
}
