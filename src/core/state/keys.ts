/** Collections and keys as functions name them, and how partitions have them. */
import { MillraceError } from '../errors.ts';

const COLLECTION = /^[A-Za-z0-9_-]{1,64}$/;
const MAX_KEY_BYTES = 1_024;
// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const CONTROL = /[\u0000-\u001f\u007f]/;
const SEPARATOR = '/';

/** Throws INVALID_INPUT. */
export function assertCollection(name: unknown): asserts name is string {
  if (typeof name === 'string' && COLLECTION.test(name)) return;
  throw new MillraceError(
    'INVALID_INPUT',
    `The collection ${JSON.stringify(name)} is not legal: 1 to 64 of A-Z a-z 0-9 _ -.`,
  );
}

/** Throws INVALID_INPUT. */
export function assertKey(key: unknown): asserts key is string {
  if (
    typeof key === 'string' &&
    key !== '' &&
    key.isWellFormed() &&
    !CONTROL.test(key) &&
    Buffer.byteLength(key) <= MAX_KEY_BYTES
  ) {
    return;
  }
  throw new MillraceError(
    'INVALID_INPUT',
    `A key must be text of 1 to ${MAX_KEY_BYTES} bytes without control characters.`,
  );
}

/** A collection has no `/` in its name, so no two pairs give the same. */
export function itemKey(collection: string, key: string): string {
  return collection + SEPARATOR + key;
}

export function splitItemKey(item: string): { collection: string; key: string } {
  const at = item.indexOf(SEPARATOR);
  return { collection: item.slice(0, at), key: item.slice(at + 1) };
}

/** What the ring hashes: the key without its collection, so that what belongs to one key lies on one partition. */
export function placeOf(item: string): string {
  return item.slice(item.indexOf(SEPARATOR) + 1);
}
