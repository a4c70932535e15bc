/** What operators ask and do: the same questions as `millrace inspect`, `dead` and `versions`. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { MillraceError } from '../core/errors.ts';
import type { GatewayContext } from './context.ts';
import { liveRoutes } from './live.ts';

type Query = Record<string, unknown>;

const MAX_LIMIT = 1_000;
const DEFAULT_LIMIT = 100;

export function apiRoutes(app: FastifyInstance, context: GatewayContext): void {
  const { mill, access } = context;
  app.addHook('onRequest', async (request) => {
    access.assert(request, { what: request.method === 'GET' ? 'inspect' : 'operate' });
  });
  liveRoutes(app, context);
  const { inspect } = mill;
  const questions: Record<string, (query: Query) => Promise<unknown>> = {
    workers: async () => ({ workers: await inspect.workers() }),
    functions: async () => ({ functions: await inspect.functions() }),
    catalog: async () => ({ functions: await inspect.catalog() }),
    collections: async () => ({ collections: await inspect.collections() }),
    partitions: async () => ({ partitions: await inspect.partitions() }),
    transactions: async () => inspect.transactions(),
    waiting: async (query) => ({ waiting: await inspect.waiting(text(query, 'function')) }),
    scale: async (query) => ({ scale: await inspect.scale(text(query, 'function')) }),
    key: async (query) => inspect.key(needed(query, 'collection'), needed(query, 'key')),
    state: async (query) => {
      const collection = needed(query, 'collection');
      const key = text(query, 'key');
      if (key !== undefined) return inspect.state(collection, key);
      const [prefix, cursor] = [text(query, 'prefix'), text(query, 'cursor')];
      return inspect.list(collection, {
        limit: limitOf(query),
        ...(prefix === undefined ? {} : { prefix }),
        ...(cursor === undefined ? {} : { cursor }),
      });
    },
  };
  app.get(
    '/inspect/:what',
    async ({ params, query }: FastifyRequest<{ Params: { what: string } }>) => {
      const { what } = params;
      if (!Object.hasOwn(questions, what)) {
        const known = Object.keys(questions).join(', ');
        throw new MillraceError(
          'NOT_FOUND',
          `There is nothing to inspect under ${JSON.stringify(what)}; there are: ${known}.`,
        );
      }
      return questions[what]?.(query as Query);
    },
  );

  app.get('/dead', async ({ query }) => {
    const name = text(query as Query, 'function');
    const filter = {
      limit: limitOf(query as Query),
      ...(name === undefined ? {} : { function: name }),
    };
    return { dead: await mill.dead.list(filter) };
  });
  type Numbered = FastifyRequest<{ Params: { number: string } }>;
  app.get('/dead/:number', async ({ params }: Numbered) => mill.dead.get(numberOf(params.number)));
  app.post('/dead/:number/replay', async ({ params }: Numbered) => {
    const number = numberOf(params.number);
    await mill.dead.replay(number);
    return { replayed: [number] };
  });
  app.delete('/dead/:number', async ({ params }: Numbered) => {
    const number = numberOf(params.number);
    await mill.dead.drop(number);
    return { dropped: [number] };
  });

  type Named = FastifyRequest<{ Params: { name: string }; Querystring: Query }>;
  app.get('/deploys', async () => ({ deployed: await mill.deploys.list() }));
  app.get('/deploys/:name', async ({ params }: Named) => ({
    versions: await mill.deploys.versions(params.name),
  }));
  app.post('/deploys/:name/rollback', async ({ params, query }: Named) =>
    mill.deploys.rollback(params.name, text(query, 'version')),
  );
  app.post('/deploys/:name/promote', async ({ params }: Named) =>
    mill.deploys.promote(params.name),
  );
}

function text(query: Query, name: string): string | undefined {
  const value = query[name];
  if (value === undefined || typeof value === 'string') return value;
  throw new MillraceError('INVALID_INPUT', `${name} is given more than once.`);
}

function needed(query: Query, name: string): string {
  const value = text(query, name);
  if (value !== undefined) return value;
  throw new MillraceError('INVALID_INPUT', `${name} is missing.`);
}

function limitOf(query: Query): number {
  const given = text(query, 'limit');
  const limit = given === undefined ? DEFAULT_LIMIT : Number(given);
  if (Number.isInteger(limit) && limit >= 1 && limit <= MAX_LIMIT) return limit;
  throw new MillraceError('INVALID_INPUT', `limit must be a whole number from 1 to ${MAX_LIMIT}.`);
}

function numberOf(given: string): number {
  const number = Number(given);
  if (/^\d{1,15}$/.test(given) && number >= 1) return number;
  throw new MillraceError('INVALID_INPUT', 'A dead letter has a number, as the list says.');
}
