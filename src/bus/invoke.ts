/** `invoke` as users see it, for the client and for a handler's context: encode, call, decode. */
import { MillraceError, messageOf } from '../core/errors.ts';
import { ContentType, decodePayload, encodePayload } from '../core/payload.ts';
import type { Settings } from '../core/settings.ts';
import { assertKey } from '../core/state/keys.ts';
import { asCallError, unreadableAnswer } from './call-errors.ts';
import type { CallAnswer, CallRequest } from './call.ts';
import type { Caller } from './caller.ts';
import { MAX_HEADERS_BYTES, MAX_ID_BYTES, ReplyStatus, UNTRACED, UNTRACED_TEXT } from './frame.ts';

export interface InvokeOptions {
  /** How long to wait for the answer, in milliseconds. Default: the setting `callTimeoutMs`. */
  timeoutMs?: number;
  /** The event's id, at most 255 bytes. Default: one of the platform's. */
  id?: string;
  /** Reach the function as `event.headers`; at most 4 KiB together. */
  headers?: Readonly<Record<string, string>>;
  /**
   * Run it on the worker that has this key's state, if that has the function: its transactions are faster there. A function with a
   * `key` that is given as such, not by name, finds it itself.
   */
  key?: string;
  /**
   * May a kept answer be given, where the function says that its answers may be kept? Default: true for a client; false in a handler,
   * where a call takes part in the transaction. With true in a handler it does not: what the function reads is then read before or beside it.
   */
  cache?: boolean;
  /** Gives up waiting; what runs already is not stopped. */
  signal?: AbortSignal;
  /**
   * Run the call again when the worker that took it dies, or the connection to it breaks (default true). With false the
   * call runs at most once and then fails as UNAVAILABLE with `details.outcome: 'unknown'`.
   */
  retry?: boolean;
}

/** Of a call that takes its answer in parts. `id`: what is kept under one is a whole answer. */
export type StreamCallOptions = Omit<InvokeOptions, 'id' | 'cache'>;

export interface InternalOptions {
  /** The transaction that the called function takes part in. */
  transaction?: string;
  /** The platform's own, beside the caller's: what trace it belongs to. */
  trace?: Readonly<Record<string, string>>;
  /** Its caller takes an answer in parts. */
  parts?: boolean;
}

/** Of a call inside a transaction; see state/join.ts. */
export const TRANSACTION_HEADER = 'Millrace-Transaction';
/** Of a call that is to be made, whatever is kept. */
export const FRESH_HEADER = 'Millrace-Fresh';

/** Everything that is wrong with the arguments rejects, with a CallError, too; nothing is thrown. */
export function invokeThrough(
  caller: Caller,
  settings: Settings,
  functionName: string,
  data: unknown,
  options: InvokeOptions & InternalOptions = {},
): Promise<unknown> {
  let request: CallRequest;
  try {
    request = callRequest(settings, functionName, data, options);
  } catch (error) {
    return Promise.reject(asCallError(functionName, error));
  }
  if (request.parts !== true) {
    return caller.call(request, (answer) => decodeAnswer(functionName, answer, settings));
  }
  const deadlineMs = performance.now() + request.timeoutMs;
  const { signal } = request;
  return caller.call(request, (answer) =>
    answer.status === ReplyStatus.parts
      ? caller.streams.open(answer, { functionName, deadlineMs, signal })
      : decodeAnswer(functionName, answer, settings),
  );
}

/** Throws INVALID_INPUT, PAYLOAD_TOO_LARGE. */
export function callRequest(
  settings: Settings,
  functionName: string,
  data: unknown,
  options: InvokeOptions & InternalOptions,
): CallRequest {
  const { timeoutMs = settings.callTimeoutMs, id = '', retry = true, signal, key } = options;
  const { parts = false } = options;
  checkTimeout(timeoutMs);
  if (id !== '') checkId(id);
  if (key !== undefined) assertKey(key);
  return {
    functionName,
    encoded: encodePayload(data, ContentType.json, settings),
    eventId: id,
    headers: callHeaders(options),
    timeoutMs,
    retry,
    parts,
    signal,
    key,
  };
}

/** As frames carry them. */
export function callHeaders({
  headers,
  transaction,
  cache,
  trace,
}: InvokeOptions & InternalOptions): string {
  const text = headers === undefined ? '' : checkHeaders(headers);
  if (transaction === undefined && cache !== false) {
    if (trace === undefined) return text;
    if (trace === UNTRACED && headers === undefined) return UNTRACED_TEXT;
  }
  return JSON.stringify({
    ...headers,
    ...trace,
    ...(transaction === undefined ? {} : { [TRANSACTION_HEADER]: transaction }),
    ...(cache === false ? { [FRESH_HEADER]: '1' } : {}),
  });
}

/** Throws FUNCTION_FAILED where it is nothing that can be read. */
export function decodeAnswer(
  functionName: string,
  answer: CallAnswer,
  settings: Settings,
): unknown {
  try {
    return decodePayload(answer.type, answer.body, settings);
  } catch (cause) {
    throw unreadableAnswer(functionName, messageOf(cause), cause);
  }
}

/** Header names and values as NATS and HTTP have them; the broker's own and ours are not for users. */
const HEADER_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}$/;
// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const HEADER_VALUE = /^[^\u0000-\u001f\u007f]*$/;

/**
 * Throws PAYLOAD_TOO_LARGE over 4 KiB, INVALID_INPUT for names and values that no header can hold, and for the reserved `Nats-…`.
 * Gives the headers as JSON, as frames carry them.
 */
export function checkHeaders(headers: Readonly<Record<string, string>>): string {
  const text = JSON.stringify(headers);
  if (Buffer.byteLength(text) > MAX_HEADERS_BYTES) {
    throw new MillraceError(
      'PAYLOAD_TOO_LARGE',
      `The headers have more than ${MAX_HEADERS_BYTES} bytes.`,
    );
  }
  for (const [name, value] of Object.entries(headers)) {
    if (!HEADER_NAME.test(name) || typeof value !== 'string' || !HEADER_VALUE.test(value)) {
      throw new MillraceError('INVALID_INPUT', `The header ${JSON.stringify(name)} is not legal.`);
    }
    assertUsersHeader(name);
  }
  return text;
}

/** Throws INVALID_INPUT. */
export function assertUsersHeader(name: string): void {
  if (/^(nats|millrace)-/i.test(name)) {
    throw new MillraceError('INVALID_INPUT', `The header ${name} is reserved.`);
  }
}

const MAX_TIMEOUT_MS = 86_400_000;

function checkTimeout(timeoutMs: number): void {
  if (Number.isFinite(timeoutMs) && timeoutMs >= 1 && timeoutMs <= MAX_TIMEOUT_MS) return;
  throw new MillraceError(
    'INVALID_INPUT',
    `timeoutMs must be 1 to ${MAX_TIMEOUT_MS}, not ${timeoutMs}.`,
  );
}

/** An event's id travels in a header too: no control characters, at most 255 bytes. */
export function checkId(id: string): void {
  if (id !== '' && HEADER_VALUE.test(id) && Buffer.byteLength(id) <= MAX_ID_BYTES) return;
  throw new MillraceError(
    'INVALID_INPUT',
    `An event's id must be 1 to ${MAX_ID_BYTES} bytes without control characters.`,
  );
}
