/** The ways an invocation comes in: a frame of calls from our own client, or a plain NATS message. */
import { headers as newHeaders, type Msg, type MsgHdrs } from 'nats';
import { inboxToken } from '../bus/call.ts';
import { EVENT_ID_HEADER, MESSAGE_ID_HEADER } from '../bus/event-id.ts';
import type { Bus } from '../bus/connection.ts';
import { FRESH_HEADER, TRANSACTION_HEADER } from '../bus/invoke.ts';
import { ERROR_CODE_HEADER } from '../bus/streamed-answer.ts';
import {
  decodeCalls,
  UNTRACED,
  UNTRACED_HEADER,
  UNTRACED_TEXT,
  type IncomingCall,
} from '../bus/frame.ts';
import { RUN_HEADER } from '../bus/run-traces.ts';
import { MillraceError } from '../core/errors.ts';
import { isOwnFunction } from '../core/names.ts';
import {
  CONTENT_TYPE_HEADER,
  ContentType,
  contentTypeHeader,
  contentTypeOf,
  type Encoded,
} from '../core/payload.ts';
import type { Incoming } from './invocation.ts';
import { encodeError, type Replies } from './replies.ts';
import {
  ID_HEADER,
  isOfCalls,
  isReserved,
  PARTS_HEADER,
  SUBJECT_HEADER,
} from './reserved-headers.ts';

const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({});
const NO_CALL_HEADERS = Object.freeze({ headers: NO_HEADERS, own: NO_HEADERS });
const UNTRACED_CALL_HEADERS = Object.freeze({ headers: NO_HEADERS, own: UNTRACED });
const FRAME_REPLY = /\.c\.f\.\d+\.\d+$/;

export interface FrameTarget {
  replies: Replies;
  /** The subject that the invocation of a function by name is said to have come in on. */
  subjectOf: (functionName: string) => string;
  deliver: (functionName: string, incoming: Incoming) => void;
}

/**
 * False when the message is no frame of ours. `only`: it comes from outside of the workers, who may call this function and say
 * nothing of deliveries and transactions.
 */
export function receiveFrame(message: Msg, target: FrameTarget, only?: string): boolean {
  const reply = message.reply ?? '';
  const end = reply.search(FRAME_REPLY);
  const calls = end > 0 ? decodeCalls(message.data) : undefined;
  if (calls === undefined) return false;
  const caller = reply.slice(0, end);
  const token = inboxToken(caller);
  for (const call of calls) {
    const incoming = fromCall(caller, token, call, target);
    if (only === undefined) target.deliver(call.functionName, incoming);
    else if (call.functionName === only && !isOwnFunction(only))
      target.deliver(only, fromOutside(incoming, target.subjectOf(only)));
    else incoming.fail(notNamed(call.functionName));
  }
  return true;
}

/** Without what only workers say. */
function fromOutside(incoming: Incoming, subject: string): Incoming {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(incoming.headers)) {
    if (!isReserved(name)) headers[name] = value;
  }
  return { ...incoming, headers, subject, transaction: undefined };
}

function notNamed(functionName: string): MillraceError {
  const message = `${functionName} is not the function that the frame's subject names.`;
  return new MillraceError('FORBIDDEN', message);
}

function fromCall(
  caller: string,
  token: string,
  call: IncomingCall,
  target: FrameTarget,
): Incoming {
  const { replies } = target;
  const { headers, own } = headersOf(call.headers);
  return {
    caller,
    subject: own[SUBJECT_HEADER] ?? target.subjectOf(call.functionName),
    type: call.type,
    body: call.body,
    headers,
    transaction: own[TRANSACTION_HEADER],
    fresh: own[FRESH_HEADER] !== undefined,
    untraced: own[UNTRACED_HEADER] !== undefined,
    cause: own[RUN_HEADER],
    eventId: call.eventId || (own[ID_HEADER] ?? `${token}-${call.callId}`),
    attempt: call.attempt,
    repeats: call.eventId === '' ? (call.retry ? 'call' : 'never') : 'id',
    timeoutMs: call.timeoutMs,
    parts: partsOf(call, caller, replies),
    answer: (encoded) => replies.answer(caller, call.callId, encoded),
    fail: (error) => replies.fail(caller, call.callId, error),
  };
}

/** What is kept under an id is a whole answer. */
function partsOf(
  { parts, callId, eventId }: IncomingCall,
  caller: string,
  replies: Replies,
): Incoming['parts'] {
  if (!parts || eventId !== '') return undefined;
  return { to: undefined, announce: (control) => replies.parts(caller, callId, control) };
}

type Headers = Readonly<Record<string, string>>;

function headersOf(text: string): { headers: Headers; own: Headers } {
  if (text === '') return NO_CALL_HEADERS;
  return text === UNTRACED_TEXT ? UNTRACED_CALL_HEADERS : readHeaders(text);
}

/** `own`: those of the platform, which no handler sees. */
function readHeaders(text: string): { headers: Headers; own: Headers } {
  const headers: Record<string, string> = Object.create(null) as Record<string, string>;
  const own: Record<string, string> = {};
  try {
    for (const [name, value] of Object.entries(JSON.parse(text) as object)) {
      (isOfCalls(name) ? own : headers)[name] = String(value);
    }
  } catch {
    // Only our own client writes frames; headers it did not write are no reason to refuse the call.
  }
  return { headers, own };
}

/** A plain NATS message; `newId` names events that came without an id. */
export function receivePlain(message: Msg, bus: Bus, newId: () => string): Incoming {
  const headers = plainHeaders(message);
  const type = contentTypeOf(headers[CONTENT_TYPE_HEADER]);
  const reply = message.reply ?? '';
  return {
    caller: '',
    subject: message.subject,
    type,
    body: message.data,
    headers,
    fresh: headers[FRESH_HEADER] !== undefined,
    eventId: headers[EVENT_ID_HEADER] ?? headers[MESSAGE_ID_HEADER] ?? newId(),
    attempt: 1,
    repeats: reply !== '' && headers[MESSAGE_ID_HEADER] !== undefined ? 'id' : 'never',
    timeoutMs: undefined,
    parts: wantsParts(headers) && reply !== '' ? { to: reply, announce: () => {} } : undefined,
    answer: (encoded) => answerPlain(bus, reply, type, encoded),
    fail: (error) => failPlain(bus, reply, error),
  };
}

function wantsParts(headers: Readonly<Record<string, string>>): boolean {
  return headers[PARTS_HEADER] === '1' && headers['Nats-Msg-Id'] === undefined;
}

function plainHeaders(message: Msg): Readonly<Record<string, string>> {
  const given = message.headers;
  if (given === undefined) return NO_HEADERS;
  const headers: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const [name, values] of given) headers[name] = values.at(-1) ?? '';
  return headers;
}

const MAX_ERROR_LINE_LENGTH = 1_024;
const JSON_NULL = Buffer.from('null');
const MSGPACK_NIL = Uint8Array.of(0xc0);

/** Core NATS: an answer that finds the connection down is lost, as any message on it is. */
function answerPlain(bus: Bus, reply: string, asked: ContentType, encoded: Encoded): void {
  if (reply === '') return;
  const { type, body } = encoded.type === ContentType.empty ? nothing(asked) : encoded;
  const payload = typeof body === 'string' ? Buffer.from(body) : body;
  if (type === ContentType.json && asked === ContentType.json) {
    bus.answer(reply, payload);
    return;
  }
  const headers = newHeaders();
  headers.set(CONTENT_TYPE_HEADER, contentTypeHeader(type));
  bus.answer(reply, payload, { headers });
}

/** A function without a result: an empty body would be neither JSON nor MessagePack. */
function nothing(asked: ContentType): Encoded {
  return asked === ContentType.msgpack
    ? { type: asked, body: MSGPACK_NIL }
    : { type: ContentType.json, body: JSON_NULL };
}

/** ADR-32: the error's number and text in headers; the same as JSON in the body. */
export function failPlain(bus: Bus, reply: string, error: MillraceError): void {
  if (reply === '') return;
  bus.answer(reply, Buffer.from(encodeError(error)), { headers: errorHeaders(error) });
}

export function errorHeaders(error: MillraceError): MsgHdrs {
  const headers = newHeaders();
  headers.set(ERROR_CODE_HEADER, String(error.status));
  // A header is one line.
  const line = error.message.replaceAll(/\s+/g, ' ').slice(0, MAX_ERROR_LINE_LENGTH);
  headers.set('Nats-Service-Error', line);
  return headers;
}
