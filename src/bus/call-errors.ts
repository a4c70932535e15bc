/** Why a call did not get its result: one function for each reason, so that the words stand in one place. */
import { CallError, isErrorCode, messageOf, MillraceError } from '../core/errors.ts';
import {
  ContentType,
  decodePayload,
  type EncodedBody,
  type PayloadLimits,
} from '../core/payload.ts';

/** Reads the body of a failed answer; one that can't be read is FUNCTION_FAILED. */
export function answeredError(
  functionName: string,
  body: EncodedBody,
  limits: PayloadLimits,
): CallError {
  try {
    const { error } = decodePayload(ContentType.json, body, limits) as {
      error: { code: unknown; message: unknown; retryable: unknown; details?: unknown };
    };
    const code = isErrorCode(error.code) ? error.code : 'FUNCTION_FAILED';
    const { retryable, details } = error;
    return new CallError(functionName, code, String(error.message), {
      retryable: retryable === true,
      details,
    });
  } catch (cause) {
    const message = `${functionName} failed with an unreadable answer: ${messageOf(cause)}`;
    return new CallError(functionName, 'FUNCTION_FAILED', message, { cause });
  }
}

export function clientClosed(): MillraceError {
  return new MillraceError('UNAVAILABLE', 'This client is closed.', { retryable: false });
}

export function tooManyInFlight(count: number): MillraceError {
  return new MillraceError(
    'UNAVAILABLE',
    `${count} calls are in flight already, the limit of this process.`,
  );
}

export function cancelled(functionName: string, reason: unknown): CallError {
  const message = `The call of ${functionName} was cancelled.`;
  return new CallError(functionName, 'CANCELLED', message, { cause: reason });
}

export function timedOut(functionName: string, sent: boolean): CallError {
  return new CallError(functionName, 'TIMEOUT', `${functionName} did not answer in time.`, {
    details: { outcome: sent ? 'unknown' : 'not sent' },
  });
}

export function outcomeUnknown(functionName: string, attempts: number): CallError {
  return new CallError(
    functionName,
    'UNAVAILABLE',
    `The worker that ran ${functionName} is gone; whether the call took effect is unknown.`,
    { details: { outcome: 'unknown', attempts } },
  );
}

export function unknownFunction(functionName: string, why: string): CallError {
  const message = `There is no function ${functionName}: ${why}.`;
  return new CallError(functionName, 'UNKNOWN_FUNCTION', message);
}

export function nobodyAvailable(functionName: string, connected: boolean): CallError {
  const why = connected
    ? `no worker that runs ${functionName} is available`
    : 'the connection to NATS is down';
  return new CallError(functionName, 'UNAVAILABLE', `The call was not sent: ${why}.`);
}

export function notUnderstood(functionName: string, workerId: string): CallError {
  return new CallError(
    functionName,
    'UNAVAILABLE',
    `Worker ${workerId} did not understand the call; it may run another version of millrace.`,
    { retryable: false },
  );
}
