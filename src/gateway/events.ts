/** Events over HTTP: published, and followed as server-sent events. */
import type { ServerResponse } from 'node:http';
import type { Subscription } from 'nats';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { MillraceError } from '../core/errors.ts';
import { assertNotReserved, assertSubscriptionSubject } from '../core/names.ts';
import { ContentType, decodePayload, contentTypeOf } from '../core/payload.ts';
import type { PublishOptions } from '../bus/publisher.ts';
import type { GatewayContext } from './context.ts';
import { bodyOf, callOptionsOf, dataOf } from './payloads.ts';

const CLOUD_EVENT = 'application/cloudevents+json';
const CLOUD_EVENTS = 'application/cloudevents-batch+json';
const MAX_BATCH = 100;
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
      if (typeOf(request) === CLOUD_EVENTS) {
        // All are read before the first is published. Those that come again are known by their ids.
        const events = cloudEvents(request, context);
        const published = events.map(async (each) =>
          mill.publish(subject, each.data, each.options),
        );
        return reply.code(202).send({ events: await Promise.all(published) });
      }
      const { data, options } = eventOf(request, context);
      const receipt = await mill.publish(subject, data, options);
      return reply.code(202).send(receipt);
    },
  );

  const followers = new Set<ServerResponse>();
  // They have no end that could be waited for.
  const endAll = (): void => followers.forEach((each) => each.end());
  context.closing.addEventListener('abort', endAll, { once: true });
  app.get(
    '/events',
    { exposeHeadRoute: false },
    async (request: FastifyRequest<{ Querystring: { subject?: unknown } }>, reply) => {
      const { subject } = request.query;
      assertSubscriptionSubject(subject, 'INVALID_INPUT');
      assertNotReserved(subject, settings.namespace, 'INVALID_INPUT');
      access.assert(request, { what: 'subscribe', name: subject });
      if (followers.size >= MAX_FOLLOWERS) {
        throw new MillraceError('RATE_LIMITED', `${MAX_FOLLOWERS} follow events here already.`);
      }
      reply.hijack();
      const { raw } = reply;
      followers.add(raw);
      raw.writeHead(200, {
        ...(reply.getHeaders() as Record<string, string>),
        'Content-Type': 'text/event-stream',
        'Cache-Control': 'no-store',
      });
      raw.write(': follows\n\n');
      let subscription: Subscription | undefined;
      const heartbeat = setInterval(() => raw.write(': \n\n'), HEARTBEAT_MS);
      raw.once('close', () => {
        followers.delete(raw);
        clearInterval(heartbeat);
        subscription?.unsubscribe();
      });
      subscription = context.bus.subscribe(subject, (message) => {
        if (raw.writableEnded) return;
        const type = contentTypeOf(message.headers?.get('Content-Type'));
        const id = message.headers?.get('Nats-Msg-Id') ?? '';
        raw.write(framed(message.subject, id, shown(message.data, type, context)));
        if (raw.writableLength > MAX_BEHIND_BYTES) raw.destroy();
      });
    },
  );
}

interface Event {
  data: unknown;
  options: PublishOptions;
}

function typeOf({ headers }: FastifyRequest): string {
  const [type = ''] = (headers['content-type'] ?? '').split(';', 1);
  return type.trim().toLowerCase();
}

/** A CloudEvent, structured or in headers, or plain data. */
function eventOf(request: FastifyRequest, { settings }: GatewayContext): Event {
  const { id, headers = {} } = callOptionsOf(request, settings);
  if (typeOf(request) === CLOUD_EVENT) {
    const event = cloudEvent(decodePayload(ContentType.json, bodyOf(request), settings), headers);
    return id === undefined ? event : { ...event, options: { ...event.options, id } };
  }
  const own = Object.entries(request.headers).flatMap(([name, value]) =>
    name.startsWith('ce-') && typeof value === 'string' ? [[name, value]] : [],
  );
  const all: Record<string, string> = { ...headers, ...(Object.fromEntries(own) as object) };
  if (own.length > 0) assertAttributes(all);
  const eventId = id ?? all['ce-id'];
  return {
    data: dataOf(request, settings),
    options: { headers: all, ...(eventId === undefined ? {} : { id: eventId }) },
  };
}

function cloudEvents(request: FastifyRequest, { settings }: GatewayContext): Event[] {
  const { id, headers = {} } = callOptionsOf(request, settings);
  const batch = decodePayload(ContentType.json, bodyOf(request), settings);
  if (!Array.isArray(batch) || batch.length > MAX_BATCH) {
    throw new MillraceError(
      'INVALID_INPUT',
      `A batch of CloudEvents is a list of at most ${MAX_BATCH}.`,
    );
  }
  if (id !== undefined) {
    throw new MillraceError(
      'INVALID_INPUT',
      'A batch has no Idempotency-Key: each CloudEvent has an id.',
    );
  }
  return batch.map((each) => cloudEvent(each, headers));
}

function cloudEvent(envelope: unknown, headers: Readonly<Record<string, string>>): Event {
  if (typeof envelope !== 'object' || envelope === null || Array.isArray(envelope)) {
    throw noCloudEvent();
  }
  const { data, data_base64: base64, ...attributes } = envelope as Record<string, unknown>;
  const all: Record<string, string> = { ...headers };
  for (const [name, value] of Object.entries(attributes)) {
    const legal =
      /^[a-z0-9]{1,20}$/.test(name) && ['string', 'number', 'boolean'].includes(typeof value);
    if (!legal) throw noCloudEvent();
    all[`ce-${name}`] = String(value);
  }
  assertAttributes(all);
  const bytes = typeof base64 === 'string' ? Buffer.from(base64, 'base64') : undefined;
  return { data: bytes ?? data, options: { id: all['ce-id'] ?? '', headers: all } };
}

/** Those that every CloudEvent has. */
function assertAttributes(headers: Readonly<Record<string, string>>): void {
  const missing = ['ce-id', 'ce-source', 'ce-type'].some((name) => (headers[name] ?? '') === '');
  if (missing || headers['ce-specversion'] !== '1.0') throw noCloudEvent();
}

function noCloudEvent(): MillraceError {
  return new MillraceError(
    'INVALID_INPUT',
    'A CloudEvent has specversion 1.0, id, source and type, and attributes of lower-case letters and digits.',
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
