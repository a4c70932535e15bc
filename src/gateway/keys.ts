/** API keys: who may do what at the gateway. Only their hashes are stored. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { MillraceError, messageOf } from '../core/errors.ts';
import { subjectCovers } from '../core/names.ts';

/**
 * `invoke:<function>` or `invoke:*`; `publish:<subjects>` and `subscribe:<subjects>` with NATS wildcards; `inspect`: all questions, dead
 * letters and deploys included; `operate`: replay and drop dead letters, roll back and promote; `metrics`; `admin`: all of it.
 */
const SCOPE =
  /^(?:(?:invoke):(?:\*|[A-Za-z0-9_-]{1,64})|(?:publish|subscribe):[^\s:]{1,255}|inspect|operate|metrics|admin)$/;

const recordSchema = z.strictObject({
  name: z.string().min(1).max(100),
  /** SHA-256 of the key, hexadecimal. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  scopes: z.array(z.string().regex(SCOPE)).min(1).max(100),
});
export type KeyRecord = z.infer<typeof recordSchema>;
const fileSchema = z.strictObject({ keys: z.array(recordSchema).min(1).max(10_000) });

const KEY_BYTES = 32;
const PREFIX = 'mr_';

/** The key itself is shown once and stored nowhere. Throws USAGE for a scope that there is not. */
export function makeKey(
  name: string,
  scopes: readonly string[],
): { key: string; record: KeyRecord } {
  const key = `${PREFIX}${randomBytes(KEY_BYTES).toString('base64url')}`;
  const record = { name, sha256: hashOf(key).toString('hex'), scopes: [...scopes] };
  const checked = recordSchema.safeParse(record);
  if (!checked.success) {
    throw new MillraceError(
      'USAGE',
      'A key needs a name and scopes: invoke:<function> or invoke:*, publish:<subjects>, subscribe:<subjects>, inspect, operate, metrics, admin.',
    );
  }
  return { key, record };
}

export class ApiKeys {
  readonly #records: readonly (KeyRecord & { hash: Buffer })[];

  constructor(records: readonly KeyRecord[]) {
    this.#records = records.map((record) => ({
      ...record,
      hash: Buffer.from(record.sha256, 'hex'),
    }));
  }

  /** Throws USAGE where the file is not what it should be. */
  static async read(file: string): Promise<ApiKeys> {
    try {
      return new ApiKeys(fileSchema.parse(JSON.parse(await readFile(file, 'utf8'))).keys);
    } catch (cause) {
      const why = cause instanceof z.ZodError ? z.prettifyError(cause) : messageOf(cause);
      throw new MillraceError('USAGE', `The keys in ${file} cannot be read: ${why}`, { cause });
    }
  }

  /** All keys are compared, whichever it is, and each in constant time: how long it takes tells nothing. */
  find(key: string): KeyRecord | undefined {
    const hash = hashOf(key);
    let found: KeyRecord | undefined;
    for (const record of this.#records) {
      if (timingSafeEqual(record.hash, hash)) found = record;
    }
    return found;
  }
}

export type Wanted =
  | { what: 'invoke' | 'publish' | 'subscribe'; name: string }
  | { what: 'inspect' | 'operate' | 'metrics' };

export function allows({ scopes }: KeyRecord, wanted: Wanted): boolean {
  return scopes.some((scope) => {
    const [what, pattern = ''] = scope.split(':', 2);
    if (what === 'admin') return true;
    if (what !== wanted.what) return false;
    if (!('name' in wanted)) return true;
    if (wanted.what === 'invoke') return pattern === '*' || pattern === wanted.name;
    return subjectCovers(pattern, wanted.name);
  });
}

function hashOf(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}
