/** Durable events: a call of a dispatcher's that brings one. */
import { ContentType } from '../core/payload.ts';
import { messageOf, type MillraceError } from '../core/errors.ts';
import {
  decodeOutcome,
  DELIVERY_HEADER,
  encodeOutcome,
  readDelivery,
  type DeliveryHeader,
  type DispatchedEvent,
  type EventFailure,
} from '../delivery/outcome.ts';
import type { Incoming } from './invocation.ts';

interface Runs {
  version: string;
  worker: string;
}

/** The event that the call brings; the call itself where it brings none. */
export function unwrapped(call: Incoming, runs: Runs): Incoming {
  // Only frames bring events: a plain message may have any header.
  const text = call.caller === '' ? undefined : call.headers[DELIVERY_HEADER];
  const delivery = text === undefined ? undefined : readDelivery(text);
  if (delivery === undefined) return call;
  const { [DELIVERY_HEADER]: _, ...headers } = call.headers;
  return asEvent({ ...call, headers }, delivery, runs);
}

/** An event that this worker dispatches itself, and runs: no frame is needed. Rejects where the platform fails. */
export function dispatchedHere(
  { delivery, type, body, headers, timeoutMs }: DispatchedEvent,
  runs: Runs,
  deliver: (incoming: Incoming) => void,
): Promise<EventFailure | undefined> {
  return new Promise((resolve, reject) => {
    const call: Incoming = {
      caller: '',
      subject: delivery.subject,
      type,
      body,
      headers,
      eventId: delivery.id,
      attempt: delivery.attempt,
      repeats: 'never',
      timeoutMs,
      answer: (outcome) => resolve(decodeOutcome(outcome.body as string)),
      fail: reject,
    };
    deliver(asEvent(call, delivery, runs));
  });
}

function asEvent(call: Incoming, delivery: DeliveryHeader, runs: Runs): Incoming {
  const answer = (failure?: EventFailure): void =>
    call.answer({ type: ContentType.json, body: encodeOutcome(failure) });
  return {
    ...call,
    subject: delivery.subject,
    eventId: delivery.id,
    attempt: delivery.attempt,
    time: new Date(delivery.timeMs),
    repeats: 'never',
    delivery,
    answer: () => answer(),
    fail: (error, thrown) => {
      // The platform's failure, not the function's: no attempt.
      if (thrown === undefined) call.fail(error);
      else answer({ ...failureOf(error, thrown), ...runs });
    },
  };
}

function failureOf(error: MillraceError, thrown: unknown): Omit<EventFailure, keyof Runs> {
  const { code } = error;
  const wishes = wishesOf(thrown);
  // What the schema refuses now it refuses again.
  const retryable = wishes.retryable ?? code !== 'INVALID_INPUT';
  return {
    code,
    message: messageOf(error),
    ...(wishes.stack === undefined ? {} : { stack: wishes.stack }),
    retryable,
    ...(wishes.retryAfterMs === undefined ? {} : { retryAfterMs: wishes.retryAfterMs }),
  };
}

/** What a thrown value says of itself; its getters may throw. */
function wishesOf(thrown: unknown): {
  stack?: string;
  retryable?: boolean;
  retryAfterMs?: number;
} {
  if (typeof thrown !== 'object' || thrown === null) return {};
  try {
    const { stack, retryable, retryAfterMs } = thrown as Record<string, unknown>;
    return {
      ...(typeof stack === 'string' ? { stack } : {}),
      // An error of the platform's own always has the property: it is meant for callers.
      ...(retryable === false && !isOwn(thrown) ? { retryable } : {}),
      ...(Number.isFinite(retryAfterMs) && Number(retryAfterMs) >= 0
        ? { retryAfterMs: Number(retryAfterMs) }
        : {}),
    };
  } catch {
    return {};
  }
}

function isOwn(thrown: object): boolean {
  return 'status' in thrown && 'toBody' in thrown;
}
