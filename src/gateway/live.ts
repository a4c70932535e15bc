/** What the dashboard shows, in one answer: the same questions as `millrace inspect`, asked once a second for all that look. */
import { promisify } from 'node:util';
import { constants, gzip } from 'node:zlib';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Mill } from '../client/client.ts';
import type { DeadEvent } from '../client/dead.ts';
import { MillraceError } from '../core/errors.ts';
import type { InspectedFunction, InspectedWorker } from '../core/report.ts';
import type { GatewayContext } from './context.ts';
import type { DeadRow, FunctionRow, LiveParts, WorkerRow } from './live-parts.ts';
import { allows } from './keys.ts';
import { Shared } from './shared.ts';
import type { TraceStore } from './trace-store.ts';

/** Pages ask every second. */
const FRESH_MS = 900;
/** What takes a request for each of its rows, or changes seldom. */
const SLOW_MS = 3_000;
const MAX_DEAD = 100;
const MIN_PACKED_BYTES = 2_048;
const MAX_MESSAGE_CHARACTERS = 300;

type Sources = {
  [Part in keyof LiveParts]: Pick<Shared<LiveParts[Part]>, 'get' | 'forget'>;
};

export function liveRoutes(api: FastifyInstance, { mill, traces }: GatewayContext): void {
  const sources = sourcesOf(mill, traces);
  const names = Object.keys(sources) as (keyof LiveParts)[];
  api.addHook('onResponse', async ({ method }) => {
    if (method === 'GET') return;
    sources.dead.forget();
    sources.deploys.forget();
  });
  api.get('/live', async (request: FastifyRequest<{ Querystring: { parts?: unknown } }>, reply) => {
    const { parts } = request.query;
    const wanted = new Set(typeof parts === 'string' ? parts.split(',') : names);
    if ([...wanted].some((each) => !(names as string[]).includes(each))) {
      throw new MillraceError('INVALID_INPUT', `parts may be ${names.join(', ')}.`);
    }
    const asked = names.filter((name) => wanted.has(name));
    const answers = await Promise.all(
      asked.map(async (name) => [name, await sources[name].get()] as const),
    );
    const text = JSON.stringify(Object.fromEntries(answers));
    reply.type('application/json').header('Cache-Control', 'no-store');
    const packs = /\bgzip\b/.test(request.headers['accept-encoding'] ?? '');
    if (!packs || text.length < MIN_PACKED_BYTES) return reply.send(text);
    const packed = await promisify(gzip)(text, { level: constants.Z_BEST_SPEED });
    return reply.header('Content-Encoding', 'gzip').header('Vary', 'Accept-Encoding').send(packed);
  });
  api.get('/traces', async () => ({ traces: traces.list(), dropped: traces.dropped }));
  api.get('/traces/:id', async ({ params }: FastifyRequest<{ Params: { id: string } }>) => {
    const found = traces.get(params.id);
    if (found !== undefined) return found;
    throw new MillraceError('NOT_FOUND', 'This trace is not among those that are kept.');
  });
}

/** Who asks, and what he may: what the page offers. */
export function identityRoute(app: FastifyInstance, context: GatewayContext): void {
  app.get('/api/me', async (request) => {
    const record = context.access.record(request);
    const may = (what: 'inspect' | 'operate'): boolean =>
      record === undefined || allows(record, { what });
    return {
      name: record?.name ?? null,
      can: { inspect: may('inspect'), operate: may('operate') },
      namespace: context.settings.namespace,
      version: context.version,
    };
  });
}

function sourcesOf({ inspect, dead, deploys }: Mill, traces: TraceStore): Sources {
  return {
    workers: new Shared(FRESH_MS, async () => (await inspect.workers()).map(workerRow)),
    functions: new Shared(FRESH_MS, async () => (await inspect.functions()).map(functionRow)),
    partitions: new Shared(FRESH_MS, async () => inspect.partitions()),
    transactions: new Shared(FRESH_MS, async () => inspect.transactions()),
    dead: new Shared(SLOW_MS, async () => (await dead.list({ limit: MAX_DEAD })).map(deadRow)),
    deploys: new Shared(SLOW_MS, async () => deploys.list()),
    collections: new Shared(SLOW_MS, async () => inspect.collections()),
    traces: new Shared(0, async () => traces.list()),
  };
}

/** Names of functions are left out: of many workers with many functions they would be most of it. */
function workerRow({ functions, ...rest }: InspectedWorker): WorkerRow {
  return { ...rest, functions: functions.length };
}

function functionRow(all: InspectedFunction): FunctionRow {
  const { subjects: _, cache: __, versions, ...rest } = all;
  return { ...rest, versions: Object.keys(versions).length };
}

function deadRow({
  number,
  function: name,
  subject,
  id,
  attempts,
  givenUpAt,
  failures,
}: DeadEvent) {
  const last = failures.at(-1);
  const row: DeadRow = {
    number,
    function: name,
    subject,
    id,
    attempts,
    givenUpAt,
    code: last?.code ?? '',
    message: (last?.message ?? '').slice(0, MAX_MESSAGE_CHARACTERS),
  };
  return row;
}
