import { MillraceError } from '../core/errors.ts';
import { assertFunctionName } from '../core/names.ts';

/**
 * What makes an object a function of millrace's, wherever it was made: the brand is a registered symbol, so that two
 * copies of the package in one process recognise each other's definitions.
 */
export const FUNCTION_BRAND: unique symbol = Symbol.for('millrace.function');

/** What the brand holds. Part of the agreement between copies of the package: add to it, never change it. */
export interface FunctionSlot {
  /** Sets the name that a definition did not give; throws when another one is set already. */
  assignName(name: string): void;
}

/** Carries the types only; no object has it. */
declare const TYPES: unique symbol;

/** What is needed to invoke a function: its name, and its types for the compiler. */
export interface FunctionReference<Input = unknown, Output = unknown> {
  /** As given in the definition; else undefined until a loader has assigned the file's name. */
  readonly name: string | undefined;
  readonly [FUNCTION_BRAND]: FunctionSlot;
  readonly [TYPES]?: { readonly input: Input; readonly output: Output };
}

/** What a caller passes to a function: the input side of its `input` schema; unknown without a schema. */
export type InputOf<F extends FunctionReference> =
  F extends FunctionReference<infer Input> ? Input : never;

/**
 * What a caller gets: the output side of the `output` schema, or what the handler returns without a schema; of a function that
 * answers in parts all of them.
 */
export type OutputOf<F extends FunctionReference> =
  F extends FunctionReference<unknown, infer Output>
    ? Output extends AsyncIterable<infer Part>
      ? Part[]
      : Output
    : never;

/** What a caller gets one after the other: the parts, or the result. */
export type PartOf<F extends FunctionReference> =
  F extends FunctionReference<unknown, infer Output>
    ? Output extends AsyncIterable<infer Part>
      ? Part
      : Output
    : never;

/** Was the value made by `defineFunction`, of this copy of the package or another one? */
export function isFunctionReference(value: unknown): value is FunctionReference {
  if (typeof value !== 'object' || value === null) return false;
  const slot: unknown = (value as { [FUNCTION_BRAND]?: unknown })[FUNCTION_BRAND];
  return typeof (slot as FunctionSlot | undefined)?.assignName === 'function';
}

/** To say whose call has failed, of any target: '' where it has no name. */
export function givenName(target: FunctionReference | string): string {
  return textOf(target) ?? '';
}

/** Callers without types may give anything. */
function textOf(target: FunctionReference | string | null | undefined): string | undefined {
  return typeof target === 'string' ? target : target?.name;
}

/**
 * The name to call a function by. Throws INVALID_INPUT when the name is not legal, or when the definition has none yet
 * because no loader has given it its file's.
 */
export function nameOf(target: FunctionReference | string): string {
  const name = textOf(target);
  if (name === undefined)
    throw new MillraceError(
      'INVALID_INPUT',
      'The function to invoke has no name here: give it one in its definition, or invoke it by name.',
    );
  assertFunctionName(name, 'INVALID_INPUT');
  return name;
}
