/**
 * Brings back a backup where nothing is: docs/backup.md. The file is read twice, and nothing is changed before it is known to be
 * whole, and that there is room for it.
 */
import { assignmentBucket } from '../bus/assignment-store.ts';
import type { Bus } from '../bus/connection.ts';
import { JetStreamApi } from '../bus/jetstream-api.ts';
import { changeStream, describeStream } from '../bus/stream-backup.ts';
import { MillraceError } from '../core/errors.ts';
import { quote } from '../core/names.ts';
import type { Settings } from '../core/settings.ts';
import { streamOfBucket } from '../core/stores.ts';
import { lookThrough, type LookedThrough } from './check.ts';
import { unreadable, type BackupContent } from './format.ts';
import { PutBack } from './put-back.ts';
import { RestoreNote } from './restore-note.ts';
import { storesOf, streamNamesOf } from './stores.ts';

export interface RestoreOptions {
  bus: Bus;
  settings: Settings;
  file: string;
  /** A sentence before each step, which waits for it. */
  readonly onProgress?: (what: string) => void | Promise<void>;
}

/**
 * Resolves when workers may start. Throws BACKUP_UNREADABLE, INVALID_INPUT for a backup of another namespace and NOT_EMPTY, and
 * then has changed nothing; UNAVAILABLE or TIMEOUT where JetStream does not do what it should: then it is to be run again.
 */
export async function restoreBackup(options: RestoreOptions): Promise<BackupContent> {
  const { bus, settings, file } = options;
  await options.onProgress?.(`looking through ${file}`);
  const { content, streams, buckets } = await lookThrough(file);
  if (content.namespace !== settings.namespace) {
    throw new MillraceError(
      'INVALID_INPUT',
      `This is a backup of the namespace ${quote(content.namespace)}, not of ${quote(settings.namespace)}: name it with --namespace.`,
    );
  }
  const api = new JetStreamApi(bus);
  const stores = storesOf(settings);
  const known = new Set([...stores.buckets, ...stores.objects]);
  if (buckets.some((bucket) => !known.has(bucket))) {
    throw unreadable(file, 'it has what belongs to another namespace');
  }
  const names = new Set([...streamNamesOf(stores), ...streams.map(({ name }) => name)]);
  const note = await makeRoom(bus, api, settings, names, streams);
  const table = await new PutBack(options, api, note).run();
  await note.end(table);
  return content;
}

/** What a restore that was broken off has made goes; anything else that is there stays, and is a reason to refuse. */
async function makeRoom(
  bus: Bus,
  api: JetStreamApi,
  settings: Settings,
  names: ReadonlySet<string>,
  streams: LookedThrough['streams'],
): Promise<RestoreNote> {
  const table = streamOfBucket(assignmentBucket(settings.namespace));
  const there = new Set<string>();
  for (const stream of names) {
    if ((await describeStream(api, stream)) !== undefined) there.add(stream);
  }
  // Other streams with the same subjects.
  for (const subject of streams.flatMap((config) => config.subjects ?? [])) {
    for (const stream of await api.streamsOf(subject)) there.add(stream);
  }
  const left = there.has(table) ? await RestoreNote.left(bus, settings) : undefined;
  const own = new Set(left === undefined ? [] : [table, ...left]);
  const others = [...there].filter((stream) => !own.has(stream));
  if (others.length > 0) {
    throw new MillraceError(
      'NOT_EMPTY',
      `A backup is restored only where nothing is, and these streams are there: ${others.join(', ')}.`,
      { details: { streams: others } },
    );
  }
  const note = await RestoreNote.begin(bus, settings);
  for (const stream of left ?? []) {
    if (there.has(stream)) await changeStream(api, 'DELETE', stream, {});
  }
  await note.unmade();
  return note;
}
