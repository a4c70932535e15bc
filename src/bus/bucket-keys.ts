/** The keys of a KV bucket by the word of its leader: the client's own list is read by a consumer, which may live on a replica that is behind. */
import { z } from 'zod';
import { MillraceError } from '../core/errors.ts';
import type { Bus } from './connection.ts';
import { apiSchema, JetStreamApi } from './jetstream-api.ts';

export interface BucketKeys {
  /** Those that were removed are among them. */
  keys: string[];
  /** Of the bucket, when it had these keys: all of a lower revision are among them. */
  revision: number;
}

const MAX_PAGES = 1_000;

const pageSchema = apiSchema.extend({
  total: z.number().optional(),
  state: z
    .object({
      last_seq: z.number(),
      subjects: z.record(z.string(), z.number()).nullish(),
    })
    .optional(),
});

/** `under`: a prefix. Throws UNAVAILABLE or TIMEOUT. */
export async function bucketKeys(bus: Bus, bucket: string, under = ''): Promise<BucketKeys> {
  const api = new JetStreamApi(bus);
  const prefix = `$KV.${bucket}.`;
  const keys: string[] = [];
  let revision = Number.POSITIVE_INFINITY;
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const question = { subjects_filter: `${prefix}${under}>`, offset: keys.length };
    const {
      state,
      total = 0,
      error,
    } = await api.ask(`STREAM.INFO.KV_${bucket}`, question, pageSchema);
    if (state === undefined) {
      const why = error?.description ?? 'its state is not known';
      throw new MillraceError('UNAVAILABLE', `The bucket ${bucket} does not serve: ${why}.`);
    }
    revision = Math.min(revision, state.last_seq);
    const found = Object.keys(state.subjects ?? {});
    keys.push(...found.map((subject) => subject.slice(prefix.length)));
    if (found.length === 0 || keys.length >= total) return { keys, revision };
  }
  throw new MillraceError('UNAVAILABLE', `The bucket ${bucket} has too many keys.`);
}
