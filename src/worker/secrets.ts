/**
 * The secrets that functions name: read from files or the environment of this worker, and kept from every way out that the
 * platform has.
 *
 * - X1  A function is offered only where all its secrets are.
 * - X2  No line of the log, no error that is answered, kept or traced has the value of one: its name stands there instead.
 * - X3  What a function writes, emits, calls with or answers has no secret in it, or it is refused.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { MillraceError, messageOf } from '../core/errors.ts';
import { quote } from '../core/names.ts';
import type { Encoded } from '../core/payload.ts';
import type { Collection } from '../function/context.ts';
import type { LoadedFunction } from '../function/load.ts';
import { tapped } from './logs/tapped.ts';

/** Of one, in bytes: a chain of certificates has room. */
export const MAX_SECRET_BYTES = 64 * 1024;
/** A shorter one would be found in text that has nothing to do with it. */
export const MIN_SECRET_CHARACTERS = 8;
/** A file is looked at again when its secret is asked for after so long. */
export const READ_AGAIN_MS = 10_000;
/** Values that were replaced may still be under way: so many are looked for beside the present one. */
const KEPT_VALUES = 4;

export interface SecretsOptions {
  /** Holds a file for each secret, under its name. */
  directory?: string | undefined;
  /** Where a secret is looked for that has no file. */
  environment?: NodeJS.ProcessEnv | undefined;
}

interface Secret {
  /** The present one first. */
  values: string[];
  readAtMs: number;
}

interface Pattern {
  name: string;
  text: string;
  bytes: Buffer;
}

export class Secrets {
  readonly #directory: string | undefined;
  readonly #environment: NodeJS.ProcessEnv;
  readonly #known = new Map<string, Secret>();
  /** How their values may look in text; the longest first, since one may hold another. */
  #patterns: readonly Pattern[] = [];

  constructor({ directory, environment = {} }: SecretsOptions = {}) {
    this.#directory = directory;
    this.#environment = environment;
  }

  /** Throws FUNCTION_LOAD_FAILED where one of the function's secrets is not here, or cannot be one (X1). */
  need({ name: functionName, definition: { secrets } }: LoadedFunction): void {
    for (const name of secrets) {
      try {
        this.#refresh(name, performance.now());
      } catch (error) {
        const message = `${functionName} needs the secret ${name}, ${messageOf(error)}.`;
        throw new MillraceError('FUNCTION_LOAD_FAILED', message);
      }
    }
  }

  /** Of a function that names it. */
  value(name: string): string {
    const now = performance.now();
    const known = this.#known.get(name);
    if (known === undefined || now - known.readAtMs >= READ_AGAIN_MS) {
      try {
        this.#refresh(name, now);
      } catch (error) {
        // In the midst of being replaced, or gone: the value that was there is the best there is.
        if (known === undefined) throw error;
        known.readAtMs = now;
      }
    }
    return this.#known.get(name)?.values[0] ?? '';
  }

  redact(text: string): string {
    let clean = text;
    for (const { name, text: secret } of this.#patterns) {
      if (clean.includes(secret)) clean = clean.replaceAll(secret, `[${name}]`);
    }
    return clean;
  }

  /** The same error where no secret is in it (X2). */
  cleanError(error: MillraceError): MillraceError {
    if (this.#patterns.length === 0) return error;
    const { code, retryable, details, cause } = error;
    const message = this.redact(error.message);
    const facts = details === undefined ? undefined : textOf(details);
    const shown = facts === undefined ? undefined : this.redact(facts);
    if (message === error.message && shown === facts) return error;
    return new MillraceError(code, message, { retryable, details: valueOf(shown), cause });
  }

  /** What a handler has thrown, without secrets in its stack; all else that it says of itself it says still. */
  cleanThrown(thrown: unknown): unknown {
    if (this.#patterns.length === 0 || typeof thrown !== 'object' || thrown === null) return thrown;
    try {
      const { stack } = thrown as { stack?: unknown };
      if (typeof stack !== 'string' || this.redact(stack) === stack) return thrown;
      return Object.create(thrown, { stack: { value: this.redact(stack) } }) as unknown;
    } catch {
      // Its getters throw: then nobody reads its stack.
      return thrown;
    }
  }

  /** Throws FUNCTION_FAILED where a secret is in it (X3); `what` names it in the sentence. */
  assertNotIn(what: string, functionName: string, content: string | Uint8Array): void {
    if (this.#patterns.length === 0) return;
    const bytes = typeof content === 'string' ? undefined : asBuffer(content);
    const found = this.#patterns.find((each) =>
      bytes === undefined ? (content as string).includes(each.text) : bytes.includes(each.bytes),
    );
    if (found === undefined) return;
    throw new MillraceError(
      'FUNCTION_FAILED',
      `${functionName} would give the secret ${found.name} away: it is in ${what}.`,
    );
  }

  assertNotInAnswer(functionName: string, { body }: Encoded): void {
    this.assertNotIn('its answer', functionName, body);
  }

  /** What a handler calls another function with, or emits: `beside` the data. */
  assertNotSent(what: string, functionName: string, data: unknown, beside: unknown): void {
    if (this.#patterns.length === 0) return;
    // What cannot be shown as JSON is refused where it is encoded.
    const content = data instanceof Uint8Array ? data : (textOf(data) ?? '');
    this.assertNotIn(what, functionName, content);
    this.assertNotIn(what, functionName, textOf(beside) ?? '');
  }

  guarded(functionName: string, collection: Collection): Collection {
    if (this.#patterns.length === 0) return collection;
    return {
      get: (key) => collection.get(key),
      delete: (key) => collection.delete(key),
      set: async (key, value) => {
        this.assertNotIn('what it writes', functionName, `${key} ${textOf(value) ?? ''}`);
        await collection.set(key, value);
      },
    };
  }

  /** A logger whose lines, and those of its children, have no secrets in them. */
  cleanLog(log: Logger): Logger {
    return tapped(log.child({}), (line) => this.redact(line));
  }

  #refresh(name: string, now: number): void {
    const value = this.#read(name);
    if (value === undefined) {
      throw new Error(
        `which is neither ${this.#directory === undefined ? 'in a folder given with --secrets' : `in ${this.#directory}`} nor in the environment`,
      );
    }
    if (value.length < MIN_SECRET_CHARACTERS) {
      throw new Error(
        `which has fewer than ${MIN_SECRET_CHARACTERS} characters: it could not be kept out of logs`,
      );
    }
    const before = this.#known.get(name)?.values ?? [];
    const values = [value, ...before.filter((old) => old !== value)].slice(0, 1 + KEPT_VALUES);
    this.#known.set(name, { values, readAtMs: now });
    if (before[0] === value) return;
    const patterns = [...this.#known].flatMap(([each, secret]) =>
      secret.values.flatMap((one) => patternsOf(each, one)),
    );
    this.#patterns = patterns.toSorted((a, b) => b.text.length - a.text.length);
  }

  /** Undefined where there is none. */
  #read(name: string): string | undefined {
    if (this.#directory !== undefined) {
      try {
        const bytes = readFileSync(join(this.#directory, name));
        if (bytes.length > MAX_SECRET_BYTES) {
          throw new Error(`whose file has more than ${MAX_SECRET_BYTES} bytes`);
        }
        // Editors and `echo` end it with one.
        return bytes.toString('utf8').replace(/\r?\n$/, '');
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === undefined) throw error;
        if (code !== 'ENOENT') {
          throw new Error(`whose file cannot be read (${code})`, { cause: error });
        }
      }
    }
    return this.#environment[name];
  }
}

/** For a handler that asks for one which its function does not name. */
export function notNamed(functionName: string, name: string): MillraceError {
  const message = `${functionName} does not name the secret ${quote(name)} in its option secrets.`;
  return new MillraceError('INVALID_INPUT', message);
}

/** As it is, and as JSON, an address and base64 have it. */
function patternsOf(name: string, value: string): Pattern[] {
  const escaped = JSON.stringify(value).slice(1, -1);
  const texts = new Set([
    value,
    escaped,
    JSON.stringify(escaped).slice(1, -1),
    encodeURIComponent(value),
    Buffer.from(value).toString('base64'),
  ]);
  return [...texts].map((text) => ({ name, text, bytes: Buffer.from(text) }));
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Undefined for what is no JSON any more: a secret of digits alone may have been a number in it. */
function valueOf(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : (JSON.parse(text) as unknown);
  } catch {
    return undefined;
  }
}

/** Undefined for what JSON cannot hold. */
function textOf(value: unknown): string | undefined {
  try {
    return JSON.stringify(value);
  } catch {
    return undefined;
  }
}
