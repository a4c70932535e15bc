/** What is wrong with a value that an option was given, to be put behind the option's name; undefined for nothing. */
import { quote } from '../core/names.ts';

export type Check = (value: unknown) => string | undefined;

export const isFunction: Check = (value) =>
  typeof value === 'function' ? undefined : 'must be a function';

export function whole(min: number, max: number): Check {
  return (value) =>
    Number.isInteger(value) && Number(value) >= min && Number(value) <= max
      ? undefined
      : `must be an integer from ${min} to ${max}`;
}

/** An object with these fields and no others. */
export function fields(needed: Record<string, Check>, optional: Record<string, Check>): Check {
  const all: Record<string, Check> = { ...needed, ...optional };
  return (given) => {
    if (typeof given !== 'object' || given === null || Array.isArray(given)) {
      return `must be { ${Object.keys(all).join(', ')} }`;
    }
    const unknown = Object.keys(given).find((name) => !Object.hasOwn(all, name));
    if (unknown !== undefined) return `has no option ${quote(unknown)}`;
    for (const [name, check] of Object.entries(all)) {
      const value = (given as Record<string, unknown>)[name];
      if (value === undefined && !Object.hasOwn(needed, name)) continue;
      const reason = check(value);
      if (reason !== undefined) return `has ${name}, which ${reason}`;
    }
    return undefined;
  };
}
