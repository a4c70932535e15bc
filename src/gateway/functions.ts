/** Functions over HTTP: by name, on routes of their own, and as receivers of webhooks. */
import { isUtf8 } from 'node:buffer';
import { createHmac, timingSafeEqual } from 'node:crypto';
import { verify } from '@octokit/webhooks-methods';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { StreamedAnswer } from '../bus/streamed-answer.ts';
import type { CatalogEntry } from '../core/catalog.ts';
import { MillraceError } from '../core/errors.ts';
import type { GatewayContext } from './context.ts';
import { formatOf, sendParts } from './parts.ts';
import { bodyOf, callOptionsOf, dataOf, sendResult } from './payloads.ts';
import type { Route } from './routes.ts';

type Webhook = NonNullable<NonNullable<CatalogEntry['http']>['webhook']>;

const DEFAULT_HEADER = 'x-signature-256';
const ALGORITHM = 'sha256=';
const MAX_ID_CHARACTERS = 200;

export function functionRoutes(app: FastifyInstance, context: GatewayContext): void {
  const { settings, access } = context;
  app.post('/fn/:name', async (request: FastifyRequest<{ Params: { name: string } }>, reply) => {
    const { name } = request.params;
    access.assert(request, { what: 'invoke', name });
    const data = dataOf(request, settings);
    return answerWith(request, reply, context, name, data);
  });
}

/** What the function answers, whole or in parts. */
async function answerWith(
  request: FastifyRequest,
  reply: FastifyReply,
  { mill, settings }: GatewayContext,
  name: string,
  data: unknown,
): Promise<FastifyReply> {
  const options = callOptionsOf(request, settings);
  const format = formatOf(request);
  if (format === undefined) {
    return sendResult(request, reply, await mill.invoke(name, data, options), settings);
  }
  const result = await mill.invokeInParts(name, data, options);
  return result instanceof StreamedAnswer
    ? sendParts(reply, result, format)
    : sendResult(request, reply, result, settings);
}

/** For what no route of the gateway's own has taken. */
export async function ownRoute(
  request: FastifyRequest,
  reply: FastifyReply,
  context: GatewayContext,
): Promise<FastifyReply> {
  const { mill, settings, access, routes, environment } = context;
  const [path = ''] = request.url.split('?', 1);
  const route = await routes.find(request.method, path);
  if (route === undefined) {
    throw new MillraceError(
      'NOT_FOUND',
      `There is nothing at ${request.method} ${path.slice(0, 200)}.`,
    );
  }
  const { name, on, http } = route.entry;
  if (http?.webhook === undefined) {
    access.assert(request, { what: 'invoke', name });
    const body = bodyOf(request).length === 0 ? undefined : dataOf(request, settings);
    const data = routeData(request, route, body);
    return answerWith(request, reply, context, name, data);
  }
  const options = callOptionsOf(request, settings);
  // The signature is what lets it in, not a key.
  await assertSigned(request, http.webhook, environment);
  const delivery = request.headers['x-github-delivery'];
  const id = typeof delivery === 'string' ? delivery.slice(0, MAX_ID_CHARACTERS) : options.id;
  const headers = { ...options.headers, ...eventHeaders(request) };
  const data = dataOf(request, settings);
  const [subject] = on.filter((each) => !/[*>]/.test(each));
  if (subject === undefined) {
    await mill.invoke(name, data, { ...options, headers, ...(id === undefined ? {} : { id }) });
    return reply.code(202).send({ function: name });
  }
  const receipt = await mill.publish(subject, data, {
    headers,
    ...(id === undefined ? {} : { id }),
  });
  return reply.code(202).send(receipt);
}

/** Fields of the body, then of the query, then of the path: those that come later count. Anything else than an object is the body alone. */
function routeData(request: FastifyRequest, { params }: Route, body: unknown): unknown {
  const isObject =
    typeof body === 'object' && body !== null && Object.getPrototypeOf(body) === Object.prototype;
  if (body !== undefined && !isObject) return body;
  return { ...body, ...(request.query as object), ...params };
}

/** What kind of event it is stands in a header. */
function eventHeaders({ headers }: FastifyRequest): Record<string, string> {
  const event = headers['x-github-event'];
  return typeof event === 'string' ? { 'x-github-event': event.slice(0, MAX_ID_CHARACTERS) } : {};
}

/** Throws UNAUTHORIZED, and UNAVAILABLE where this gateway has not the secret. */
async function assertSigned(
  request: FastifyRequest,
  { provider, secret: variable, header = DEFAULT_HEADER }: Webhook,
  environment: NodeJS.ProcessEnv,
): Promise<void> {
  const secret = environment[variable];
  if (secret === undefined || secret === '') {
    throw new MillraceError('UNAVAILABLE', `The gateway has no ${variable} in its environment.`);
  }
  const given =
    request.headers[provider === 'github' ? 'x-hub-signature-256' : header.toLowerCase()];
  const signature = typeof given === 'string' ? given : '';
  const full = signature.startsWith(ALGORITHM) ? signature : `${ALGORITHM}${signature}`;
  const body = Buffer.from(bodyOf(request));
  // The library takes text; bytes that are none would be changed on the way.
  const signed =
    /^sha256=[0-9a-f]{64}$/.test(full) &&
    body.length > 0 &&
    (isUtf8(body)
      ? await verify(secret, body.toString('utf8'), full)
      : timingSafeEqual(
          createHmac('sha256', secret).update(body).digest(),
          Buffer.from(full.slice(ALGORITHM.length), 'hex'),
        ));
  if (!signed) throw new MillraceError('UNAUTHORIZED', 'The signature is missing, or wrong.');
}
