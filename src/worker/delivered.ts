/** Durable events: a call of a dispatcher's that brings one. */
import type { Balancer, CallEnd } from '../core/balance/balancer.ts';
import { messageOf, type MillraceError } from '../core/errors.ts';
import { ContentType } from '../core/payload.ts';
import {
  decodeOutcome,
  encodeOutcome,
  eventsOf,
  type DeliveryHeader,
  type DispatchedEvent,
  type EventFailure,
} from '../delivery/outcome.ts';
import type { Incoming } from './invocation.ts';
import type { FunctionStats } from './stats.ts';

export interface Runs {
  /** As it is when a run fails: which version runs is chosen once the event is known. */
  version: string;
  worker: string;
  /** Undefined for a function that is not there. */
  counts: FunctionStats['events'] | undefined;
}

/** The event, or the batch of them, that the call brings; the call itself where it brings none. */
export function unwrapped(call: Incoming, runs: Runs): Incoming {
  // Only frames bring events: a plain message may have any header.
  const brought = call.caller === '' ? undefined : eventsOf(call.headers, call.type, call.body);
  return brought === undefined ? call : asEvent(call, brought.events, brought.batch, runs);
}

/** Events that this worker dispatches itself, and runs: no frame is needed. Rejects where the platform fails. */
export function dispatchedHere(
  events: readonly DispatchedEvent[],
  batch: boolean,
  timeoutMs: number,
  runs: Runs,
  deliver: (incoming: Incoming) => void,
): Promise<EventFailure | undefined> {
  return new Promise((resolve, reject) => {
    const { delivery, type, body, headers } = events[0] as DispatchedEvent;
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
    deliver(asEvent(call, events, batch, runs));
  });
}

function asEvent(
  call: Incoming,
  events: readonly DispatchedEvent[],
  batch: boolean,
  runs: Runs,
): Incoming {
  const { worker, counts } = runs;
  const answer = (failure?: EventFailure): void => {
    if (counts !== undefined) {
      if (failure === undefined) counts.handled += events.length;
      else counts.failed += 1;
    }
    call.answer({ type: ContentType.json, body: encodeOutcome(failure) });
  };
  return {
    ...call,
    callId: call.eventId,
    ...placeOf(events),
    repeats: 'never',
    ...(batch ? { batch: events } : {}),
    answer: () => answer(),
    fail: (error, thrown) => {
      // The platform's failure, not the function's: no attempt.
      if (thrown === undefined) call.fail(error);
      else answer({ ...failureOf(error, thrown), version: runs.version, worker });
    },
  };
}

/** What the first of them says of the run. */
function placeOf(events: readonly DispatchedEvent[]) {
  const { delivery, type, body, headers } = events[0] as DispatchedEvent;
  const { subject, id: eventId, attempt, timeMs } = delivery;
  // One of them may have run before.
  const again = events.some((each) => each.delivery.again);
  const time = new Date(timeMs);
  return { type, body, headers, subject, eventId, attempt, time, delivery: { ...delivery, again } };
}

/** How each of its events is to be settled; empty for a call. */
export function deliveriesOf({ batch, delivery }: Incoming): readonly DeliveryHeader[] {
  if (batch !== undefined) return batch.map((each) => each.delivery);
  return delivery === undefined ? [] : [delivery];
}

/** The batch without these; undefined where nothing is left. */
export function without(incoming: Incoming, settled: ReadonlySet<number>): Incoming | undefined {
  const left = incoming.batch?.filter(({ delivery }) => !settled.has(delivery.sequence)) ?? [];
  return left.length === 0 ? undefined : { ...incoming, ...placeOf(left), batch: left };
}

function failureOf(
  error: MillraceError,
  thrown: unknown,
): Omit<EventFailure, 'version' | 'worker'> {
  const { code } = error;
  const wishes = wishesOf(thrown);
  // What the schema refuses now it refuses again, and what is too large stays so.
  const again = code !== 'INVALID_INPUT' && code !== 'PAYLOAD_TOO_LARGE';
  const retryable = wishes.retryable ?? again;
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

/** Events that this worker runs are part of its load, as calls are. */
export async function counted(
  balancer: Balancer,
  functionName: string,
  workerId: string,
  run: () => Promise<EventFailure | undefined>,
): Promise<EventFailure | undefined> {
  const beganMs = performance.now();
  const track = balancer.begun(functionName, workerId, beganMs);
  let end: CallEnd = 'unknown';
  try {
    const failure = await run();
    end = failure === undefined ? 'succeeded' : 'failed';
    return failure;
  } finally {
    const now = performance.now();
    balancer.ended(functionName, workerId, track, end, now - beganMs, now);
  }
}
