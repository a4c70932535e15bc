/** What one of a function's keys says of a request, before it runs. */
import type { PayloadLimits } from '../core/payload.ts';
import type { FunctionEvent } from '../function/context.ts';
import type { LoadedFunction } from '../function/load.ts';
import { readData } from '../function/schema.ts';
import { eventOf, type Incoming } from './invocation.ts';

/** Undefined where it cannot be found at once: whoever runs the request says what is wrong. */
export function findKey(
  find: (event: FunctionEvent) => string,
  { definition: { input } }: LoadedFunction,
  incoming: Incoming,
  limits: PayloadLimits,
): string | undefined {
  try {
    const read = readData(incoming.type, incoming.body, input, limits);
    if (read instanceof Promise || !read.ok) return undefined;
    const key: unknown = find(eventOf(incoming, read.value));
    return typeof key === 'string' ? key : undefined;
  } catch {
    return undefined;
  }
}
