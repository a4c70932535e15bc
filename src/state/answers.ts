/**
 * Answers that are kept so that a repeated request gets the first one: an item of a collection that functions cannot name, written
 * in the transaction of the effects.
 */
import type { ContentType, Encoded } from '../core/payload.ts';
import { MillraceError } from '../core/errors.ts';
import type { Attempt } from './attempt.ts';

const COLLECTION = '$answers';

/** The item that has the answer of `functionName` to the request `id`. */
export function answerKey(functionName: string, id: string): string {
  return `${COLLECTION}/${functionName}:${id}`;
}

/** `untilMs`: since 1970. Throws PAYLOAD_TOO_LARGE when the answer is larger than a value may be. */
export function encodeAnswer({ type, body }: Encoded, untilMs: number, maxBytes: number): string {
  const text =
    typeof body === 'string'
      ? body
      : Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('base64');
  const value = JSON.stringify([Math.ceil(untilMs), type, typeof body === 'string', text]);
  if (Buffer.byteLength(value) <= maxBytes) return value;
  throw new MillraceError(
    'PAYLOAD_TOO_LARGE',
    `The answer to a request that may be repeated is kept, and has at most ${maxBytes} bytes.`,
    { details: { limitBytes: maxBytes } },
  );
}

/** Undefined for a request that is new. The transaction then holds its item, so that no other runs it meanwhile. */
export async function firstAnswer(attempt: Attempt, key: string): Promise<Encoded | undefined> {
  const value = await attempt.read(key, true);
  if (value === null) return undefined;
  await attempt.commit([]);
  const [, type, isText, body] = JSON.parse(value) as [number, ContentType, boolean, string];
  return { type, body: isText ? body : Buffer.from(body, 'base64') };
}
