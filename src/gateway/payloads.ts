/** HTTP bodies as payloads, and back. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { MillraceError } from '../core/errors.ts';
import {
  ContentType,
  contentTypeHeader,
  contentTypeOf,
  decodePayload,
  encodePayload,
} from '../core/payload.ts';
import type { Settings } from '../core/settings.ts';

export function bodyOf({ body }: FastifyRequest): Uint8Array {
  return body instanceof Uint8Array ? body : new Uint8Array();
}

/** Throws INVALID_INPUT and PAYLOAD_TOO_LARGE. */
export function dataOf(request: FastifyRequest, settings: Settings): unknown {
  return decodePayload(contentTypeOf(request.headers['content-type']), bodyOf(request), settings);
}

/** In the request's type: JSON or MessagePack; `Accept` may ask for the other one. Bytes are sent as they are. */
export async function sendResult(
  request: FastifyRequest,
  reply: FastifyReply,
  value: unknown,
  settings: Settings,
): Promise<FastifyReply> {
  const { accept = '', 'content-type': given } = request.headers;
  const types = [...accept.split(',').map((each) => each.trim()), given];
  const named = types.find(
    (each) => each !== undefined && contentTypeOf(each) !== ContentType.bytes && each !== '',
  );
  const wanted = contentTypeOf(named);
  const { type, body } = encodePayload(value, wanted, settings);
  if (type === ContentType.empty) return reply.code(204).send();
  const payload = typeof body === 'string' ? body : Buffer.from(body);
  return reply.type(contentTypeHeader(type)).send(payload);
}

/** What travels with a call: how long its requester waits, its id, its trace. */
export function callOptionsOf(
  { headers }: FastifyRequest,
  settings: Settings,
): { timeoutMs: number; id?: string; headers?: Record<string, string> } {
  const id = one(headers['idempotency-key']);
  const { traceparent, tracestate } = headers;
  // One that is not legal is no reason to refuse the call: it has no trace then.
  const isTrace = typeof traceparent === 'string' && TRACE.test(traceparent);
  const hasState =
    isTrace && typeof tracestate === 'string' && tracestate.length <= MAX_TRACE_STATE_CHARACTERS;
  const trace = { ...(isTrace ? { traceparent } : {}), ...(hasState ? { tracestate } : {}) };
  return {
    timeoutMs: timeoutOf(one(headers['millrace-timeout-ms'])) ?? settings.callTimeoutMs,
    ...(id === undefined ? {} : { id }),
    ...(Object.keys(trace).length === 0 ? {} : { headers: trace }),
  };
}

/** W3C's, also of later versions. */
const TRACE = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-[^,\s]{0,200})?$/;
/** What W3C wants carried on at least. */
const MAX_TRACE_STATE_CHARACTERS = 512;
const MAX_TIMEOUT_MS = 86_400_000;

function timeoutOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const timeoutMs = Number(text);
  if (/^\d{1,8}$/.test(text) && timeoutMs >= 1 && timeoutMs <= MAX_TIMEOUT_MS) return timeoutMs;
  throw new MillraceError(
    'INVALID_INPUT',
    `Millrace-Timeout-Ms must be a whole number from 1 to ${MAX_TIMEOUT_MS}.`,
  );
}

function one(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}
