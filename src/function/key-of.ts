/** The key of a call, where its caller has the function's code: it decides where the call had best run. */
import { assertKey } from '../core/state/keys.ts';
import type { FunctionEvent } from './context.ts';
import type { FunctionDefinition } from './definition.ts';
import type { FunctionReference } from './reference.ts';

/** What of a call its key may look at, beside the data. */
interface KeyedCall {
  id?: string;
  headers?: Readonly<Record<string, string>>;
}

/** Undefined for a function without keys, and where it finds none: then any worker will do, and says what is wrong. */
export function keyOf(
  target: FunctionReference | string,
  data: unknown,
  options: KeyedCall,
): string | undefined {
  if (typeof target === 'string') return undefined;
  const { key: find } = target as Partial<FunctionDefinition>;
  const key = find && callKeyOf(find, data, options);
  try {
    assertKey(key);
    return key;
  } catch {
    return undefined;
  }
}

/** What one of a function's keys says of a call with this data. */
export function callKeyOf(
  find: (event: FunctionEvent) => string,
  data: unknown,
  { id = '', headers = {} }: KeyedCall,
): string | undefined {
  try {
    const key: unknown = find({ id, subject: '', data, headers, time: new Date(), attempt: 1 });
    return typeof key === 'string' ? key : undefined;
  } catch {
    return undefined;
  }
}
