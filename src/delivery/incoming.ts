/** An event as it comes out of its stream: what it is, and its key. */
import { setTimeout as delay } from 'node:timers/promises';
import { EVENT_ID_HEADER, MESSAGE_ID_HEADER } from '../bus/event-id.ts';
import { MAX_HEADERS_BYTES } from '../bus/frame.ts';
import type { StreamEvent } from '../bus/stream-tail.ts';
import { DEAD_HEADER, readDeadLetter, type DeadFailure } from '../core/delivery/dead-letter.ts';
import { CONTENT_TYPE_HEADER, contentTypeOf } from '../core/payload.ts';
import type { Settings } from '../core/settings.ts';
import type { Held, Known } from '../core/delivery/dispatch.ts';
import type { Lot } from '../core/delivery/flow.ts';
import { assertKey } from '../core/state/keys.ts';
import type { FunctionDefinition } from '../function/definition.ts';
import { lotOf } from '../function/flow.ts';
import { readData, type Validation } from '../function/schema.ts';
import { encodeOutcome, type EventFailure } from './outcome.ts';

/** A frame's field for headers has room for 64 KiB, with the delivery's own. */
const MAX_EVENT_HEADERS_BYTES = 8 * MAX_HEADERS_BYTES;
/** The last ones that are kept with a dead letter. */
const MAX_FAILURES_KEPT = 5;

export interface Incoming {
  id: string;
  stored: StreamEvent;
  /** As the event came in; a dead letter that is replayed is the event that it was. */
  subject: string;
  time: Date;
  /** When it was read, in milliseconds since 1970. */
  heldAtMs: number;
  headers: Readonly<Record<string, string>>;
  failures: DeadFailure[];
}

/** `replayed`: the stream has dead letters, for those who handle them again. */
export function incomingOf(stored: StreamEvent, stream: string, replayed: boolean): Incoming {
  const headers: Record<string, string> = {};
  for (const [name, values] of stored.headers ?? []) headers[name] = values.at(-1) ?? '';
  const { [DEAD_HEADER]: dead, [EVENT_ID_HEADER]: ownId, ...rest } = headers;
  if (ownId !== undefined) rest[MESSAGE_ID_HEADER] = ownId;
  const letter = replayed && dead !== undefined ? readDeadLetter(dead) : undefined;
  if (letter !== undefined) {
    const { id, subject, time } = letter;
    const before = { id, subject, time: new Date(time), headers: letter.headers };
    return { ...before, stored, heldAtMs: Date.now(), failures: [] };
  }
  return {
    id: rest[MESSAGE_ID_HEADER] ?? `${stream}-${stored.sequence}`,
    stored,
    subject: stored.subject,
    time: stored.time,
    heldAtMs: Date.now(),
    headers: rest,
    failures: [],
  };
}

/** What decides when and beside what an event runs. */
export interface Place {
  key: string | undefined;
  lot: Lot | undefined;
}

/** Without a look at the event, where the function's options need none; undefined where they do. */
export function placeOfAll({ key, flow }: FunctionDefinition): Place | undefined {
  if (key !== undefined) return undefined;
  if (flow === undefined) return { key, lot: undefined };
  const { keys, priority, batch } = flow;
  const looks = Object.keys(keys).length > 0 || priority !== undefined || batch !== undefined;
  return looks ? undefined : { key, lot: lotOf(flow, undefined as never) };
}

/** Throws what makes the event unreadable. */
export async function placeOf(
  { id, subject, time, headers, stored }: Incoming,
  { key: find, flow, input, timeoutMs }: FunctionDefinition,
  attempt: number,
  settings: Settings,
): Promise<Place> {
  const type = contentTypeOf(headers[CONTENT_TYPE_HEADER]);
  const checked = await inTime(readData(type, stored.data, input, settings), timeoutMs);
  if (!checked.ok) throw new Error(checked.issues.map(({ message }) => message).join('; '));
  const event = { id, subject, data: checked.value, headers, time, attempt };
  const key: unknown = find?.(event);
  if (key !== undefined) assertKey(key);
  else if (find !== undefined) throw new Error('the function has found no key');
  return { key, lot: flow && lotOf(flow, event) };
}

/** Events behind this one wait for it: a schema that never comes to an end must not hold them up for ever. */
async function inTime(
  checking: Validation | Promise<Validation>,
  timeoutMs: number,
): Promise<Validation> {
  if (!(checking instanceof Promise)) return checking;
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

export function heldOf(incoming: Incoming, known: Known, { key, lot }: Place): Held<Incoming> {
  const { stored, headers } = incoming;
  const { failures, retryAtMs, again } = known;
  const ageMs = Math.max(0, Date.now() - stored.time.getTime());
  return {
    sequence: stored.sequence,
    key,
    lot,
    bytes: stored.data.length + bytesOf(headers),
    arrivedMs: performance.now() - ageMs,
    failures,
    again,
    dueMs: retryAtMs === undefined ? 0 : performance.now() + retryAtMs - Date.now(),
    retryAtMs,
    event: incoming,
  };
}

/** Why no frame can carry it to a worker, or undefined. */
export function sizeReason({ stored, headers }: Incoming, maxBytes: number): string | undefined {
  const { length } = stored.data;
  if (length > maxBytes) return `The event has ${length} bytes; ${maxBytes} can be handled.`;
  if (bytesOf(headers) <= MAX_EVENT_HEADERS_BYTES) return undefined;
  return `The headers have more than ${MAX_EVENT_HEADERS_BYTES} bytes.`;
}

/** Of what is known of its failures only the last ones are kept. */
export function remember({ event, failures }: Held<Incoming>, failure: EventFailure): void {
  const { code, message, stack, version, worker } = JSON.parse(
    encodeOutcome(failure),
  ) as EventFailure;
  event.failures.push({
    at: new Date().toISOString(),
    attempt: failures,
    code,
    message,
    ...(stack === undefined ? {} : { stack }),
    version,
    worker,
  });
  if (event.failures.length > MAX_FAILURES_KEPT) event.failures.shift();
}

function bytesOf(headers: Readonly<Record<string, string>>): number {
  let bytes = 0;
  for (const name in headers) bytes += name.length + 3 * (headers[name] ?? '').length;
  return bytes;
}
