/** OpenAPI 3.1 of what the gateway has, made of the functions' schemas. */
import type { CatalogEntry } from '../core/catalog.ts';

const ANY = {};
const PATH_PARAMETER = /:([A-Za-z_][A-Za-z0-9_]*)/g;

export function openApi(entries: readonly CatalogEntry[], version: string, keys: boolean): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const entry of entries) {
    paths[`/fn/${entry.name}`] = { post: operationOf(entry, `invoke_${entry.name}`) };
    if (entry.http === undefined) continue;
    const { method, path } = entry.http;
    const shown = path.replaceAll(PATH_PARAMETER, '{$1}');
    const operation = operationOf(
      entry,
      entry.name,
      [...path.matchAll(PATH_PARAMETER)].map(([, name]) => name ?? ''),
    );
    paths[shown] = { ...paths[shown], [method.toLowerCase()]: operation };
  }
  paths['/events/{subject}'] = {
    post: {
      operationId: 'publish',
      summary: 'Publish an event',
      tags: ['events'],
      parameters: [parameter('subject', 'path'), parameter('Idempotency-Key', 'header')],
      requestBody: body(ANY),
      responses: { 202: answer('Stored, or taken by the broker', ANY), default: FAILED },
    },
  };
  return {
    openapi: '3.1.0',
    info: { title: 'Functions', version },
    paths,
    components: {
      schemas: { Error: ERROR },
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

function operationOf(
  entry: CatalogEntry,
  operationId: string,
  params: readonly string[] = [],
): object {
  const { name, description, input = ANY, output = ANY, http } = entry;
  const webhook = params.length === 0 && http?.webhook !== undefined && operationId === name;
  const hasBody = operationId !== name || http?.method !== 'GET';
  return {
    operationId,
    summary: name,
    tags: ['functions'],
    ...(description === undefined ? {} : { description }),
    parameters: [
      ...params.map((each) => parameter(each, 'path')),
      parameter('Idempotency-Key', 'header'),
      parameter('Millrace-Timeout-Ms', 'header'),
    ],
    ...(hasBody ? { requestBody: body(input) } : {}),
    responses: webhook
      ? { 202: answer('Taken', ANY), default: FAILED }
      : { 200: answer('Its result', output), default: FAILED },
  };
}

function parameter(name: string, place: 'path' | 'header'): object {
  return { name, in: place, required: place === 'path', schema: { type: 'string' } };
}

function body(schema: object): object {
  return { content: { 'application/json': { schema }, 'application/msgpack': { schema } } };
}

function answer(description: string, schema: object): object {
  return { description, content: { 'application/json': { schema } } };
}
