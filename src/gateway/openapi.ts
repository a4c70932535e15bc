/** OpenAPI 3.1 of what the gateway has, made of the functions' schemas. */
import type { CatalogEntry } from '../core/catalog.ts';

const ANY: Record<string, unknown> = {};
const PATH_PARAMETER = /:([A-Za-z_][A-Za-z0-9_]*)/g;

export function openApi(entries: readonly CatalogEntry[], version: string, keys: boolean): object {
  const paths: Record<string, Record<string, object>> = {};
  /** By where it leads, whatever its parts are called: a document must not have one twice. */
  const templates = new Map<string, string>();
  const schemas: Record<string, object> = { Error: ERROR };
  for (const given of entries) {
    const entry = placed(given, schemas);
    const { name, http } = entry;
    paths[`/fn/${name}`] = {
      post: operation(entry, `invoke_${name}`, { ...bodyOf(entry), ...answers(entry) }),
    };
    if (http === undefined) continue;
    const shape = http.path.replaceAll(PATH_PARAMETER, '{}');
    const template = templates.get(shape) ?? http.path.replaceAll(PATH_PARAMETER, '{$1}');
    templates.set(shape, template);
    const method = http.method.toLowerCase();
    paths[template] ??= {};
    // Of two functions with the same route the first one gets it.
    paths[template][method] ??= routeOf(entry, template);
  }
  paths['/events/{subject}'] = {
    post: {
      operationId: 'publish',
      summary: 'Publish an event',
      tags: ['events'],
      parameters: [parameter('subject', 'path'), parameter('Idempotency-Key', 'header')],
      ...body(ANY),
      responses: { 202: answer('Stored, or taken by the broker', ANY), default: FAILED },
    },
  };
  return {
    openapi: '3.1.0',
    info: { title: 'Functions', version },
    paths,
    components: {
      schemas,
      ...(keys ? { securitySchemes: { key: { type: 'http', scheme: 'bearer' } } } : {}),
    },
    ...(keys ? { security: [{ key: [] }] } : {}),
  };
}

const ERROR = {
  type: 'object',
  required: ['error'],
  properties: {
    error: {
      type: 'object',
      required: ['code', 'message', 'retryable'],
      properties: {
        code: { type: 'string' },
        message: { type: 'string' },
        retryable: { type: 'boolean' },
        details: ANY,
      },
    },
  },
};
const FAILED = answer('The error', { $ref: '#/components/schemas/Error' });

type Schema = Record<string, unknown>;

/** Its schemas have places of their own in the document: what they refer to in themselves lies there. */
function placed(entry: CatalogEntry, schemas: Record<string, object>): CatalogEntry {
  const moved = { ...entry };
  for (const side of ['input', 'output'] as const) {
    const schema = entry[side];
    if (schema === undefined) continue;
    const key = `${entry.name}.${side}`;
    moved[side] = referring(schema, `#/components/schemas/${key}`) as Schema;
    schemas[key] = moved[side];
  }
  return moved;
}

function referring(value: unknown, to: string): unknown {
  if (Array.isArray(value)) return value.map((each) => referring(each, to));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, each]) =>
      name === '$ref' && typeof each === 'string' && each.startsWith('#')
        ? [name, `${to}${each.slice(1)}`]
        : [name, referring(each, to)],
    ),
  );
}

/** Where a schema lies that was placed. */
function at({ name }: CatalogEntry, side: 'input' | 'output', schema: Schema | undefined): Schema {
  return schema === undefined ? ANY : { $ref: `#/components/schemas/${name}.${side}` };
}

/** A function's own route: what is in its path and, where there is no body, in the query, are fields of its input. */
function routeOf(entry: CatalogEntry, template: string): object {
  const { name, http, input = {} } = entry;
  const namesIn = (path: string, pattern: RegExp): string[] =>
    [...path.matchAll(pattern)].map(([, each = '']) => each);
  const own = namesIn(http?.path ?? '', PATH_PARAMETER);
  const shown = namesIn(template, /\{([^}]+)\}/g);
  const fields = (input['properties'] ?? {}) as Record<string, Schema>;
  const required = (input['required'] ?? []) as readonly string[];
  const isGet = http?.method === 'GET';
  const query = isGet ? Object.keys(fields).filter((each) => !own.includes(each)) : [];
  const parameters = [
    ...shown.map((each, index) => parameter(each, 'path', fields[own[index] ?? ''])),
    ...query.map((each) => parameter(each, 'query', fields[each], required.includes(each))),
  ];
  const taken = { responses: { 202: answer('Taken', ANY), default: FAILED } };
  return operation(
    entry,
    `route_${name}`,
    {
      ...(isGet ? {} : bodyOf(entry)),
      ...(http?.webhook === undefined ? answers(entry) : { ...taken, security: [] }),
    },
    parameters,
  );
}

function operation(
  { name, description }: CatalogEntry,
  operationId: string,
  rest: object,
  parameters: readonly object[] = [],
): object {
  return {
    operationId,
    summary: name,
    tags: ['functions'],
    ...(description === undefined ? {} : { description }),
    parameters: [
      ...parameters,
      parameter('Idempotency-Key', 'header'),
      parameter('Millrace-Timeout-Ms', 'header'),
    ],
    ...rest,
  };
}

function parameter(
  name: string,
  place: 'path' | 'query' | 'header',
  schema: Schema = { type: 'string' },
  required = place === 'path',
): object {
  return { name, in: place, required, schema };
}

function bodyOf(entry: CatalogEntry): object {
  return body(at(entry, 'input', entry.input));
}

function body(schema: Schema): object {
  return {
    requestBody: { content: { 'application/json': { schema }, 'application/msgpack': { schema } } },
  };
}

function answers(entry: CatalogEntry): object {
  const { inParts = false } = entry;
  const output = at(entry, 'output', entry.output);
  const whole = inParts ? { type: 'array', items: output } : output;
  const parts = {
    'application/x-ndjson': { schema: output },
    'text/event-stream': { schema: { type: 'string' } },
  };
  const content = {
    ...(inParts ? parts : {}),
    'application/json': { schema: whole },
    'application/msgpack': { schema: output },
  };
  const description = inParts ? 'The parts of its answer' : 'Its result';
  return {
    responses: {
      200: { description, content },
      204: { description: 'It has no result' },
      default: FAILED,
    },
  };
}

function answer(description: string, schema: object): object {
  return { description, content: { 'application/json': { schema } } };
}
