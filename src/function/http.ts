/** A function's own route at the gateway. */
import { fields, type Check } from './checks.ts';

export const HTTP_METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'] as const;

export interface HttpOption {
  readonly method: (typeof HTTP_METHODS)[number];
  /** Begins with a slash; `:name` stands for a part, which becomes a field of the data. */
  readonly path: string;
  /** What comes there is signed: who signs it, and the gateway's environment variable that has the secret. */
  readonly webhook?: {
    /** `hmac`: HMAC-SHA-256 of the body, hexadecimal, in the header `header`. */
    readonly provider: 'github' | 'hmac';
    readonly secret: string;
    /** Of `hmac`; default `x-signature-256`. */
    readonly header?: string;
  };
}

const MAX_PATH_CHARACTERS = 200;
const SEGMENT = /^(?::[A-Za-z_][A-Za-z0-9_]{0,63}|[A-Za-z0-9._~-]+)$/;
/** The gateway's own. */
const RESERVED = ['fn', 'events', 'api', 'health', 'ready', 'metrics', 'openapi.json', 'dashboard'];

const oneOf =
  (allowed: readonly string[]): Check =>
  (value) =>
    typeof value === 'string' && allowed.includes(value)
      ? undefined
      : `must be ${allowed.join(' or ')}`;

const isPath: Check = (value) => {
  if (typeof value !== 'string' || !value.startsWith('/') || value.length > MAX_PATH_CHARACTERS) {
    return `must begin with / and have at most ${MAX_PATH_CHARACTERS} characters`;
  }
  const segments = value.slice(1).split('/');
  const wrong = segments.find((each) => !SEGMENT.test(each) || each === '.' || each === '..');
  if (wrong !== undefined) return 'must have parts of A-Z a-z 0-9 . _ ~ - or :name between slashes';
  if (RESERVED.includes(segments[0] ?? '')) return 'is the gateway’s own';
  const names = segments.filter((each) => each.startsWith(':'));
  return new Set(names).size === names.length ? undefined : 'names a part twice';
};

const variable: Check = (value) =>
  typeof value === 'string' && /^[A-Za-z_][A-Za-z0-9_]*$/.test(value)
    ? undefined
    : 'must name an environment variable';

const header: Check = (value) =>
  typeof value === 'string' && /^[A-Za-z0-9-]{1,100}$/.test(value) ? undefined : 'must be a header';

/** What is wrong with the option `http`, to be put behind its name. */
export const httpReason: Check = fields(
  { method: oneOf(HTTP_METHODS), path: isPath },
  { webhook: fields({ provider: oneOf(['github', 'hmac']), secret: variable }, { header }) },
);
