/** What a backup has of all that the platform keeps in JetStream. */
import { bucketKeys } from '../bus/bucket-keys.ts';
import type { Bus } from '../bus/connection.ts';
import type { JetStreamApi } from '../bus/jetstream-api.ts';
import { describeStream, type StreamDescription } from '../bus/stream-backup.ts';
import type { Settings } from '../core/settings.ts';
import {
  bucketsOf,
  objectsOf,
  streamOfBucket,
  streamOfObjects,
  streamsOf,
} from '../core/stores.ts';
import { CRON_SOURCE } from '../delivery/cron-tail.ts';
import { readCursor } from '../delivery/cursors.ts';
import type { Frame } from './format.ts';

export interface Stores {
  /** Read through, partition by partition, and written anew. */
  logs: readonly string[];
  /** Copied as they are, the one with the events first; beside them those of the user's streams that functions read. */
  streams: readonly string[];
  /** Of JetStream's key-value buckets, copied key by key. */
  buckets: readonly string[];
  /** Of these, the one with the functions' cursors. */
  cursors: string;
  /** The table of owners: made anew. */
  assignment: string;
  /** Of its object stores. */
  objects: readonly string[];
}

/** What there is beside the logs. */
export interface Around {
  entries: Extract<Frame, { kind: 'entry' }>[];
  /** As they were before anything was read of them. */
  streams: StreamDescription[];
  /** The same where nothing has come into being, and nothing was deployed. */
  print: string;
}

export function storesOf({ namespace }: Settings): Stores {
  const { log, snapshots, events, dead, later } = streamsOf(namespace);
  const { assignment, deliveries: cursors, deployments, wanted } = bucketsOf(namespace);
  return {
    logs: [log, snapshots],
    streams: [events, dead, later],
    buckets: [cursors, deployments, wanted],
    cursors,
    assignment,
    objects: Object.values(objectsOf(namespace)),
  };
}

/** The streams behind all of them. */
export function streamNamesOf(stores: Stores): string[] {
  return [
    ...stores.logs,
    ...stores.streams,
    ...[...stores.buckets, stores.assignment].map(streamOfBucket),
    ...stores.objects.map(streamOfObjects),
  ];
}

/** Nothing is made that is not there. Throws UNAVAILABLE or TIMEOUT. */
export async function lookAround(
  bus: Bus,
  api: JetStreamApi,
  stores: Stores,
  replicas: number,
): Promise<Around> {
  const entries: Around['entries'] = [];
  const print: unknown[] = [];
  const names = new Set(stores.streams);
  for (const bucket of stores.buckets) {
    const description = await describeStream(api, streamOfBucket(bucket));
    if (description === undefined) continue;
    // Cursors go on all the time; which ones there are is what counts.
    print.push(bucket, bucket === stores.cursors ? 0 : description.state.last_seq);
    const store = await bus.keyValue(bucket, description.config.num_replicas ?? replicas);
    const { keys } = await bucketKeys(bus, bucket);
    for (const key of keys.sort()) {
      const entry = await store.get(key);
      if (entry?.operation !== 'PUT') continue;
      entries.push({ kind: 'entry', bucket, key, value: entry.value });
      const cursor = bucket === stores.cursors ? readCursor(entry.value) : undefined;
      if (cursor === undefined) continue;
      print.push(key);
      if (cursor.stream !== CRON_SOURCE) names.add(cursor.stream);
    }
  }
  const described = await Promise.all([...names].map(async (name) => describeStream(api, name)));
  const streams = described.filter((each) => each !== undefined);
  print.push(...streams.map(({ config }) => config.name));
  return { entries, streams, print: JSON.stringify(print) };
}

export async function* readObjects(
  bus: Bus,
  api: JetStreamApi,
  { objects }: Stores,
): AsyncGenerator<Extract<Frame, { kind: 'object' }>> {
  for (const bucket of objects) {
    const description = await describeStream(api, streamOfObjects(bucket));
    if (description === undefined) continue;
    const store = await bus.objectStore(bucket, description.config.num_replicas ?? 1);
    for (const { name, deleted } of await store.list()) {
      const content = deleted ? null : await store.getBlob(name);
      if (content !== null) yield { kind: 'object', bucket, name, content };
    }
  }
}
