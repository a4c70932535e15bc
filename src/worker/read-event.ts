/** What a handler is given, out of what came in. */
import { decodePayload, type PayloadLimits } from '../core/payload.ts';
import type { DispatchedEvent } from '../delivery/outcome.ts';
import type { FunctionEvent } from '../function/context.ts';
import type { LoadedFunction } from '../function/load.ts';
import { validate, type Validation } from '../function/schema.ts';
import { eventOf, type Incoming } from './invocation.ts';
import { isPromiseLike } from './promise-like.ts';
import { invalidInput } from './refusals.ts';

/** At once where the schema answers at once. Throws, or rejects with, INVALID_INPUT and PAYLOAD_TOO_LARGE. */
export function readEvent(
  incoming: Incoming,
  loaded: LoadedFunction,
  limits: PayloadLimits,
): FunctionEvent | Promise<FunctionEvent> {
  const { batch, type, body } = incoming;
  if (batch !== undefined) return readBatch(batch, loaded, limits);
  const data = decodePayload(type, body, limits);
  const { input } = loaded.definition;
  if (input === undefined) return eventOf(incoming, data);
  const checked = validate(input, data);
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
    let data = decodePayload(type, body, limits);
    if (input !== undefined) {
      const checked = await validate(input, data);
      if (!checked.ok) throw invalidInput(name, checked.issues);
      data = checked.value;
    }
    events.push({ id, subject, data, headers, time: new Date(timeMs), attempt });
  }
  return { ...(events[0] as FunctionEvent), batch: events };
}
