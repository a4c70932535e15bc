/**
 * What a worker and the threads of its functions say to each other: one run at a time in each thread. What a handler does after it has ended names
 * its own run, which is over, and is refused.
 */
import { isErrorCode, MillraceError } from '../../core/errors.ts';
import type { FunctionEvent, InvocationInfo } from '../../function/context.ts';

export interface ThreadData {
  /** The built function's file, as a URL. */
  module: string;
  /** All functions that were loaded with it: some have the name of their file, which they do not know themselves. */
  named: readonly (readonly [name: string, module: string])[];
  logLevel: string;
}

/** An error on its way: what structured cloning keeps of it, and what it leaves out. */
export interface SentError {
  name: string;
  message: string;
  stack: string | undefined;
  /** Fields of its own that can be cloned, such as `code` and `retryable`. */
  fields: Readonly<Record<string, unknown>>;
}

export type ToThread =
  | {
      kind: 'run';
      run: number;
      event: FunctionEvent;
      invocation: InvocationInfo;
      secrets: Readonly<Record<string, string>>;
    }
  | { kind: 'answer'; call: number; value: unknown }
  | { kind: 'refusal'; call: number; error: SentError }
  | { kind: 'abort'; error: SentError };

/** Of a handler's context: what it does elsewhere. */
export type ContextCall =
  | { what: 'get' | 'delete'; collection: string; key: string }
  | { what: 'set'; collection: string; key: string; value: unknown }
  | { what: 'emit'; subject: string; data: unknown; options: object | undefined }
  | { what: 'invoke'; name: string; data: unknown; options: object | undefined };

export type FromThread =
  | { kind: 'call'; run: number; call: number; does: ContextCall }
  | { kind: 'cancel'; call: number }
  | { kind: 'log'; line: string }
  | { kind: 'returned'; run: number; value: unknown }
  /** `call`: it is what this one was refused with. */
  | { kind: 'thrown'; run: number; error: SentError; call: number | undefined };

export function sendable(thrown: unknown): SentError {
  if (typeof thrown !== 'object' || thrown === null) {
    return { name: typeof thrown, message: String(thrown), stack: undefined, fields: {} };
  }
  // Whatever it is, handlers may have put anything into it.
  const { name = 'Error', message = '', stack } = thrown as Record<string, unknown>;
  const fields: Record<string, unknown> = {};
  for (const [field, value] of Object.entries(thrown)) {
    if (field !== 'cause' && isPlain(value)) fields[field] = value;
  }
  return {
    name: textOf(name),
    message: textOf(message),
    stack: typeof stack === 'string' ? stack : undefined,
    fields,
  };
}

/** A MillraceError where it was one: handlers and the platform look at its code. */
export function received({ name, message, stack, fields }: SentError): Error {
  const { code, retryable, details } = fields;
  if (name === 'MillraceError' && isErrorCode(code)) {
    return new MillraceError(code, message, { retryable: retryable === true, details });
  }
  const error = new Error(message);
  if (name !== 'Error') error.name = name;
  if (stack !== undefined) error.stack = stack;
  return Object.assign(error, fields);
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : typeof value;
}

function isPlain(value: unknown): boolean {
  try {
    structuredClone(value);
    return true;
  } catch {
    return false;
  }
}
