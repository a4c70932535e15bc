import type { MillraceError } from '../../core/errors.ts';
import type { Invocation, InvocationHost } from '../invocation.ts';
import { isUnexpected, logThrown } from '../log-thrown.ts';
import { idsOf } from './ids.ts';

/** What a run has failed with. `thrown`: by the function, or the error itself. Never throws. */
export function logFailure(
  host: InvocationHost,
  functionName: string,
  invocation: Invocation,
  { code, message }: MillraceError,
  thrown: unknown,
): void {
  const facts = { ...idsOf(invocation), code };
  const unexpected = code !== 'INVALID_INPUT' && isUnexpected(thrown);
  // What is done about a failed event its dispatcher says.
  const level = invocation.incoming.delivery === undefined ? 'error' : 'warn';
  logThrown(host.logOf(functionName), unexpected ? level : 'debug', facts, thrown, message);
}
