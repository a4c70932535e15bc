import type { StandardSchemaV1 } from '@standard-schema/spec';
import { DEFAULT_STRATEGY } from '../core/balance/strategy.ts';
import { MillraceError } from '../core/errors.ts';
import { assertFunctionName, quote } from '../core/names.ts';
import type { CallDataOf, ReturnOf, FunctionDefinition, FunctionOptions } from './definition.ts';
import { toSchedule } from './cron.ts';
import { toFlow } from './flow.ts';
import { toCache, type Invalidates } from './cache.ts';
import { toIsolation } from './isolation.ts';
import { checkOptions, DEFAULT_RETRIES, DEFAULT_TIMEOUT_MS } from './options.ts';
import { FUNCTION_BRAND, isFunctionReference, type FunctionSlot } from './reference.ts';
import { callerOf } from './stack.ts';

/**
 * Makes a function of the platform; a module in the functions folder exports it as its default.
 *
 * `event.data` has the output type of the `input` schema (unknown without one); the handler returns what the `output`
 * schema takes, and callers get what it gives. One that returns an async iterable answers in parts, each of which the schema takes. Nothing is connected or started here.
 *
 * Throws INVALID_DEFINITION, one sentence, when an option is unknown or not legal. Whether a subject is reserved
 * depends on the namespace and is found when the function is loaded.
 */
export function defineFunction<
  Output extends StandardSchemaV1,
  const Returned extends ReturnOf<Output>,
  Input extends StandardSchemaV1 | undefined = undefined,
>(
  definition: FunctionOptions<Input, Output, Returned | Promise<Returned>> & { output: Output },
): FunctionDefinition<CallDataOf<Input>, StandardSchemaV1.InferOutput<Output>>;
// Apart from the first: there `const` keeps the literals that a handler returns, so that they fit the schema's.
export function defineFunction<Returned, Input extends StandardSchemaV1 | undefined = undefined>(
  definition: FunctionOptions<Input, undefined, Returned>,
): FunctionDefinition<CallDataOf<Input>, Awaited<Returned>>;
// Behind the first: what the compiler has tried here keeps no literals.
export function defineFunction<
  Output extends StandardSchemaV1,
  const Part extends ReturnOf<Output>,
  Input extends StandardSchemaV1 | undefined = undefined,
>(
  definition: FunctionOptions<Input, Output, AsyncIterable<Part> | Promise<AsyncIterable<Part>>> & {
    output: Output;
  },
): FunctionDefinition<CallDataOf<Input>, AsyncIterable<StandardSchemaV1.InferOutput<Output>>>;
// Takes nothing that the others refuse: the compiler explains a mistake by the last one, and here it does so well.
export function defineFunction<
  Output extends StandardSchemaV1,
  const Returned extends ReturnOf<Output>,
  Input extends StandardSchemaV1 | undefined = undefined,
>(
  definition: FunctionOptions<Input, Output, Returned | Promise<Returned>>,
): FunctionDefinition<CallDataOf<Input>, StandardSchemaV1.InferOutput<Output>>;
export function defineFunction(
  definition: FunctionOptions<StandardSchemaV1 | undefined, StandardSchemaV1 | undefined, unknown>,
): FunctionDefinition {
  // Copied first: what was checked is what is used, even if the object has getters or changes later.
  const copy: unknown =
    typeof definition === 'object' && definition !== null && !Array.isArray(definition)
      ? { ...definition }
      : definition;
  checkOptions(copy);
  const options = copy as unknown as typeof definition;
  const { on = [], key, handler, balance = DEFAULT_STRATEGY } = options;

  const slot = nameSlot(options.name);
  const definedAt = callerOf(defineFunction);
  const made: FunctionDefinition = {
    [FUNCTION_BRAND]: slot,
    get name() {
      return slot.current();
    },
    get definedAt() {
      return definedAt();
    },
    description: options.description,
    on: Object.freeze(typeof on === 'string' ? [on] : [...on]),
    delivery: options.delivery ?? 'durable',
    input: options.input,
    output: options.output,
    key,
    balance: typeof balance === 'string' ? balance : balance.name,
    strategy: typeof balance === 'string' ? undefined : balance.strategy,
    from: options.from ?? 'now',
    cron: options.cron === undefined ? undefined : Object.freeze(toSchedule(options.cron)),
    flow: toFlow(options),
    retries: Object.freeze({ ...DEFAULT_RETRIES, ...withoutUndefined(options.retries) }),
    cache: options.cache === undefined ? undefined : toCache(options.cache),
    invalidates: Object.freeze([...((options.invalidates ?? []) as Invalidates)]),
    isolation: toIsolation(options.isolation),
    http: options.http === undefined ? undefined : Object.freeze({ ...options.http }),
    secrets: Object.freeze([...(options.secrets ?? [])]),
    timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
    handler,
  };
  return Object.freeze(made);
}

/** An option that is undefined counts as left out. */
function withoutUndefined<Given extends object>(given: Given | undefined): Partial<Given> {
  const entries = Object.entries(given ?? {}).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as Partial<Given>;
}

/** The one thing about a definition that is not known when it is made. */
function nameSlot(given: string | undefined): FunctionSlot & { current(): string | undefined } {
  let name = given;
  return Object.freeze({
    current: () => name,
    assignName(assigned: string) {
      assertFunctionName(assigned, 'INVALID_DEFINITION');
      if (name !== undefined && name !== assigned)
        throw new MillraceError(
          'INVALID_DEFINITION',
          `Function ${quote(name)} cannot be named ${quote(assigned)} as well.`,
        );
      name = assigned;
    },
  });
}

/** For the loader only: names a definition that has no name. Throws INVALID_DEFINITION if it has another one. */
export function assignName(definition: FunctionDefinition, name: string): void {
  definition[FUNCTION_BRAND].assignName(name);
}

/** Was the value made by `defineFunction`, of this copy of the package or another one? */
export function isFunctionDefinition(value: unknown): value is FunctionDefinition {
  return isFunctionReference(value);
}
