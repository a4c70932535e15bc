import type { StandardSchemaV1 } from '@standard-schema/spec';
import {
  decodePayload,
  type PayloadLimits,
  type ContentType,
  type EncodedBody,
} from '../core/payload.ts';

/** More would not help whoever reads them, and an input of a million wrong items must not make a reply as large. */
export const MAX_ISSUES = 20;
/** Schema libraries quote the input in their messages. */
export const MAX_ISSUE_CHARACTERS = 300;

export interface ValidationIssue {
  /** From the root to the value concerned; empty for the value itself. */
  path: (string | number)[];
  message: string;
}

export type Validation<Value = unknown> =
  | { readonly ok: true; readonly value: Value }
  | { readonly ok: false; readonly issues: ValidationIssue[] };

/**
 * Holds a value against a Standard Schema. Answers at once when the schema does; only a schema with asynchronous
 * parts costs a promise. At most MAX_ISSUES issues are given. Throws, or rejects, only when the schema itself does.
 */
export function validate<Schema extends StandardSchemaV1>(
  schema: Schema,
  value: unknown,
):
  | Validation<StandardSchemaV1.InferOutput<Schema>>
  | Promise<Validation<StandardSchemaV1.InferOutput<Schema>>> {
  const result = schema['~standard'].validate(value);
  return isPromiseLike(result) ? Promise.resolve(result).then(toValidation) : toValidation(result);
}

/**
 * What came in, decoded and held against the function's schema, if it has one. Throws INVALID_INPUT and PAYLOAD_TOO_LARGE where
 * it cannot be decoded.
 */
export function readData(
  type: ContentType,
  body: EncodedBody,
  schema: StandardSchemaV1 | undefined,
  limits: PayloadLimits,
): Validation | Promise<Validation> {
  const data = decodePayload(type, body, limits);
  return schema === undefined ? { ok: true, value: data } : validate(schema, data);
}

/** Not `instanceof Promise`: the schema may come from another realm or bring its own. */
function isPromiseLike<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return typeof (value as { then?: unknown } | null)?.then === 'function';
}

function toValidation<Value>(result: StandardSchemaV1.Result<Value>): Validation<Value> {
  if (!result.issues) return { ok: true, value: result.value };
  const issues = result.issues.slice(0, MAX_ISSUES).map((issue) => ({
    path: (issue.path ?? []).map((segment) => {
      const key = typeof segment === 'object' ? segment.key : segment;
      return typeof key === 'symbol' ? String(key) : key;
    }),
    message: shorten(issue.message),
  }));
  return { ok: false, issues };
}

function shorten(message: string): string {
  return message.length <= MAX_ISSUE_CHARACTERS
    ? message
    : `${message.slice(0, MAX_ISSUE_CHARACTERS)}…`;
}
