/** All that the platform keeps in JetStream under a namespace, and what a backup has of it. */
import { assignmentBucket } from '../bus/assignment-store.ts';
import type { Bus } from '../bus/connection.ts';
import { logStreamNames } from '../bus/ensure-streams.ts';
import { describeStream } from '../bus/stream-backup.ts';
import type { JetStreamApi } from '../bus/jetstream-api.ts';
import { laterStream } from '../bus/later-stream.ts';
import type { Settings } from '../core/settings.ts';
import type { Frame } from './format.ts';

export interface Stores {
  /** Read through, partition by partition, and written anew. */
  logs: readonly string[];
  /** Copied as they are; beside them those of the user's streams that functions read. */
  streams: readonly string[];
  /** Of JetStream's key-value buckets, copied key by key. */
  buckets: readonly string[];
  /** The table of owners: made anew. */
  assignment: string;
  /** Of its object stores. */
  objects: readonly string[];
}

export function storesOf(settings: Settings): Stores {
  const { namespace } = settings;
  const { log, snapshots } = logStreamNames(settings);
  return {
    logs: [log, snapshots],
    streams: [`${namespace}-events`, `${namespace}-dead`, laterStream(namespace)],
    buckets: [`${namespace}-deliveries`, `${namespace}-deployments`, `${namespace}-events-wanted`],
    assignment: assignmentBucket(namespace),
    objects: [`${namespace}-deploys`],
  };
}

/** The streams behind all of them. */
export function streamNamesOf(stores: Stores): string[] {
  return [
    ...stores.logs,
    ...stores.streams,
    ...[...stores.buckets, stores.assignment].map((bucket) => `KV_${bucket}`),
    ...stores.objects.map((bucket) => `OBJ_${bucket}`),
  ];
}

/** Nothing is made that is not there. */
export async function* readBuckets(
  bus: Bus,
  api: JetStreamApi,
  { buckets, objects }: Stores,
  replicas: number,
): AsyncGenerator<Extract<Frame, { kind: 'entry' | 'object' }>> {
  for (const bucket of buckets) {
    if ((await describeStream(api, `KV_${bucket}`)) === undefined) continue;
    const store = await bus.keyValue(bucket, replicas);
    const keys: string[] = [];
    for await (const key of await store.keys()) keys.push(key);
    for (const key of keys) {
      const entry = await store.get(key);
      if (entry?.operation !== 'PUT') continue;
      yield { kind: 'entry', bucket, key, value: entry.value };
    }
  }
  for (const bucket of objects) {
    if ((await describeStream(api, `OBJ_${bucket}`)) === undefined) continue;
    const store = await bus.objectStore(bucket, replicas);
    for (const { name, deleted } of await store.list()) {
      const content = deleted ? null : await store.getBlob(name);
      if (content !== null) yield { kind: 'object', bucket, name, content };
    }
  }
}
