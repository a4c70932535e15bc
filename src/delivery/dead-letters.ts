/** Events that are given up: what a dead letter is, and the transaction that makes one of an event. */
import { setTimeout as delay } from 'node:timers/promises';
import { headers as newHeaders } from 'nats';
import type { PreparedEvent } from '../bus/publisher.ts';
import type { StreamEvent } from '../bus/stream-tail.ts';
import { DEAD_HEADER, type DeadLetter } from '../core/delivery/dead-letter.ts';
import { markerKey, settle, type Delivery } from '../core/delivery/marker.ts';
import { CONTENT_TYPE_HEADER } from '../core/payload.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf } from '../core/subjects.ts';
import { Attempt, isInterrupted } from '../state/attempt.ts';
import { encodeEmit } from '../state/outbox.ts';
import type { Transactions } from '../state/transactions.ts';

/** The last ones that are kept with a dead letter. */
export const MAX_FAILURES_KEPT = 5;
const TRANSACTION_MS = 30_000;
const RETRY_MS = 20;
const HEADER_ROOM_BYTES = 1_024;

/** `maxBytes`: the largest message that the broker takes. */
export function deadLetterOf(
  letter: DeadLetter,
  event: StreamEvent,
  namespace: string,
  maxBytes: number,
): PreparedEvent {
  const text = JSON.stringify(letter);
  const fits = Buffer.byteLength(text) + event.data.length + HEADER_ROOM_BYTES <= maxBytes;
  const headers = newHeaders();
  const id = `dead-${letter.function}-${letter.stream}-${letter.sequence}`;
  headers.set('Nats-Msg-Id', id);
  headers.set(DEAD_HEADER, fits ? text : JSON.stringify({ ...letter, withoutPayload: true }));
  const type = letter.headers[CONTENT_TYPE_HEADER];
  if (type !== undefined) headers.set(CONTENT_TYPE_HEADER, type);
  const subject = subjectsOf(namespace).dead(letter.function);
  return { id, subject, payload: fits ? event.data : new Uint8Array(), headers };
}

/** Settles the event by its dead letter (D1), unless it is settled. Tries until it is; rejects when `over` says so. */
export async function bury(
  transactions: Transactions,
  settings: Settings,
  functionName: string,
  delivery: Delivery,
  letter: PreparedEvent,
  over: () => boolean,
): Promise<void> {
  const key = markerKey(functionName, delivery);
  while (!over()) {
    const transaction = transactions.begin(performance.now() + TRANSACTION_MS);
    const attempt = new Attempt(transaction, settings, new Set());
    try {
      const marker = settle(await attempt.read(key, true), delivery);
      if (marker !== undefined) attempt.write(key, marker);
      await attempt.commit(marker === undefined ? [] : [encodeEmit(letter)]);
      return;
    } catch (error) {
      if (!isInterrupted(error)) throw error;
    } finally {
      transactions.ended(transaction);
    }
    await delay(RETRY_MS);
  }
  throw new Error('the dispatcher has ended');
}
