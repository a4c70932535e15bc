/** Events over HTTP: published, and followed as server-sent events. */
import type { Subscription } from 'nats';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { MillraceError } from '../core/errors.ts';
import { assertNotReserved, assertSubscriptionSubject } from '../core/names.ts';
import { ContentType, decodePayload, contentTypeOf } from '../core/payload.ts';
import type { PublishOptions } from '../bus/publisher.ts';
import type { GatewayContext } from './context.ts';
import { bodyOf, callOptionsOf, dataOf } from './payloads.ts';

const CLOUD_EVENT = 'application/cloudevents+json';
/** A follower that is so far behind is cut off: it connects again and goes on with what comes then. */
const MAX_BEHIND_BYTES = 1024 * 1024;
const MAX_FOLLOWERS = 1_000;
const HEARTBEAT_MS = 15_000;

export function eventRoutes(app: FastifyInstance, context: GatewayContext): void {
  const { mill, settings, access } = context;
  app.post(
    '/events/:subject',
    async (request: FastifyRequest<{ Params: { subject: string } }>, reply) => {
      const { subject } = request.params;
      access.assert(request, { what: 'publish', name: subject });
      const { data, options } = eventOf(request, context);
      const receipt = await mill.publish(subject, data, options);
      return reply.code(202).send(receipt);
    },
  );

  let followers = 0;
  app.get(
    '/events',
    async (request: FastifyRequest<{ Querystring: { subject?: unknown } }>, reply) => {
      const { subject } = request.query;
      assertSubscriptionSubject(subject, 'INVALID_INPUT');
      assertNotReserved(subject, settings.namespace, 'INVALID_INPUT');
      access.assert(request, { what: 'subscribe', name: subject });
      if (followers >= MAX_FOLLOWERS) {
        throw new MillraceError('RATE_LIMITED', `${MAX_FOLLOWERS} follow events here already.`);
      }
      followers += 1;
      reply.hijack();
      const { raw } = reply;
      raw.writeHead(200, {
        ...(reply.getHeaders() as Record<string, string>),
        'Content-Type': 'text/event-stream',
        'Cache-Control': 'no-store',
      });
      raw.write(': follows\n\n');
      let subscription: Subscription | undefined;
      const heartbeat = setInterval(() => raw.write(': \n\n'), HEARTBEAT_MS);
      raw.once('close', () => {
        followers -= 1;
        clearInterval(heartbeat);
        subscription?.unsubscribe();
      });
      subscription = context.bus.subscribe(subject, (message) => {
        const type = contentTypeOf(message.headers?.get('Content-Type'));
        const id = message.headers?.get('Nats-Msg-Id') ?? '';
        raw.write(framed(message.subject, id, shown(message.data, type, context)));
        if (raw.writableLength > MAX_BEHIND_BYTES) raw.destroy();
      });
    },
  );
}

/** A CloudEvent, structured or in headers, or plain data. */
function eventOf(
  request: FastifyRequest,
  { settings }: GatewayContext,
): { data: unknown; options: PublishOptions } {
  const { id, headers = {} } = callOptionsOf(request, settings);
  const [type = ''] = (request.headers['content-type'] ?? '').split(';', 1);
  if (type.trim().toLowerCase() !== CLOUD_EVENT) {
    const own = Object.entries(request.headers).flatMap(([name, value]) =>
      name.startsWith('ce-') && typeof value === 'string' ? [[name, value]] : [],
    );
    const all: Record<string, string> = { ...headers, ...(Object.fromEntries(own) as object) };
    const eventId = id ?? all['ce-id'];
    return {
      data: dataOf(request, settings),
      options: { headers: all, ...(eventId === undefined ? {} : { id: eventId }) },
    };
  }
  const envelope = decodePayload(ContentType.json, bodyOf(request), settings);
  if (typeof envelope !== 'object' || envelope === null || Array.isArray(envelope))
    throw noCloudEvent();
  const { data, data_base64: base64, ...attributes } = envelope as Record<string, unknown>;
  const all: Record<string, string> = { ...headers };
  for (const [name, value] of Object.entries(attributes)) {
    const legal =
      /^[a-z0-9]{1,20}$/.test(name) && ['string', 'number', 'boolean'].includes(typeof value);
    if (!legal) throw noCloudEvent();
    all[`ce-${name}`] = String(value);
  }
  const eventId = id ?? all['ce-id'];
  if (eventId === undefined || !('ce-source' in all) || !('ce-type' in all)) throw noCloudEvent();
  const bytes = typeof base64 === 'string' ? Buffer.from(base64, 'base64') : undefined;
  return { data: bytes ?? data, options: { id: eventId, headers: all } };
}

function noCloudEvent(): MillraceError {
  return new MillraceError(
    'INVALID_INPUT',
    'A CloudEvent is an object with specversion, id, source and type, and attributes of lower-case letters and digits.',
  );
}

function shown(
  payload: Uint8Array,
  type: ReturnType<typeof contentTypeOf>,
  { settings }: GatewayContext,
): unknown {
  try {
    const data = decodePayload(type, payload, settings);
    return data instanceof Uint8Array ? { base64: Buffer.from(data).toString('base64') } : data;
  } catch {
    return { base64: Buffer.from(payload).toString('base64') };
  }
}

function framed(subject: string, id: string, data: unknown): string {
  const text = JSON.stringify({ subject, id, data: data ?? null });
  const line = id === '' || /[\r\n\0]/.test(id) ? '' : `id: ${id}\n`;
  return `${line}data: ${text}\n\n`;
}
