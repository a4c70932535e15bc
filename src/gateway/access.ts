/** Who asks, and whether he may: keys where there are some; without keys only this machine, and no page of another origin. */
import type { FastifyRequest } from 'fastify';
import { MillraceError } from '../core/errors.ts';
import { allows, type ApiKeys, type KeyRecord, type Wanted } from './keys.ts';

export interface AccessOptions {
  /** Undefined: whoever reaches it may do all. */
  keys: ApiKeys | undefined;
  /** Origins whose pages may ask. */
  origins: readonly string[];
}

const LOCAL_NAMES = new Set(['localhost', '127.0.0.1', '[::1]']);

export class Access {
  readonly #of: AccessOptions;

  constructor(options: AccessOptions) {
    this.#of = options;
  }

  /** Throws UNAUTHORIZED or FORBIDDEN. */
  assert(request: FastifyRequest, wanted: Wanted): void {
    this.assertOrigin(request);
    if (this.#of.keys === undefined) return;
    const record = this.#recordOf(request);
    if (allows(record, wanted)) return;
    const what = 'name' in wanted ? `${wanted.what}:${wanted.name}` : wanted.what;
    throw new MillraceError('FORBIDDEN', `The key ${record.name} has no scope for ${what}.`);
  }

  /** Who asks, and for what his key is good: `undefined` where there are no keys. Throws UNAUTHORIZED. */
  record(request: FastifyRequest): KeyRecord | undefined {
    this.assertOrigin(request);
    return this.#of.keys === undefined ? undefined : this.#recordOf(request);
  }

  /** A page of another origin could otherwise use what its reader's machine may reach. */
  assertOrigin({ headers }: FastifyRequest): void {
    const { origin, host = '' } = headers;
    const own = origin === `http://${host}` || origin === `https://${host}`;
    if (origin !== undefined && !own && !this.#of.origins.includes(origin)) {
      throw new MillraceError('FORBIDDEN', 'Pages of this origin may not ask here; see --cors.');
    }
    // A name of somebody else's that leads to this machine would pass for the own origin.
    const name = host.replace(/:\d+$/, '');
    if (this.#of.keys === undefined && !LOCAL_NAMES.has(name)) {
      throw new MillraceError('FORBIDDEN', 'Without API keys only localhost is answered.');
    }
  }

  /** Names the requester for limits: his key, else his address. */
  requesterOf(request: FastifyRequest): string {
    const record = this.#of.keys?.find(keyOf(request) ?? '');
    return record === undefined ? `address ${request.ip}` : `key ${record.name}`;
  }

  #recordOf(request: FastifyRequest): KeyRecord {
    const key = keyOf(request);
    if (key === undefined) {
      throw new MillraceError('UNAUTHORIZED', 'An API key is needed: Authorization: Bearer <key>.');
    }
    const record = this.#of.keys?.find(key);
    if (record !== undefined) return record;
    throw new MillraceError('UNAUTHORIZED', 'The API key is not known.');
  }
}

function keyOf({ headers }: FastifyRequest): string | undefined {
  const [, bearer] = /^Bearer (\S+)$/i.exec(headers.authorization ?? '') ?? [];
  const given = headers['x-api-key'];
  return bearer ?? (typeof given === 'string' ? given : undefined);
}
