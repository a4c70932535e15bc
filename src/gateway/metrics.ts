/** What the gateway counts: docs/telemetry.md has the same names. */
import type { FastifyInstance } from 'fastify';
import { metricsText, METRICS_CONTENT_TYPE, type MetricCatalog } from '../telemetry/metrics.ts';
import type { GatewayContext } from './context.ts';

export const GATEWAY_METRICS = {
  millrace_gateway_requests_total: {
    type: 'counter',
    help: 'Answered requests, by route as it is declared.',
    labels: ['route', 'status'],
  },
  millrace_gateway_request_seconds_total: {
    type: 'counter',
    help: 'How long answering them has taken.',
    labels: ['route'],
  },
  millrace_gateway_requests_in_flight: {
    type: 'gauge',
    help: 'Requests that are not answered yet.',
    labels: [],
  },
} as const satisfies MetricCatalog;

export function countRequests(app: FastifyInstance, { access }: GatewayContext): void {
  const requests = new Map<string, Map<number, number>>();
  const seconds = new Map<string, number>();
  let inFlight = 0;
  // Hooks of promises cost each request several microseconds.
  app.addHook('onRequest', (_request, _reply, done) => {
    inFlight += 1;
    done();
  });
  app.addHook('onResponse', (request, reply, done) => {
    inFlight -= 1;
    // Paths that nobody has declared are many: they count together.
    const route = request.routeOptions.url ?? 'other';
    const statuses = requests.get(route) ?? new Map<number, number>();
    requests.set(route, statuses.set(reply.statusCode, (statuses.get(reply.statusCode) ?? 0) + 1));
    seconds.set(route, (seconds.get(route) ?? 0) + reply.elapsedTime / 1_000);
    done();
  });
  app.get('/metrics', async (request, reply) => {
    access.assert(request, { what: 'metrics' });
    const text = await metricsText(GATEWAY_METRICS, (add) => {
      for (const [route, statuses] of requests) {
        for (const [status, count] of statuses) {
          add('millrace_gateway_requests_total', count, { route, status });
        }
      }
      for (const [route, sum] of seconds) {
        add('millrace_gateway_request_seconds_total', sum, { route });
      }
      add('millrace_gateway_requests_in_flight', inFlight);
    });
    return reply.type(METRICS_CONTENT_TYPE).send(text);
  });
}
