/** Answers in parts over HTTP: docs/streaming.md. */
import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { StreamedAnswer } from '../bus/streamed-answer.ts';
import { MillraceError } from '../core/errors.ts';
import { ContentType, contentTypeOf, packed } from '../core/payload.ts';

interface Format {
  type: string;
  part: (value: unknown, number: number) => string | Uint8Array;
  /** After the last of so many parts. */
  end?: (parts: number) => string;
  failed: (body: object) => string | Uint8Array;
  /** Said now and then while there is nothing to say. */
  heartbeat?: string;
}

const HEARTBEAT_MS = 15_000;

const NDJSON: Format = {
  type: 'application/x-ndjson',
  part: (value) => `${jsonOf(value)}\n`,
  failed: (body) => `${jsonOf(body)}\n`,
};
const EVENTS: Format = {
  type: 'text/event-stream',
  part: (value, number) => `id: ${number}\ndata: ${jsonOf(value)}\n\n`,
  end: (parts) => `event: end\ndata: ${jsonOf({ parts })}\n\n`,
  failed: (body) => `event: error\ndata: ${jsonOf(body)}\n\n`,
  heartbeat: ': \n\n',
};
const MSGPACK: Format = { type: 'application/msgpack', part: packed, failed: packed };
const WHOLE = 'application/json';
const ANY = '*/*';
const BY_TYPE: Record<string, Format> = Object.fromEntries(
  [NDJSON, EVENTS, MSGPACK].map((format) => [format.type, format]),
);

/** How its requester wants an answer that may come in parts; undefined: whole. */
export function formatOf({ headers }: FastifyRequest): Format | undefined {
  // What is kept under a key is a whole answer.
  if (headers['idempotency-key'] !== undefined) return undefined;
  const { accept = ANY } = headers;
  if (accept !== ANY) {
    for (const each of accept.split(',')) {
      const [type = ''] = each.trim().toLowerCase().split(';', 1);
      if (type === WHOLE) return undefined;
      if (type === ANY) break;
      if (Object.hasOwn(BY_TYPE, type)) return BY_TYPE[type];
    }
  }
  return contentTypeOf(headers['content-type']) === ContentType.msgpack ? MSGPACK : NDJSON;
}

export async function sendParts(
  reply: FastifyReply,
  answer: StreamedAnswer,
  format: Format,
): Promise<FastifyReply> {
  const { raw } = reply;
  const heartbeat =
    format.heartbeat === undefined
      ? undefined
      : setInterval(() => {
          if (raw.headersSent) raw.write(format.heartbeat);
        }, HEARTBEAT_MS);
  raw.once('close', () => {
    clearInterval(heartbeat);
    // Its client may have left while the next part is waited for.
    void answer.return();
  });
  reply.type(format.type).header('Cache-Control', 'no-store').header('X-Accel-Buffering', 'no');
  // One part ahead: what the client does not take waits at the worker.
  return reply.send(Readable.from(encoded(answer, format), { highWaterMark: 1 }));
}

async function* encoded(
  answer: StreamedAnswer,
  format: Format,
): AsyncGenerator<string | Uint8Array> {
  let parts = 0;
  try {
    for await (const value of answer) {
      parts += 1;
      yield format.part(value, parts);
    }
    if (format.end !== undefined) yield format.end(parts);
  } catch (thrown) {
    const error =
      thrown instanceof MillraceError
        ? thrown
        : new MillraceError('UNAVAILABLE', 'The gateway has failed.', { cause: thrown });
    yield format.failed({ error: error.toBody() });
  }
}

function jsonOf(value: unknown): string {
  const shown =
    value instanceof Uint8Array ? { base64: Buffer.from(value).toString('base64') } : value;
  return JSON.stringify(shown ?? null);
}
