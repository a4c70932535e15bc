/** What belongs to a run that has succeeded, before it is committed: word of the kept answers that it makes wrong. */
import { MillraceError } from '../core/errors.ts';
import type { FunctionEvent } from '../function/context.ts';
import type { LoadedFunction } from '../function/load.ts';
import type { Invocation } from './invocation.ts';
import type { RunnerHost } from './runner-host.ts';

/** Throws FUNCTION_FAILED where a function whose answers are kept has changed something, or a key cannot be found. */
export function complete(
  invocation: Invocation,
  { name, definition: { cache, invalidates } }: LoadedFunction,
  { wrong }: RunnerHost,
): void {
  const { attempt, emits, event } = invocation;
  if (cache !== undefined && (emits.length > 0 || attempt?.wrote === true)) {
    throw new MillraceError(
      'FUNCTION_FAILED',
      `${name} has the option cache, so it must not write or emit: kept answers do neither.`,
    );
  }
  if (invalidates.length === 0 && attempt?.wrote !== true) return;
  const functions = event === undefined ? [] : invalidates.map((each) => namedBy(each, event));
  const said = wrong(attempt?.wrote === true ? attempt.transaction.written : [], functions);
  if (said !== undefined) invocation.addEvent(said);
}

function namedBy(
  each: LoadedFunction['definition']['invalidates'][number],
  event: FunctionEvent,
): [name: string, keys: string[] | null] {
  if (typeof each === 'string') return [each, null];
  const keys = (event.batch ?? [event]).map((one) => each.key(one));
  if (keys.every((key) => typeof key === 'string')) return [each.function, keys];
  throw new MillraceError(
    'FUNCTION_FAILED',
    `The key for the answers of ${each.function} is no text.`,
  );
}
