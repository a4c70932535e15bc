/** An event as it comes out of its stream: what it is, and its key. */
import { setTimeout as delay } from 'node:timers/promises';
import type { StreamEvent } from '../bus/stream-tail.ts';
import { DEAD_HEADER, readDeadLetter, type DeadFailure } from '../core/delivery/dead-letter.ts';
import { CONTENT_TYPE_HEADER, contentTypeOf, decodePayload } from '../core/payload.ts';
import type { Settings } from '../core/settings.ts';
import { assertKey } from '../core/state/keys.ts';
import type { FunctionDefinition } from '../function/definition.ts';
import { validate, type Validation } from '../function/schema.ts';

export interface Incoming {
  id: string;
  stored: StreamEvent;
  /** As the event came in; a dead letter that is replayed is the event that it was. */
  subject: string;
  time: Date;
  headers: Readonly<Record<string, string>>;
  failures: DeadFailure[];
}

/** `replayed`: the stream has dead letters, for those who handle them again. */
export function incomingOf(stored: StreamEvent, stream: string, replayed: boolean): Incoming {
  const headers: Record<string, string> = {};
  for (const [name, values] of stored.headers ?? []) headers[name] = values.at(-1) ?? '';
  const { [DEAD_HEADER]: dead, ...rest } = headers;
  const letter = replayed && dead !== undefined ? readDeadLetter(dead) : undefined;
  if (letter !== undefined) {
    const { id, subject, time } = letter;
    const before = { id, subject, time: new Date(time), headers: letter.headers };
    return { ...before, stored, failures: [] };
  }
  return {
    id: rest['Nats-Msg-Id'] ?? `${stream}-${stored.sequence}`,
    stored,
    subject: stored.subject,
    time: stored.time,
    headers: rest,
    failures: [],
  };
}

/** Undefined for a function without keys. Throws what makes the event unreadable. */
export async function keyOf(
  { id, subject, time, headers, stored }: Incoming,
  { key: find, input, timeoutMs }: FunctionDefinition,
  attempt: number,
  settings: Settings,
): Promise<string | undefined> {
  if (find === undefined) return undefined;
  const type = contentTypeOf(headers[CONTENT_TYPE_HEADER]);
  let data = decodePayload(type, stored.data, settings);
  if (input !== undefined) {
    const checked = await inTime(validate(input, data), timeoutMs);
    if (!checked.ok) throw new Error(checked.issues.map(({ message }) => message).join('; '));
    data = checked.value;
  }
  const key: unknown = find({ id, subject, data, headers, time, attempt });
  assertKey(key);
  return key;
}

/** Events behind this one wait for it: a schema that never comes to an end must not hold them up for ever. */
async function inTime(
  checking: Validation | Promise<Validation>,
  timeoutMs: number,
): Promise<Validation> {
  const ended = new AbortController();
  const late = delay(timeoutMs, undefined, { signal: ended.signal }).then(() => {
    throw new Error(`its schema has not answered for ${timeoutMs} ms`);
  });
  // Where it was ended nobody waits for it any more.
  late.catch(() => {});
  try {
    return await Promise.race([checking, late]);
  } finally {
    ended.abort();
  }
}
