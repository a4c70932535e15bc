/** What a worker tells a dispatcher about the run of an event, and how the event was named to it. */
import { z } from 'zod';
import type { Delivery } from '../core/delivery/marker.ts';
import type { ContentType } from '../core/payload.ts';

/** Of a call that brings an event: beside the event's own headers. */
export const DELIVERY_HEADER = 'Millrace-Delivery';

export interface DeliveryHeader extends Delivery {
  id: string;
  subject: string;
  /** In milliseconds since 1970. */
  timeMs: number;
  attempt: number;
  /** It may have run before. */
  again: boolean;
}

/** An event on its way to a function, as it is handed over within one worker. */
export interface DispatchedEvent {
  delivery: DeliveryHeader;
  type: ContentType;
  body: Uint8Array;
  headers: Readonly<Record<string, string>>;
  timeoutMs: number;
}

/** A list without names: there is one with every event. */
type Fields = [
  id: string,
  subject: string,
  timeMs: number,
  attempt: number,
  again: boolean,
  source: string,
  sequence: number,
  key: string | null,
  below: number,
  open: number[],
];

export function writeDelivery(delivery: DeliveryHeader): string {
  const { id, subject, timeMs, attempt, again, source, sequence, key = null, below } = delivery;
  const open = [...delivery.open];
  const fields: Fields = [id, subject, timeMs, attempt, again, source, sequence, key, below, open];
  return JSON.stringify(fields);
}

/** Only our own dispatchers write it; undefined for what is no list. */
export function readDelivery(text: string): DeliveryHeader | undefined {
  try {
    const fields: unknown = JSON.parse(text);
    if (!Array.isArray(fields) || !Array.isArray(fields[9])) return undefined;
    const [id, subject, timeMs, attempt, again, source, sequence, key, below, open] =
      fields as Fields;
    const place = { source, sequence, key: key ?? undefined, below, open };
    return { id, subject, timeMs, attempt, again, ...place };
  } catch {
    return undefined;
  }
}

const failureSchema = z.object({
  code: z.string(),
  message: z.string(),
  stack: z.string().optional(),
  retryable: z.boolean(),
  retryAfterMs: z.number().nonnegative().optional(),
  version: z.string(),
  worker: z.string(),
});
/** Of one attempt. */
export type EventFailure = z.infer<typeof failureSchema>;

const MAX_MESSAGE_CHARACTERS = 1_000;
const MAX_STACK_CHARACTERS = 4_000;

export function encodeOutcome(failure?: EventFailure): string {
  if (failure === undefined) return '{}';
  const { message, stack } = failure;
  return JSON.stringify({
    ...failure,
    message: message.slice(0, MAX_MESSAGE_CHARACTERS),
    ...(stack === undefined ? {} : { stack: stack.slice(0, MAX_STACK_CHARACTERS) }),
  });
}

/** Undefined: it is settled. */
export function decodeOutcome(text: string): EventFailure | undefined {
  return text === '{}' ? undefined : failureSchema.parse(JSON.parse(text));
}
