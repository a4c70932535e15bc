/**
 * An event's id in its stream. It is `Nats-Msg-Id`, by which the stream drops what comes twice; but a stream does so whatever the
 * subject, and an event that has the id of another one, as that of the event that caused it, would be dropped for it. Such an
 * event is stored under an id of its own, and says in a header of the platform's what it is called.
 */
import { createHash } from 'node:crypto';
import type { MsgHdrs } from 'nats';

export const MESSAGE_ID_HEADER = 'Nats-Msg-Id';
export const EVENT_ID_HEADER = 'Millrace-Event-Id';

/** '' where it has none. */
export function eventIdOf(headers: MsgHdrs | undefined): string {
  const own = headers?.get(EVENT_ID_HEADER) ?? '';
  return own === '' ? (headers?.get(MESSAGE_ID_HEADER) ?? '') : own;
}

/** The same id on another subject is another event. */
export function scopedId({ id, subject }: { id: string; subject: string }): string {
  return createHash('sha256').update(`${subject} ${id}`).digest('base64url');
}
