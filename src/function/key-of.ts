/** The key of a call, where its caller has the function's code: it decides where the call had best run. */
import { assertKey } from '../core/state/keys.ts';
import type { FunctionDefinition } from './definition.ts';
import type { FunctionReference } from './reference.ts';

/** Undefined for a function without keys, and where it finds none: then any worker will do, and says what is wrong. */
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
