/** What a worker tells a dispatcher about the run of an event, and how the event was named to it. */
import { z } from 'zod';
import type { Delivery } from '../core/delivery/marker.ts';

/** Of a call that brings an event: beside the event's own headers. */
export const DELIVERY_HEADER = 'Millrace-Delivery';

const whole = z.number().int().nonnegative();
const deliverySchema = z.object({
  id: z.string(),
  subject: z.string(),
  /** In milliseconds since 1970. */
  timeMs: whole,
  attempt: whole,
  /** It may have run before. */
  again: z.boolean(),
  stream: z.string(),
  sequence: whole,
  key: z.string().optional(),
  below: whole,
  open: z.array(whole),
});
export interface DeliveryHeader extends Delivery {
  id: string;
  subject: string;
  timeMs: number;
  attempt: number;
  again: boolean;
}

export function readDelivery(text: string): DeliveryHeader | undefined {
  try {
    const read = deliverySchema.safeParse(JSON.parse(text)).data;
    return read === undefined ? undefined : { ...read, key: read.key };
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
