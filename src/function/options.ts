import { STRATEGIES } from '../core/balance/index.ts';
import { MillraceError } from '../core/errors.ts';
import {
  functionNameReason,
  quote,
  subjectsOverlap,
  subscriptionSubjectReason,
} from '../core/names.ts';
import { cacheReason, invalidatesReason } from './cache.ts';
import { isFunction, type Check } from './checks.ts';
import { cronReason } from './cron.ts';
import { FLOW_CHECKS, flowReason } from './flow.ts';
import { httpReason } from './http.ts';
import { isolationReason } from './isolation.ts';
import { nearest } from './nearest.ts';

export const DEFAULT_TIMEOUT_MS = 30_000;
export const MAX_TIMEOUT_MS = 86_400_000;
export const MAX_DESCRIPTION_CHARACTERS = 1_000;
export const MAX_SUBJECTS = 64;
export const MAX_ATTEMPTS = 1_000;
export const MAX_SECRETS = 32;

/** A durable event that fails runs again after half a second at first, then after twice as long each time. */
export const DEFAULT_RETRIES = { maxAttempts: 8, minDelayMs: 500, maxDelayMs: 60_000 } as const;

/** What is wrong with an option's value, to be put after the option's name, or undefined. */
const CHECKS: Readonly<Record<string, Check>> = {
  name: (name) => {
    const reason = functionNameReason(name);
    return reason && `${quote(name)} ${reason}`;
  },
  description: (text) =>
    typeof text === 'string' && text.length <= MAX_DESCRIPTION_CHARACTERS
      ? undefined
      : `must be a string of at most ${MAX_DESCRIPTION_CHARACTERS} characters`,
  on: checkSubjects,
  delivery: oneOf(['durable', 'ephemeral']),
  input: checkSchema,
  output: checkSchema,
  key: isFunction,
  balance: checkBalance,
  timeoutMs: (ms) =>
    typeof ms === 'number' && Number.isInteger(ms) && ms >= 1 && ms <= MAX_TIMEOUT_MS
      ? undefined
      : `must be an integer from 1 to ${MAX_TIMEOUT_MS} (milliseconds, at most a day)`,
  from: oneOf(['now', 'start']),
  cron: cronReason,
  cache: cacheReason,
  invalidates: invalidatesReason,
  http: httpReason,
  isolation: isolationReason,
  secrets: checkSecrets,
  ...FLOW_CHECKS,
  retries: checkRetries,
  handler: isFunction,
};

/** Of a variable in the environment, which is also a legal file's. */
const SECRET_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;

function checkSecrets(names: unknown): string | undefined {
  if (!Array.isArray(names) || names.length > MAX_SECRETS) {
    return `must be a list of at most ${MAX_SECRETS} names`;
  }
  const wrong = names.find((name) => typeof name !== 'string' || !SECRET_NAME.test(name));
  if (wrong === undefined) return undefined;
  return `has the name ${quote(wrong)}, which must be that of an environment variable`;
}

function checkRetries(given: unknown): string | undefined {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    return 'must be { maxAttempts, minDelayMs, maxDelayMs }, each of them optional';
  }
  const retries = given as Record<string, unknown>;
  const most = {
    maxAttempts: MAX_ATTEMPTS,
    minDelayMs: MAX_TIMEOUT_MS,
    maxDelayMs: MAX_TIMEOUT_MS,
  };
  for (const [name, value] of Object.entries(retries)) {
    if (!Object.hasOwn(most, name)) return `has no option ${quote(name)}`;
    const max = most[name as keyof typeof most];
    const legal = Number.isInteger(value) && Number(value) >= 1 && Number(value) <= max;
    if (value !== undefined && !legal)
      return `has ${name}, which must be an integer from 1 to ${max}`;
  }
  const { minDelayMs, maxDelayMs } = { ...DEFAULT_RETRIES, ...retries };
  return minDelayMs <= maxDelayMs ? undefined : 'has minDelayMs above maxDelayMs';
}

function checkBalance(balance: unknown): string | undefined {
  if (typeof balance !== 'object' || balance === null)
    return oneOf([...STRATEGIES.keys()])(balance);
  const { name, strategy } = balance as Record<string, unknown>;
  const reason = functionNameReason(name);
  if (reason !== undefined) return `has the name ${quote(name)}, which ${reason}`;
  if (STRATEGIES.has(name as string)) return `has the name ${quote(name)}, which is the platform's`;
  return typeof strategy === 'function' ? undefined : 'has no strategy, which must be a function';
}

function oneOf(allowed: readonly string[]): Check {
  return (value) =>
    typeof value === 'string' && allowed.includes(value)
      ? undefined
      : `must be ${allowed.map((name) => `'${name}'`).join(' or ')}`;
}

function checkSchema(schema: unknown): string | undefined {
  // Some libraries' schemas are objects, others' are functions: a property is all they share.
  const holder = schema as { '~standard'?: { version?: unknown; validate?: unknown } } | null;
  const standard = holder?.['~standard'];
  return standard?.version === 1 && typeof standard.validate === 'function'
    ? undefined
    : 'must be a Standard Schema, version 1 (zod, valibot, arktype …)';
}

function checkSubjects(on: unknown): string | undefined {
  const subjects: readonly unknown[] = Array.isArray(on) ? on : [on];
  if (subjects.length === 0) return 'must name a subject, or be left out';
  if (subjects.length > MAX_SUBJECTS) return `must name at most ${MAX_SUBJECTS} subjects`;
  const legal: string[] = [];
  for (const subject of subjects) {
    const reason = subscriptionSubjectReason(subject);
    if (reason !== undefined) return `has the subject ${quote(subject)}, which ${reason}`;
    const other = legal.find((earlier) => subjectsOverlap(earlier, String(subject)));
    // The broker refuses a consumer with overlapping filters, and two subscriptions would run the event twice.
    if (other !== undefined)
      return `has the subjects ${quote(other)} and ${quote(subject)}, which overlap: an event on both would come twice`;
    legal.push(String(subject));
  }
  return undefined;
}

function refuse(name: unknown, reason: string): never {
  const who = functionNameReason(name) === undefined ? `Function ${quote(name)}` : 'The function';
  throw new MillraceError('INVALID_DEFINITION', `${who}: ${reason}.`);
}

/** Throws INVALID_DEFINITION at the first thing that is wrong; an option that is undefined counts as left out. */
export function checkOptions(given: unknown): asserts given is Readonly<Record<string, unknown>> {
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw new MillraceError(
      'INVALID_DEFINITION',
      'defineFunction takes one object: { on, input, handler, … }.',
    );
  const options = given as Readonly<Record<string, unknown>>;
  const legal = Object.keys(CHECKS);
  for (const option of Object.keys(options)) {
    if (Object.hasOwn(CHECKS, option)) continue;
    const meant = nearest(option, legal);
    const hint =
      meant === undefined ? `legal are ${legal.join(', ')}` : `perhaps ${meant} is meant`;
    refuse(options['name'], `there is no option ${quote(option)}, ${hint}`);
  }
  if (options['handler'] === undefined) refuse(options['name'], 'the option handler is missing');
  for (const [option, check] of Object.entries(CHECKS)) {
    const value = options[option];
    const reason = value === undefined ? undefined : check(value);
    if (reason !== undefined) refuse(options['name'], `${option} ${reason}`);
  }
  if (options['cron'] !== undefined && options['delivery'] === 'ephemeral') {
    refuse(options['name'], "cron needs delivery 'durable', the default");
  }
  const reason = flowReason(options);
  if (reason !== undefined) refuse(options['name'], reason);
}
