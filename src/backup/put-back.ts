/** Writes what a backup has, frame by frame, under a note that names each stream before it is made. */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { headers as newHeaders, type Msg } from 'nats';
import type { AssignmentTable } from '../bus/assignment-store.ts';
import { RESTORED_METADATA } from '../bus/captures.ts';
import type { JetStreamApi } from '../bus/jetstream-api.ts';
import { LogStreams } from '../bus/log-streams.ts';
import {
  changeStream,
  describeStream,
  restoreStream,
  type StreamDescription,
} from '../bus/stream-backup.ts';
import { Publisher } from '../bus/publisher.ts';
import { StreamReader } from '../bus/stream-reader.ts';
import { MillraceError } from '../core/errors.ts';
import { encodeClaim } from '../core/state/claim.ts';
import { streamOfBucket, streamOfObjects } from '../core/stores.ts';
import { isEmitted } from './emitted.ts';
import { readFrames, unreadable, type Frame, type Head, type StreamFrame } from './format.ts';
import type { RestoreNote } from './restore-note.ts';
import type { RestoreOptions } from './restore.ts';
import { storesOf } from './stores.ts';

type SomeFrame = Exclude<Frame, { kind: 'end' }>;
type Frames = AsyncGenerator<SomeFrame>;

/** The shortest that JetStream takes. */
const SHORTEST_WINDOW_MS = 100;
const NS_PER_MS = 1_000_000;
/** What the broker says of a message, or is told by one. */
const BROKERS_OWN = 'Nats-';
const ID_HEADER = 'Nats-Msg-Id';

export class PutBack {
  readonly #options: RestoreOptions;
  readonly #api: JetStreamApi;
  readonly #note: RestoreNote;
  readonly #publisher: Publisher;
  readonly #streams: StreamFrame[] = [];
  readonly #emitted = new Set<string>();
  readonly #made = new Set<string>();
  /** One that has been read and is yet to be looked at. */
  #next: SomeFrame | undefined;

  constructor(options: RestoreOptions, api: JetStreamApi, note: RestoreNote) {
    this.#options = options;
    this.#api = api;
    this.#note = note;
    this.#publisher = new Publisher(options.bus, options.settings);
  }

  /** The table of owners that workers are to begin with. */
  async run(): Promise<AssignmentTable> {
    const { bus, settings, file } = this.#options;
    // A stream remembers what was stored so shortly before.
    await delay(SHORTEST_WINDOW_MS);
    for (const stream of storesOf(settings).logs) await this.#makes(stream);
    const log = await LogStreams.open(bus, settings);
    const frames = readFrames(file);
    let head: Head | undefined;
    try {
      for (let frame = await this.#read(frames); frame; frame = await this.#read(frames)) {
        if (frame.kind === 'head') head = frame;
        else if (frame.kind === 'entry') await this.#entry(frame);
        else if (frame.kind === 'object') await this.#object(frame);
        else if (frame.kind === 'stream') await this.#stream(frame, frames);
        else if (frame.kind === 'emitted') for (const id of frame.ids) this.#emitted.add(id);
        else if (frame.kind === 'partition') await this.#partition(log, frame, frames);
      }
      await this.#withoutEmitted();
    } finally {
      log.close();
      this.#publisher.close();
    }
    if (head === undefined) throw unreadable(file, 'it is no backup');
    // Nobody owns anything: workers take it as they come.
    const owners = Array.from({ length: head.partitions }, () => null);
    return { owners, layout: head.layout };
  }

  async #read(frames: Frames): Promise<SomeFrame | undefined> {
    const kept = this.#next;
    this.#next = undefined;
    if (kept !== undefined) return kept;
    const { value, done = false } = await frames.next();
    return done ? undefined : (value as SomeFrame);
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
    await this.#makes(streamOfBucket(bucket));
    await (await bus.keyValue(bucket, settings.replicas)).put(key, value);
  }

  async #object({ bucket, name, content }: Extract<Frame, { kind: 'object' }>): Promise<void> {
    const { bus, settings } = this.#options;
    await this.#makes(streamOfObjects(bucket));
    await (await bus.objectStore(bucket, settings.replicas)).putBlob({ name }, content);
  }

  async #makes(stream: string): Promise<void> {
    if (this.#made.has(stream)) return;
    this.#made.add(stream);
    // Somebody may have made it since there was room.
    if ((await describeStream(this.#api, stream)) !== undefined) {
      throw new MillraceError('NOT_EMPTY', `The stream ${stream} has come into being meanwhile.`);
    }
    await this.#note.makes(stream);
  }

  async #stream(frame: StreamFrame, frames: Frames): Promise<void> {
    const { bus } = this.#options;
    const { config, state } = frame;
    await this.#say(`the stream ${config.name}, ${state.messages} messages`);
    await this.#makes(config.name);
    // What follows removes some: what is gone must not be remembered by its id, or it could never come again (K3).
    const { duplicate_window: window } = config;
    const open = {
      ...this.#here(config),
      deny_delete: false,
      sealed: false,
      ...(window === undefined ? {} : { duplicate_window: SHORTEST_WINDOW_MS * NS_PER_MS }),
    };
    const description: StreamDescription = { config: open, state };
    await restoreStream(bus, this.#api, description, this.#contents(frames, 'chunk'));
    for (let next = await this.#read(frames); next; next = await this.#read(frames)) {
      if (next.kind !== 'moved') {
        this.#next = next;
        break;
      }
      await this.#moved(config.name, next);
    }
    this.#streams.push(frame);
  }

  /** Unless it is there already. */
  async #moved(
    stream: string,
    { sequence, subject, headers, content }: Extract<Frame, { kind: 'moved' }>,
  ): Promise<void> {
    if ((await this.#api.at(stream, sequence))?.subject === subject) return;
    const kept = newHeaders();
    for (const [name, value] of headers) {
      if (name === ID_HEADER || !name.startsWith(BROKERS_OWN)) kept.set(name, value);
    }
    const id = kept.get(ID_HEADER);
    await this.#publisher.send({ id, subject, payload: content, headers: kept });
  }

  /** As the stream is to be on these servers. */
  #here(config: StreamFrame['config']): StreamDescription['config'] {
    const here = { ...config, num_replicas: this.#options.settings.replicas };
    delete here.placement;
    return here;
  }

  /** K3. Only what was stored after that moment can be one of them. */
  async #withoutEmitted(): Promise<void> {
    const { bus, settings } = this.#options;
    const reader = new StreamReader(bus, this.#api);
    for (const { config, end } of this.#streams) {
      const { name } = config;
      const last = (await describeStream(this.#api, name))?.state.last_seq ?? 0;
      const wrong: number[] = [];
      const look = (sequence: number, _bytes: Uint8Array, message: Msg): void => {
        if (isEmitted(message, this.#emitted, settings.namespace)) wrong.push(sequence);
      };
      if (this.#emitted.size > 0 && last > end) {
        await reader.read(name, '>', end + 1, last, look, { headersOnly: true });
      }
      for (const sequence of wrong) await this.#api.remove(name, sequence);
      const metadata = { ...config.metadata, [RESTORED_METADATA]: new Date().toISOString() };
      await changeStream(this.#api, 'UPDATE', name, { ...this.#here(config), metadata });
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
