/** What a requester is told whose call was not run, or not to its end. */
import { MillraceError } from '../core/errors.ts';
import type { Validation } from '../function/schema.ts';
import { describe } from './answers.ts';

type Issues = Extract<Validation, { ok: false }>['issues'];

export function late(functionName: string, { running }: { running: boolean }): MillraceError {
  const phase = running ? 'did not end' : 'was not started';
  return new MillraceError('TIMEOUT', `${functionName} ${phase} before its deadline.`);
}

/** `stuck`: handlers that never ended, when they are too many. */
export function full(
  functionName: string,
  { running, queued }: { running: number; queued: number },
  stuck: number,
): MillraceError {
  const why =
    stuck > 0
      ? `is stopped on this worker: ${stuck} of its handlers never ended`
      : `is full on this worker: ${running} run and ${queued} wait`;
  return new MillraceError('UNAVAILABLE', `${functionName} ${why}.`);
}

export function invalidInput(functionName: string, issues: Issues): MillraceError {
  const message = `The input of ${functionName} is not valid: ${describe(issues)}.`;
  return new MillraceError('INVALID_INPUT', message, { details: { issues } });
}

export function invalidOutput(functionName: string, issues: Issues): MillraceError {
  const message = `${functionName} returned what its output schema refuses: ${describe(issues)}.`;
  return new MillraceError('FUNCTION_FAILED', message, { details: { issues } });
}

export function noState(): MillraceError {
  return new MillraceError('NOT_SUPPORTED', 'There is no state: the NATS server has no JetStream.');
}

export function noJetStream(functionName: string): MillraceError {
  return new MillraceError(
    'NOT_SUPPORTED',
    `The function ${functionName} wants durable delivery, but the NATS server has no JetStream; set delivery: 'ephemeral'.`,
  );
}

/** What a worker does not start with at all, instead of without state. */
export function keepsFromStarting(error: unknown): boolean {
  const { code } = error as MillraceError;
  return code === 'USAGE' || code === 'RESTORE_UNFINISHED' || code === 'NEWER_VERSION';
}

export function notAFrame(): MillraceError {
  const message = 'This is no frame of calls that is understood here.';
  return new MillraceError('INVALID_INPUT', message);
}

export function noParts(): MillraceError {
  return new MillraceError('NOT_SUPPORTED', 'A function with isolation cannot answer in parts.');
}
