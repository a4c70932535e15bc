/** What this worker says of its functions to the gateway. */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { CatalogEntry } from '../core/catalog.ts';
import type { LoadedFunction } from '../function/load.ts';

/** All of a worker's go into one message. */
const MAX_SCHEMA_CHARACTERS = 16_384;

/** The part of Standard JSON Schema that is used; libraries without it are not known by their types. */
interface Described {
  jsonSchema?: Record<'input' | 'output', (options: { target: string }) => Record<string, unknown>>;
}

export function catalogEntry({ name, version, definition }: LoadedFunction): CatalogEntry {
  const { description, on, delivery, timeoutMs, http, input, output } = definition;
  const inputSchema = schemaOf(input, 'input');
  const outputSchema = schemaOf(output, 'output');
  return {
    name,
    version,
    ...(description === undefined ? {} : { description }),
    on: [...on],
    delivery,
    timeoutMs,
    ...(isGenerator(definition.handler) ? { inParts: true } : {}),
    ...(http === undefined ? {} : { http }),
    ...(inputSchema === undefined ? {} : { input: inputSchema }),
    ...(outputSchema === undefined ? {} : { output: outputSchema }),
  };
}

/** Undefined where the library has none, or the schema has parts that JSON Schema cannot say. */
function schemaOf(
  schema: StandardSchemaV1 | undefined,
  side: 'input' | 'output',
): Record<string, unknown> | undefined {
  const described = schema?.['~standard'] as Described | undefined;
  try {
    const made = described?.jsonSchema?.[side]({ target: 'draft-2020-12' });
    const tooLong = made !== undefined && JSON.stringify(made).length > MAX_SCHEMA_CHARACTERS;
    return tooLong ? undefined : made;
  } catch {
    return undefined;
  }
}

const GENERATOR: unknown = Object.getPrototypeOf(async function* () {});

function isGenerator(handler: object): boolean {
  return Object.getPrototypeOf(handler) === GENERATOR;
}
