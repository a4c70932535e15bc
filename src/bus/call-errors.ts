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

/** What is wrong with a call before it leaves is the failure of a call, too. */
export function asCallError(functionName: string, thrown: unknown): unknown {
  if (!(thrown instanceof MillraceError) || thrown instanceof CallError) return thrown;
  const { code, message, retryable, details } = thrown;
  return new CallError(functionName, code, message, { retryable, details, cause: thrown });
}

export function clientClosed(functionName: string): CallError {
  return new CallError(functionName, 'UNAVAILABLE', 'This client is closed.', { retryable: false });
}

export function tooManyInFlight(functionName: string, count: number): CallError {
  return new CallError(
    functionName,
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

/** `why` begins the sentence: what happened to the call. */
function outcomeUnknown(functionName: string, attempts: number, why: string): CallError {
  return new CallError(
    functionName,
    'UNAVAILABLE',
    `${why}; whether the call took effect is unknown.`,
    { details: { outcome: 'unknown', attempts } },
  );
}

export function workerGone(functionName: string, attempts: number): CallError {
  return outcomeUnknown(functionName, attempts, `The worker that ran ${functionName} is gone`);
}

export function answerLost(functionName: string, attempts: number): CallError {
  const why = `The connection broke while ${functionName} was called, and it does not run any more`;
  return outcomeUnknown(functionName, attempts, why);
}

/** Its worker died with it, or has given it up. */
export function streamLost(functionName: string): CallError {
  const message = `The answer of ${functionName} has broken off; whether the call took effect is unknown.`;
  return new CallError(functionName, 'UNAVAILABLE', message, { details: { outcome: 'unknown' } });
}

export function unreadableAnswer(functionName: string, why: string, cause?: unknown): CallError {
  const message = `The answer of ${functionName} is refused here: ${why}`;
  return new CallError(functionName, 'FUNCTION_FAILED', message, { cause });
}

/** What the answer to "do you still run this call?" can say when it is no. */
export function saysNotRunning({ code }: CallError): boolean {
  return code === 'TIMEOUT' || code === 'UNAVAILABLE' || code === 'UNKNOWN_FUNCTION';
}

export function unknownFunction(functionName: string): CallError {
  const message = `There is no function ${functionName}: no worker runs it.`;
  return new CallError(functionName, 'UNKNOWN_FUNCTION', message);
}

/** A worker's own words for "not here": a handler that answers UNKNOWN_FUNCTION has run, and says something else. */
export function saysNotHere({ functionName, code, message }: CallError): boolean {
  return code === 'UNKNOWN_FUNCTION' && message === `This worker has no function ${functionName}.`;
}

function notSent(functionName: string, why: string): CallError {
  return new CallError(functionName, 'UNAVAILABLE', `The call was not sent: ${why}.`);
}

export function nobodyAvailable(functionName: string): CallError {
  return notSent(functionName, `no worker that runs ${functionName} is available`);
}

export function notConnected(functionName: string): CallError {
  return notSent(functionName, 'the connection to NATS is down');
}

/** Not UNKNOWN_FUNCTION: the first worker that starts may have it. */
export function noWorker(functionName: string): CallError {
  return notSent(functionName, 'no worker is running');
}

/** Somebody listens for workers, but has said nothing: it may compute, and have the function. */
export function noWorkerHeard(functionName: string): CallError {
  return notSent(functionName, 'no worker has answered yet');
}

export function notUnderstood(functionName: string, workerId: string): CallError {
  return new CallError(
    functionName,
    'UNAVAILABLE',
    `Worker ${workerId} did not understand the call; it may run another version of millrace.`,
    { retryable: false },
  );
}

/** May the call have taken effect? */
export function isUnclear(error: unknown): boolean {
  const { code, details } = error as MillraceError;
  return code === 'TIMEOUT' || (details as { outcome?: string } | undefined)?.outcome === 'unknown';
}

export function notAllowed(functionName: string): CallError {
  return new CallError(
    functionName,
    'FORBIDDEN',
    `NATS permissions forbid this client to call ${functionName}.`,
  );
}
