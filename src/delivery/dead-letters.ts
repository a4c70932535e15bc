/** Events that are given up: what a dead letter is, and the transaction that makes one of an event. */
import { setTimeout as delay } from 'node:timers/promises';
import { headers as newHeaders } from 'nats';
import type { Bus } from '../bus/connection.ts';
import type { PreparedEvent, Publisher } from '../bus/publisher.ts';
import { DEAD_HEADER, type DeadLetter } from '../core/delivery/dead-letter.ts';
import { markerKey, settle, type Delivery } from '../core/delivery/marker.ts';
import { CONTENT_TYPE_HEADER } from '../core/payload.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf } from '../core/subjects.ts';
import { Attempt, isInterrupted } from '../state/attempt.ts';
import { encodeEmit } from '../state/outbox.ts';
import type { Transactions } from '../state/transactions.ts';

/** Of all that is said of an event, as JSON. */
const MAX_LETTER_BYTES = 16 * 1024;
/** Of a message, for its other headers. */
const HEADER_ROOM_BYTES = 1_024;
/** Of a transaction, for the marker. */
const MARKER_ROOM_BYTES = 64 * 1024;
const TRANSACTION_MS = 30_000;
const FIRST_RETRY_MS = 20;
const MAX_RETRY_MS = 2_000;

export interface BuryOptions {
  bus: Bus;
  settings: Settings;
  transactions: Transactions;
  publisher: Publisher;
}

/** Settles the event by its dead letter (D1), unless it is settled. Tries until it is; rejects when `over` says so. */
export async function bury(
  { bus, settings, transactions, publisher }: BuryOptions,
  letter: DeadLetter,
  payload: Uint8Array,
  delivery: Delivery,
  over: () => boolean,
): Promise<void> {
  const key = markerKey(letter.function, delivery);
  const message = messageOf(letter, payload, settings.namespace, bus.maxMessageBytes);
  let emits = [encodeEmit(message)];
  if ((emits[0]?.length ?? 0) + MARKER_ROOM_BYTES > settings.maxTransactionBytes) {
    // Before the event is settled: its id lets the stream take it once.
    await publisher.sendOnce(message, Date.parse(letter.time));
    emits = [];
  }
  for (let waitMs = FIRST_RETRY_MS; !over(); waitMs = Math.min(MAX_RETRY_MS, waitMs * 2)) {
    const transaction = transactions.begin(performance.now() + TRANSACTION_MS);
    const attempt = new Attempt(transaction, settings, new Set());
    try {
      const marker = settle(await attempt.read(key, true), delivery, Date.now());
      if (marker !== undefined) attempt.write(key, marker);
      await attempt.commit(marker === undefined ? [] : emits);
      return;
    } catch (error) {
      if (!isInterrupted(error)) throw error;
    } finally {
      transactions.ended(transaction);
    }
    await delay(waitMs);
  }
  throw new Error('the dispatcher has ended');
}

/** `maxBytes`: the largest message that the broker takes. */
function messageOf(
  letter: DeadLetter,
  payload: Uint8Array,
  namespace: string,
  maxBytes: number,
): PreparedEvent {
  const fits = payload.length + MAX_LETTER_BYTES + HEADER_ROOM_BYTES <= maxBytes;
  const headers = newHeaders();
  const id = `dead-${letter.function}-${letter.stream}-${letter.sequence}`;
  headers.set('Nats-Msg-Id', id);
  headers.set(DEAD_HEADER, shortened(fits ? letter : { ...letter, withoutPayload: true }));
  const type = letter.headers[CONTENT_TYPE_HEADER];
  if (type !== undefined) headers.set(CONTENT_TYPE_HEADER, type);
  const subject = subjectsOf(namespace).dead(letter.function);
  return { id, subject, payload: fits ? payload : new Uint8Array(), headers };
}

/** Without what is least missed, until it is short enough. */
function shortened(letter: DeadLetter): string {
  const failures = letter.failures.map((failure) => ({ ...failure, stack: undefined }));
  const lengths: DeadLetter[] = [
    letter,
    { ...letter, failures },
    { ...letter, failures: failures.slice(-1) },
    { ...letter, failures: failures.slice(-1), headers: {}, withoutHeaders: true },
  ];
  const texts = lengths.map((each) => JSON.stringify(each));
  return texts.find((text) => Buffer.byteLength(text) <= MAX_LETTER_BYTES) ?? (texts[3] as string);
}
