/**
 * How an event waits for its time: as a message that NATS itself publishes when it is due (ADR-51, `Nats-Schedule`), on another
 * subject of the same stream. There the workers find it, with all that the event is in one header and in its body.
 */
import { headers as newHeaders } from 'nats';
import { z } from 'zod';
import { MillraceError } from '../core/errors.ts';
import { assertNotReserved, assertPublishSubject } from '../core/names.ts';
import { CONTENT_TYPE_HEADER, ContentType, contentTypeHeader } from '../core/payload.ts';
import { subjectsOf } from '../core/subjects.ts';
import { MESSAGE_ID_HEADER, scopedId } from './event-id.ts';
import { assertUsersHeader, checkId } from './invoke.ts';
import type { PreparedEvent } from './publisher.ts';

/** The event as it is to be published, without its payload. The broker takes its own headers off what it publishes. */
const LATER_HEADER = 'Millrace-Later';

const laterSchema = z.object({
  id: z.string(),
  subject: z.string(),
  dueMs: z.number(),
  headers: z.record(z.string(), z.string()),
});

/**
 * The message that has the broker keep the event until `dueMs` (since 1970). Made twice of the same event it is stored once: the
 * stream knows its id for a while, and as long as it waits there is one for each subject.
 */
export function scheduled(event: PreparedEvent, dueMs: number, namespace: string): PreparedEvent {
  const subjects = subjectsOf(namespace);
  const token = tokenOf(event);
  const headers = newHeaders();
  headers.set('Nats-Schedule', `@at ${new Date(dueMs).toISOString()}`);
  headers.set('Nats-Schedule-Target', subjects.due(token));
  headers.set(MESSAGE_ID_HEADER, token);
  headers.set(LATER_HEADER, encodeLater(event, dueMs));
  // Nobody on the way reads the payload: it arrives byte for byte.
  headers.set(CONTENT_TYPE_HEADER, contentTypeHeader(ContentType.bytes));
  return { ...event, subject: subjects.later(token), headers };
}

export function isScheduled({ subject }: PreparedEvent, namespace: string): boolean {
  return subject.startsWith(subjectsOf(namespace).later(''));
}

/**
 * The event that was scheduled, and for when (since 1970). Throws INVALID_INPUT for a message that is none: others may publish there too, and must not have
 * the worker say what they may not say themselves.
 */
export function dueEvent(
  given: Readonly<Record<string, string>>,
  payload: Uint8Array,
  namespace: string,
): { event: PreparedEvent; dueMs: number } {
  const later = decodeLater(given[LATER_HEADER]);
  if (later === undefined) {
    throw new MillraceError('INVALID_INPUT', 'This is no event that was to come later.');
  }
  const { id, subject, dueMs } = later;
  assertPublishSubject(subject, 'INVALID_INPUT');
  assertNotReserved(subject, namespace, 'INVALID_INPUT');
  checkId(id);
  const headers = newHeaders();
  for (const [name, value] of Object.entries(later.headers)) {
    assertUsersHeader(name);
    headers.set(name, value);
  }
  headers.set(MESSAGE_ID_HEADER, id);
  return { event: { id, subject, payload, headers }, dueMs };
}

/** Its place in subjects: an id may have any characters, and the same one on another subject is another event. */
export function tokenOf({ id, subject }: Pick<PreparedEvent, 'id' | 'subject'>): string {
  return scopedId({ id, subject });
}

function encodeLater({ id, subject, headers }: PreparedEvent, dueMs: number): string {
  const pairs = [...headers]
    .filter(([name]) => name !== MESSAGE_ID_HEADER)
    .map(([name, values]) => [name, values.at(-1) ?? '']);
  return JSON.stringify({ id, subject, dueMs, headers: Object.fromEntries(pairs) as object });
}

function decodeLater(text: string | undefined): z.infer<typeof laterSchema> | undefined {
  if (text === undefined) return undefined;
  try {
    return laterSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
