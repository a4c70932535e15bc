/**
 * The dashboard's page. It is the same for everybody and says nothing: what it shows it asks of /api, with the reader's key.
 *
 * - P1  Nothing of another origin is loaded, and no script that is not the gateway's own: the policy below.
 * - P2  No other page may show it in a frame.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { MillraceError } from '../core/errors.ts';
import type { Assets } from './assets.ts';
import type { GatewayContext } from './context.ts';

export const DASHBOARD_PATH = '/dashboard';

const HEADERS = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  // Asked for again each time: a new gateway has a new page.
  'Cache-Control': 'no-cache',
};
const PAGE = 'index.html';

export function dashboardRoutes(
  app: FastifyInstance,
  { access }: GatewayContext,
  assets: Assets,
): void {
  const send = (name: string, request: FastifyRequest, reply: FastifyReply): FastifyReply => {
    access.assertOrigin(request);
    const asset = assets.get(name);
    if (asset === undefined) {
      throw new MillraceError('NOT_FOUND', `The dashboard has no file ${name}.`);
    }
    const { type, body, gzipped, etag } = asset;
    reply.headers(HEADERS).header('ETag', etag).header('Vary', 'Accept-Encoding').type(type);
    if (request.headers['if-none-match'] === etag) return reply.code(304).send();
    const packed = /\bgzip\b/.test(request.headers['accept-encoding'] ?? '');
    return packed ? reply.header('Content-Encoding', 'gzip').send(gzipped) : reply.send(body);
  };
  // Names of files in the page are relative to it.
  const toPage = async (_: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> =>
    reply.redirect(`${DASHBOARD_PATH}/`);
  app.get('/', toPage);
  app.get(DASHBOARD_PATH, toPage);
  app.get(`${DASHBOARD_PATH}/`, async (request, reply) => send(PAGE, request, reply));
  app.get(
    `${DASHBOARD_PATH}/:file`,
    async (request: FastifyRequest<{ Params: { file: string } }>, reply) =>
      send(request.params.file, request, reply),
  );
}
