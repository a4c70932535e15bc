/** What a handler is given, out of what came in, and what it gives: both held against its schemas. */
import type { PayloadLimits } from '../core/payload.ts';
import type { DispatchedEvent } from '../delivery/outcome.ts';
import type { FunctionEvent } from '../function/context.ts';
import type { LoadedFunction } from '../function/load.ts';
import { readData, validate, type Validation } from '../function/schema.ts';
import { eventOf, type Incoming } from './invocation.ts';
import { isPromiseLike } from './promise-like.ts';
import { invalidInput, invalidOutput } from './refusals.ts';

/** At once where the schema answers at once. Throws, or rejects with, INVALID_INPUT and PAYLOAD_TOO_LARGE. */
export function readEvent(
  incoming: Incoming,
  loaded: LoadedFunction,
  limits: PayloadLimits,
): FunctionEvent | Promise<FunctionEvent> {
  const { batch, type, body } = incoming;
  if (batch !== undefined) return readBatch(batch, loaded, limits);
  const checked = readData(type, body, loaded.definition.input, limits);
  const accepted = (validation: Validation): FunctionEvent => {
    if (validation.ok) return eventOf(incoming, validation.value);
    throw invalidInput(loaded.name, validation.issues);
  };
  return isPromiseLike(checked) ? checked.then(accepted) : accepted(checked);
}

async function readBatch(
  batch: readonly DispatchedEvent[],
  { name, definition: { input } }: LoadedFunction,
  limits: PayloadLimits,
): Promise<FunctionEvent> {
  const events: FunctionEvent[] = [];
  for (const { delivery, type, body, headers } of batch) {
    const { id, subject, attempt, timeMs } = delivery;
    const checked = await readData(type, body, input, limits);
    if (!checked.ok) throw invalidInput(name, checked.issues);
    const data = checked.value;
    events.push({ id, subject, data, headers, time: new Date(timeMs), attempt });
  }
  return { ...(events[0] as FunctionEvent), batch: events };
}

/** A result, or a part of one. At once where the schema answers at once. Throws, or rejects with, FUNCTION_FAILED. */
export function checkedOutput(
  { name, definition: { output } }: LoadedFunction,
  value: unknown,
): unknown {
  if (output === undefined) return value;
  const checked = validate(output, value);
  const accepted = (validation: Validation): unknown => {
    if (validation.ok) return validation.value;
    throw invalidOutput(name, validation.issues);
  };
  return isPromiseLike(checked) ? checked.then(accepted) : accepted(checked);
}
