/** What a requester is told of what a handler threw, or of what a schema refused. */
import { CallError, MillraceError, messageOf } from '../core/errors.ts';
import { encodePayload, type ContentType, type Encoded } from '../core/payload.ts';
import type { Settings } from '../core/settings.ts';
import { EmitError } from './invocation.ts';
import type { Secrets } from './secrets.ts';

/**
 * A MillraceError that the handler throws itself is its answer; the failure of a call that it made, or of an event
 * that it wanted to emit, is not: the requester's input was fine.
 */
export function answerFor(functionName: string, thrown: unknown): MillraceError {
  const own = ownAnswer(thrown);
  if (own !== undefined) return own;
  const { name, code, retryable } = thrownFacts(thrown);
  return new MillraceError('FUNCTION_FAILED', `${functionName} failed: ${messageOf(thrown)}`, {
    retryable,
    details: code === undefined ? { name } : { name, code },
    cause: thrown,
  });
}

/** A copy: the handler can have put anything into the original, and a proxy throws even when it is asked what it is. */
function ownAnswer(thrown: unknown): MillraceError | undefined {
  try {
    if (thrown instanceof CallError || thrown instanceof EmitError) return undefined;
    if (!(thrown instanceof MillraceError)) return undefined;
    const { code, details } = thrown;
    const { message, retryable }: { message: unknown; retryable: unknown } = thrown;
    const answer = new MillraceError(code, String(message), {
      retryable: retryable === true,
      details,
      cause: thrown,
    });
    return answer.status > 0 ? answer : undefined;
  } catch {
    return undefined;
  }
}

/** Characters of a thrown error's name or code that travel in the answer. */
const MAX_FACT_LENGTH = 100;

function thrownFacts(thrown: unknown): {
  name: string;
  code: string | undefined;
  retryable: boolean;
} {
  if (typeof thrown !== 'object' || thrown === null) {
    return { name: typeof thrown, code: undefined, retryable: false };
  }
  try {
    const { name, code, retryable } = thrown as Record<string, unknown>;
    return {
      name: typeof name === 'string' ? name.slice(0, MAX_FACT_LENGTH) : 'Error',
      code: typeof code === 'string' ? code.slice(0, MAX_FACT_LENGTH) : undefined,
      retryable: retryable === true,
    };
  } catch {
    // Its own getters throw.
    return { name: 'Error', code: undefined, retryable: false };
  }
}

/** `path: message`, one after the other. */
export function describe(
  issues: readonly { path: readonly (string | number)[]; message: string }[],
): string {
  return issues
    .map(({ path, message }) => (path.length === 0 ? message : `${path.join('.')}: ${message}`))
    .join('; ');
}

/** Throws FUNCTION_FAILED, or PAYLOAD_TOO_LARGE. */
export function encodeResult(
  functionName: string,
  value: unknown,
  type: ContentType,
  settings: Settings,
  secrets: Secrets,
): Encoded {
  let encoded: Encoded;
  try {
    encoded = encodePayload(value, type, settings);
  } catch (cause) {
    const { code, message } = cause as MillraceError;
    throw new MillraceError(
      code === 'PAYLOAD_TOO_LARGE' ? code : 'FUNCTION_FAILED',
      `The result of ${functionName} cannot be sent. ${message}`,
      { cause },
    );
  }
  secrets.assertNotInAnswer(functionName, encoded);
  return encoded;
}
