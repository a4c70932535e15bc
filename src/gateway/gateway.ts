/**
 * The door for HTTP. What it does it does as a client of the platform: it keeps no state, and any number of gateways may run.
 *
 * - G1  Without API keys it listens on loopback only, and answers no page of another origin.
 * - G2  Every size and time is bounded: bodies, headers, slow senders, followers.
 * - G3  Told to stop, it takes no more and answers what it has.
 */
import rateLimit from '@fastify/rate-limit';
import fastify, { type FastifyError, type FastifyInstance, type FastifyReply } from 'fastify';
import type { Duplex } from 'node:stream';
import type { Bus } from '../bus/connection.ts';
import { Mill } from '../client/client.ts';
import { MillraceError, messageOf } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import type { Tracing } from '../telemetry/tracing.ts';
import { Access } from './access.ts';
import { apiRoutes } from './api.ts';
import { Connections } from './connections.ts';
import type { GatewayContext } from './context.ts';
import { DASHBOARD_PATH, dashboardRoutes } from './dashboard.ts';
import { Assets } from './assets.ts';
import { eventRoutes } from './events.ts';
import { functionRoutes, ownRoute } from './functions.ts';
import type { ApiKeys } from './keys.ts';
import { countRequests } from './metrics.ts';
import { openApi } from './openapi.ts';
import { Routes } from './routes.ts';
import { TraceStore } from './trace-store.ts';
import { identityRoute } from './live.ts';

export interface GatewayOptions {
  bus: Bus;
  settings: Settings;
  tracing?: Tracing | undefined;
  host: string;
  /** 0 takes any that is free. */
  port: number;
  keys: ApiKeys | undefined;
  /** Origins whose pages may ask; none by default. */
  origins: readonly string[];
  /** Requests a second of one key or address; 0 for any number. */
  ratePerSecond: number;
  environment: NodeJS.ProcessEnv;
  version: string;
  onProblem: (text: string) => void;
}

/** A client has so long to send its headers, and a whole request. */
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 30_000;
/** How often those times are looked at. */
const SLOW_CHECK_MS = 2_000;
const KEEP_ALIVE_MS = 65_000;
/** Anybody may ask whether it is ready: so long an answer is given again. */
const READY_KEPT_MS = 1_000;
const MAX_HEADER_BYTES = 16 * 1024;
const MAX_CONNECTIONS = 10_000;
const MAX_PARAM_CHARACTERS = 300;
/** Once it was told to stop: what is just being sent may still become a request. */
const IDLE_GRACE_MS = 500;
/** How long answers may take then. */
const CLOSE_TIMEOUT_MS = 30_000;
const LOOPBACK = /^(?:127\.\d+\.\d+\.\d+|::1|localhost)$/;
const METHODS = 'GET, POST, PUT, PATCH, DELETE';
const HEADERS =
  'Authorization, X-Api-Key, Content-Type, Idempotency-Key, Millrace-Timeout-Ms, traceparent, tracestate';

export class Gateway {
  readonly #app: FastifyInstance;
  readonly #closing: AbortController;
  readonly #connections: Connections;
  /** http://… */
  readonly url: string;

  private constructor(app: FastifyInstance, closing: AbortController, url: string) {
    this.#app = app;
    this.#closing = closing;
    this.#connections = new Connections(app.server);
    this.url = url;
  }

  /** Throws USAGE where it cannot listen there, or must not; the connection is closed then, as it is by `close`. */
  static async open(options: GatewayOptions): Promise<Gateway> {
    const { host, port, keys } = options;
    if (keys === undefined && !LOOPBACK.test(host)) {
      await options.bus.close();
      throw new MillraceError(
        'USAGE',
        `Without API keys the gateway listens on this machine only, not on ${host}: give it --keys.`,
      );
    }
    const closing = new AbortController();
    const app = await appOf(options, closing.signal);
    try {
      return new Gateway(app, closing, await app.listen({ host, port }));
    } catch (cause) {
      await app.close();
      throw new MillraceError(
        'USAGE',
        `The gateway cannot listen on ${host}:${port}: ${messageOf(cause)}.`,
        { cause },
      );
    }
  }

  /** False when some answer was not sent in time. */
  async close(): Promise<boolean> {
    this.#closing.abort();
    const closed = this.#app.close().then(() => true);
    const idle = setTimeout(() => this.#connections.endIdle(), IDLE_GRACE_MS);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => {
        this.#app.server.closeAllConnections();
        resolve(false);
      }, CLOSE_TIMEOUT_MS);
    });
    return Promise.race([closed, late]).finally(() => {
      clearTimeout(idle);
      clearTimeout(timer);
    });
  }
}

async function appOf(options: GatewayOptions, closing: AbortSignal): Promise<FastifyInstance> {
  const { bus, settings, tracing, keys, origins, environment, version, onProblem } = options;
  const app = fastify({
    bodyLimit: settings.maxPayloadBytes,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    http: {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: HEADERS_TIMEOUT_MS,
      connectionsCheckingInterval: SLOW_CHECK_MS,
    },
    routerOptions: { maxParamLength: MAX_PARAM_CHARACTERS },
    forceCloseConnections: 'idle',
    // Health checks go on while it drains.
    return503OnClosing: false,
    frameworkErrors: (error, _, reply) => void fail(error, reply, onProblem),
    clientErrorHandler: (error, socket) => refuseBytes(error.code, socket),
  });
  app.server.maxConnections = MAX_CONNECTIONS;
  const mill = new Mill(bus, settings, {}, tracing);
  const access = new Access({ keys, origins });
  const routes = new Routes(mill, onProblem);
  const traces = new TraceStore((onRuns) => mill.traces.follow(onRuns));
  const hasKeys = keys !== undefined;
  const context: GatewayContext = {
    mill,
    bus,
    settings,
    access,
    routes,
    traces,
    environment,
    version,
    hasKeys,
    closing,
  };

  // Payloads are decoded where their type is known, with the platform's own limits.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_, body, done) => done(null, body));
  app.setErrorHandler(async (error: FastifyError | MillraceError, _, reply) =>
    fail(error, reply, onProblem),
  );
  countRequests(app, context);
  app.addHook('onSend', (_request, reply, _payload, done) => {
    // A connection that is kept would keep it from closing.
    if (closing.aborted) reply.header('Connection', 'close');
    done();
  });
  allowOrigins(app, origins);
  if (options.ratePerSecond > 0) {
    await app.register(rateLimit, {
      max: options.ratePerSecond,
      timeWindow: 1_000,
      keyGenerator: (request) => access.requesterOf(request),
      // What the page is made of is a few files in memory.
      allowList: ({ url }) =>
        url === '/health' || url === '/ready' || url.startsWith(`${DASHBOARD_PATH}/`),
      errorResponseBuilder: (_, { max }) =>
        new MillraceError(
          'RATE_LIMITED',
          `${max} requests a second are possible for one key or address.`,
        ),
    });
  }
  app.get('/health', async () => ({ ok: true }));
  const workers = keptFor(READY_KEPT_MS, async () => mill.inspect.workers().catch(() => []));
  app.get('/ready', async (_, reply) => {
    const known = bus.up ? await workers() : [];
    const ready = known.some(({ state }) => state === 'running');
    return reply.code(ready ? 200 : 503).send({ ready, broker: bus.up, workers: known.length });
  });
  app.get('/openapi.json', async (request) => {
    access.assert(request, { what: 'inspect' });
    return openApi(await routes.entries(), version, hasKeys);
  });
  functionRoutes(app, context);
  eventRoutes(app, context);
  identityRoute(app, context);
  dashboardRoutes(app, context, await Assets.read());
  await app.register(async (api) => apiRoutes(api, context), { prefix: '/api' });
  // Functions' own routes and webhooks are such, and have the limit, too.
  const limits = options.ratePerSecond > 0 ? { preHandler: app.rateLimit() } : {};
  app.setNotFoundHandler(limits, async (request, reply) => ownRoute(request, reply, context));
  app.addHook('onClose', async () => {
    traces.close();
    await mill.close();
  });
  return app;
}

/** Asks at most once in so long; who comes meanwhile gets the same. */
function keptFor<Answer>(keptMs: number, ask: () => Promise<Answer>): () => Promise<Answer> {
  let answer: Promise<Answer> | undefined;
  let atMs = 0;
  return () => {
    if (answer === undefined || performance.now() - atMs >= keptMs) {
      atMs = performance.now();
      answer = ask();
    }
    return answer;
  };
}

/** What never became a request. */
function refuseBytes(code: string | undefined, socket: Duplex): void {
  if (code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  let [status, message] = ['400 Bad Request', 'This is no HTTP that is understood here.'];
  if (code === 'HPE_HEADER_OVERFLOW') {
    status = '431 Request Header Fields Too Large';
    message = `The headers have more than ${MAX_HEADER_BYTES} bytes.`;
  } else if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    [status, message] = ['408 Request Timeout', 'The request did not arrive in time.'];
  }
  const body = JSON.stringify({ error: new MillraceError('INVALID_INPUT', message).toBody() });
  socket.end(
    `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}

/** CORS, for the origins that are named. */
function allowOrigins(app: FastifyInstance, origins: readonly string[]): void {
  app.addHook('onRequest', (request, reply, done) => {
    const { origin } = request.headers;
    if (origin === undefined || !origins.includes(origin)) {
      done();
      return;
    }
    reply.header('Access-Control-Allow-Origin', origin).header('Vary', 'Origin');
    if (request.method !== 'OPTIONS') {
      done();
      return;
    }
    reply
      .header('Access-Control-Allow-Methods', METHODS)
      .header('Access-Control-Allow-Headers', HEADERS);
    void reply.code(204).send();
  });
}

async function fail(
  error: FastifyError | MillraceError,
  reply: FastifyReply,
  onProblem: (text: string) => void,
): Promise<FastifyReply> {
  const own = error instanceof MillraceError ? error : asOwn(error);
  const status = error instanceof MillraceError ? own.status || 500 : (error.statusCode ?? 500);
  if (!(error instanceof MillraceError) && status >= 500) onProblem(messageOf(error));
  if (own.code === 'UNAUTHORIZED') reply.header('WWW-Authenticate', 'Bearer');
  return reply.code(status).type('application/json').send({ error: own.toBody() });
}

/** What the library refuses by itself. */
function asOwn({ statusCode = 500, message }: FastifyError): MillraceError {
  if (statusCode === 413) return new MillraceError('PAYLOAD_TOO_LARGE', 'The body is too large.');
  if (statusCode < 500) return new MillraceError('INVALID_INPUT', `${message.replace(/\.$/, '')}.`);
  return new MillraceError('UNAVAILABLE', 'The gateway has failed.');
}
