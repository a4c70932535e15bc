/** Names what is asked, for a cache: by the function's own key, or by the whole input. */
import { createHash } from 'node:crypto';
import { ContentType, type EncodedBody } from '../core/payload.ts';

/** Longer inputs are named by their hash. */
const MAX_INPUT_LENGTH = 512;

/** An answer comes in the type of its request: each type has its own. */
export function inputKey(type: ContentType, body: EncodedBody): string {
  // The same JSON comes as text in frames and as bytes in plain messages.
  const encoding = type === ContentType.json ? 'utf8' : 'latin1';
  const text = typeof body === 'string' ? body : Buffer.from(body).toString(encoding);
  return text.length <= MAX_INPUT_LENGTH
    ? `${type}=${text}`
    : `${type}#${createHash('sha256').update(text).digest('base64')}`;
}

export function ownKey(type: ContentType, key: string): string {
  return `${type}:${key}`;
}

/** Under which the answers of a function's own key may be kept. */
export function ownKeys(keys: readonly string[]): string[] {
  return keys.flatMap((key) => Object.values(ContentType).map((type) => ownKey(type, key)));
}
