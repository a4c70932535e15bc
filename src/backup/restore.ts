/**
 * Brings back a backup where nothing is: docs/backup.md. The file is read twice, and nothing is changed before it is known to be
 * whole. From the first change to the last a note in the bucket of the table of owners keeps workers from starting; it says what
 * has been made, so a restore that was broken off can be run again.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import {
  ASSIGNMENT,
  assignmentBucket,
  encodeAssignment,
  RESTORING,
} from '../bus/assignment-store.ts';
import type { Bus } from '../bus/connection.ts';
import { apiSchema, JetStreamApi } from '../bus/jetstream-api.ts';
import { LogStreams } from '../bus/log-streams.ts';
import { readControl, writeControl } from '../bus/messages.ts';
import { describeStream, restoreStream, type StreamDescription } from '../bus/stream-backup.ts';
import { StreamReader } from '../bus/stream-reader.ts';
import { MillraceError } from '../core/errors.ts';
import { quote } from '../core/names.ts';
import type { Settings } from '../core/settings.ts';
import { encodeClaim } from '../core/state/claim.ts';
import { isEmitted } from './emitted.ts';
import { RESTORED_METADATA } from '../bus/captures.ts';
import { readFrames, unreadable, type BackupContent, type Frame, type Head } from './format.ts';

export type { BackupContent } from './format.ts';
import { storesOf, streamNamesOf, type Stores } from './stores.ts';

export interface RestoreOptions {
  bus: Bus;
  settings: Settings;
  file: string;
  /** A sentence before each step, which waits for it. */
  readonly onProgress?: (what: string) => void | Promise<void>;
}

type Frames = AsyncGenerator<Exclude<Frame, { kind: 'end' }>>;
type StreamFrame = Extract<Frame, { kind: 'stream' }>;

/** The shortest that JetStream takes. */
const SHORTEST_WINDOW_MS = 100;
const NS_PER_MS = 1_000_000;

const noteSchema = z.object({ streams: z.array(z.string()) });

/** Reads all of the file. Throws BACKUP_UNREADABLE. */
export async function checkBackup(file: string): Promise<BackupContent> {
  let content: BackupContent | undefined;
  const events: Record<string, number> = {};
  for await (const frame of readFrames(file)) {
    if (frame.kind === 'head') {
      const { at, namespace, partitions } = frame;
      content = { at, namespace, partitions, keys: 0, events, deployedFiles: 0 };
    } else if (content === undefined) continue;
    else if (frame.kind === 'partition') content.keys += frame.keys;
    else if (frame.kind === 'object') content.deployedFiles += 1;
    else if (frame.kind === 'stream') events[frame.config.name] = frame.state.messages;
  }
  if (content === undefined) throw unreadable(file, 'it is no backup');
  return content;
}

/**
 * Resolves when workers may start. Throws BACKUP_UNREADABLE, INVALID_INPUT for a backup of another namespace and NOT_EMPTY, and
 * then has changed nothing; UNAVAILABLE or TIMEOUT where JetStream does not do what it should: then it is to be run again.
 */
export async function restoreBackup(options: RestoreOptions): Promise<BackupContent> {
  const { bus, settings, file } = options;
  await options.onProgress?.(`looking through ${file}`);
  const content = await checkBackup(file);
  if (content.namespace !== settings.namespace) {
    throw new MillraceError(
      'INVALID_INPUT',
      `This is a backup of the namespace ${quote(content.namespace)}, not of ${quote(settings.namespace)}: name it with --namespace.`,
    );
  }
  const api = new JetStreamApi(bus);
  const stores = storesOf(settings);
  const streams = [...new Set([...streamNamesOf(stores), ...Object.keys(content.events)])];
  await makeRoom(bus, api, settings, streams);
  const bucket = await bus.keyValue(assignmentBucket(settings.namespace), settings.replicas);
  await bucket.put(RESTORING, writeControl({ streams }));
  await new Restore(options, api, stores).run();
  await bucket.delete(RESTORING);
  return content;
}

/** What a restore that was broken off has made goes; anything else stays, and is a reason to refuse. */
async function makeRoom(
  bus: Bus,
  api: JetStreamApi,
  { namespace, replicas }: Settings,
  streams: readonly string[],
): Promise<void> {
  const there: string[] = [];
  for (const stream of streams) {
    if ((await describeStream(api, stream)) !== undefined) there.push(stream);
  }
  const table = `KV_${assignmentBucket(namespace)}`;
  if (there.includes(table)) {
    const bucket = await bus.keyValue(assignmentBucket(namespace), replicas);
    const entry = await bucket.get(RESTORING);
    const note = entry?.operation === 'PUT' ? readControl(noteSchema, entry.value) : undefined;
    if (note !== undefined) {
      // The note goes last.
      for (const stream of note.streams.filter((each) => each !== table && there.includes(each))) {
        await changeStream(api, 'DELETE', stream, {});
      }
      return;
    }
  }
  if (there.length === 0) return;
  throw new MillraceError(
    'NOT_EMPTY',
    `A backup is restored only where nothing is, and these streams are there: ${there.join(', ')}.`,
    { details: { streams: there } },
  );
}

class Restore {
  readonly #options: RestoreOptions;
  readonly #api: JetStreamApi;
  readonly #stores: Stores;
  readonly #streams: StreamFrame[] = [];
  /** One that has been read and is yet to be looked at. */
  #next: Exclude<Frame, { kind: 'end' }> | undefined;

  constructor(options: RestoreOptions, api: JetStreamApi, stores: Stores) {
    this.#options = options;
    this.#api = api;
    this.#stores = stores;
  }

  async run(): Promise<void> {
    const { bus, settings, file } = this.#options;
    // A stream remembers what was stored so shortly before.
    await delay(SHORTEST_WINDOW_MS);
    const frames = readFrames(file);
    const log = await LogStreams.open(bus, settings);
    let head: Head | undefined;
    try {
      for (let frame = await this.#read(frames); frame; frame = await this.#read(frames)) {
        if (frame.kind === 'head') head = frame;
        else if (frame.kind === 'entry') await this.#entry(frame);
        else if (frame.kind === 'object') await this.#object(frame);
        else if (frame.kind === 'stream') await this.#stream(frame, frames);
        else if (frame.kind === 'emitted') await this.#withoutEmitted(new Set(frame.ids));
        else if (frame.kind === 'partition') await this.#partition(log, frame, frames);
      }
    } finally {
      log.close();
    }
    if (head === undefined) throw unreadable(file, 'it is no backup');
    // Nobody owns anything: workers take it as they come.
    const owners = Array.from({ length: head.partitions }, () => null);
    const { layout } = head;
    const bucket = await bus.keyValue(this.#stores.assignment, settings.replicas);
    await bucket.put(ASSIGNMENT, encodeAssignment({ owners, layout }));
  }

  async #read(frames: Frames): Promise<Exclude<Frame, { kind: 'end' }> | undefined> {
    const kept = this.#next;
    this.#next = undefined;
    if (kept !== undefined) return kept;
    const { value, done = false } = await frames.next();
    return done ? undefined : (value as Exclude<Frame, { kind: 'end' }>);
  }

  /** The frames of this kind that come next. */
  async *#contents(frames: Frames, kind: 'chunk' | 'part'): AsyncGenerator<Uint8Array> {
    for (let frame = await this.#read(frames); frame; frame = await this.#read(frames)) {
      if (frame.kind !== kind) {
        this.#next = frame;
        return;
      }
      yield frame.content;
    }
  }

  async #entry({ bucket, key, value }: Extract<Frame, { kind: 'entry' }>): Promise<void> {
    const { bus, settings } = this.#options;
    await (await bus.keyValue(bucket, settings.replicas)).put(key, value);
  }

  async #object({ bucket, name, content }: Extract<Frame, { kind: 'object' }>): Promise<void> {
    const { bus, settings } = this.#options;
    await (await bus.objectStore(bucket, settings.replicas)).putBlob({ name }, content);
  }

  async #stream(frame: StreamFrame, frames: Frames): Promise<void> {
    const { bus, settings } = this.#options;
    const { config, state } = frame;
    await this.#say(`the stream ${config.name}, ${state.messages} messages`);
    // What follows removes some: what is gone must not be remembered by its id, or it could never come again (K3).
    const open = {
      ...config,
      num_replicas: settings.replicas,
      deny_delete: false,
      ...(config.duplicate_window === undefined
        ? {}
        : { duplicate_window: SHORTEST_WINDOW_MS * NS_PER_MS }),
    };
    const description: StreamDescription = { config: open, state };
    await restoreStream(bus, this.#api, description, this.#contents(frames, 'chunk'));
    this.#streams.push(frame);
  }

  /** K3. Only what was stored after that moment can be one of them. */
  async #withoutEmitted(ids: ReadonlySet<string>): Promise<void> {
    const { bus, settings } = this.#options;
    const reader = new StreamReader(bus, this.#api);
    for (const { config, end } of this.#streams) {
      const { name } = config;
      const last = (await describeStream(this.#api, name))?.state.last_seq ?? 0;
      const wrong: number[] = [];
      if (ids.size > 0 && last > end) {
        await reader.read(
          name,
          '>',
          end + 1,
          last,
          (sequence, _bytes, message) => {
            if (isEmitted(message, ids, settings.namespace)) wrong.push(sequence);
          },
          { headersOnly: true },
        );
      }
      for (const sequence of wrong) await this.#api.remove(name, sequence);
      const metadata = { ...config.metadata, [RESTORED_METADATA]: new Date().toISOString() };
      await changeStream(this.#api, 'UPDATE', name, {
        ...config,
        num_replicas: settings.replicas,
        metadata,
      });
    }
  }

  async #partition(
    log: LogStreams,
    { id, epoch }: Extract<Frame, { kind: 'partition' }>,
    frames: Frames,
  ): Promise<void> {
    await this.#say(`partition ${id}`);
    const snapshot = await log.snapshots(id).write(this.#contents(frames, 'part'));
    // A segment of which nothing is to be read: all is in the snapshot.
    const place = { index: 0, sequence: 0 };
    const claim = encodeClaim({
      epoch: epoch + 1,
      nonce: randomBytes(8).readBigUInt64BE(),
      snapshot,
      segments: [{ journal: `restored-${id}`, epoch: epoch + 1, from: place, to: place }],
    });
    await log.claims(id).append(claim, 0);
  }

  async #say(what: string): Promise<void> {
    await this.#options.onProgress?.(what);
  }
}

async function changeStream(
  api: JetStreamApi,
  what: 'UPDATE' | 'DELETE',
  stream: string,
  config: object,
): Promise<void> {
  const { error } = await api.ask(`STREAM.${what}.${stream}`, config, apiSchema);
  if (error === undefined) return;
  const why = error.description ?? 'the broker does not say why';
  throw new MillraceError('UNAVAILABLE', `The stream ${stream} could not be changed: ${why}.`);
}
