/** Keys of calls before they run: where a call had best run, and under which its answer is kept. */
import type { Encoded, PayloadLimits } from '../core/payload.ts';
import { assertKey } from '../core/state/keys.ts';
import type { FunctionEvent } from './context.ts';
import type { FunctionDefinition } from './definition.ts';
import type { FunctionReference } from './reference.ts';
import { readData } from './schema.ts';

/** At a caller that has the function's code, for its place. Undefined for a function without keys, and where it finds none: then any worker will do, and says what is wrong. */
export function keyOf(
  target: FunctionReference | string,
  data: unknown,
  { id = '', headers = {} }: { id?: string; headers?: Readonly<Record<string, string>> },
): string | undefined {
  if (typeof target === 'string') return undefined;
  const { key: find } = target as Partial<FunctionDefinition>;
  if (find === undefined) return undefined;
  try {
    const key = find({ id, subject: '', data, headers, time: new Date(), attempt: 1 });
    assertKey(key);
    return key;
  } catch {
    return undefined;
  }
}

/**
 * By one of a function's keys, of a request as its worker reads it: decoded, and held against the schema. Undefined where that is
 * not known at once, or is wrong: whoever runs the request says so.
 */
export function keyOfRequest(
  find: (event: FunctionEvent) => string,
  { input }: Pick<FunctionDefinition, 'input'>,
  { type, body }: Encoded,
  limits: PayloadLimits,
  eventOf: (data: unknown) => FunctionEvent,
): string | undefined {
  try {
    const read = readData(type, body, input, limits);
    if (!('ok' in read) || !read.ok) return undefined;
    const key: unknown = find(eventOf(read.value));
    return typeof key === 'string' ? key : undefined;
  } catch {
    return undefined;
  }
}
