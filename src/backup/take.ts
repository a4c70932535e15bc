/** Takes a backup while everything goes on: docs/backup.md says what is in it, in which order it is read, and why that is one moment (K1 to K5). */
import type { Msg } from 'nats';
import { AssignmentStore } from '../bus/assignment-store.ts';
import type { Bus } from '../bus/connection.ts';
import { JetStreamApi } from '../bus/jetstream-api.ts';
import { LogStreams } from '../bus/log-streams.ts';
import { StreamReader } from '../bus/stream-reader.ts';
import {
  copyStream,
  describeStream,
  removedFrom,
  type StreamDescription,
} from '../bus/stream-backup.ts';
import { MillraceError, messageOf } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import { encodeClaim } from '../core/state/claim.ts';
import { Partition } from '../core/state/partition.ts';
import { SILENT } from '../core/state/ports.ts';
import { LogGap, Replay } from '../core/state/replay.ts';
import { writeSnapshot } from '../core/state/snapshot.ts';
import { subjectsOf } from '../core/subjects.ts';
import { ringOf } from '../state/rings.ts';
import { cutLog, type Cut, type PartitionCut } from './cut.ts';
import { emittedBetween } from './emitted.ts';
import { BackupFile } from './file.ts';
import { FORMAT, type BackupContent, type Frame } from './format.ts';
import { Removed } from './removed.ts';
import { Retainer } from './retainer.ts';
import { lookAround, readObjects, storesOf, type Around, type Stores } from './stores.ts';

export interface BackupOptions {
  bus: Bus;
  settings: Settings;
  /** Must not be there yet. */
  file: string;
  /** A sentence before each step, which waits for it. */
  readonly onProgress?: (what: string) => void | Promise<void>;
}

export interface BackupReport extends BackupContent {
  file: string;
  /** Of the file. */
  bytes: number;
}

/** Something was removed while it was read. */
const MAX_ATTEMPTS = 3;
/** Something came into being, or the number of partitions changed, while one looked for a moment. */
const MAX_CUTS = 20;
/** So many ids at once: a frame has its bounds. */
const IDS_OF_A_FRAME = 10_000;
/** Of partitions that are not served here nothing moves. */
const NO_MOVES = { moveChunkBytes: 0 };

/**
 * Resolves when the file is whole. Throws NOT_FOUND where there is no state, USAGE where the file cannot be written, UNAVAILABLE
 * where JetStream or a worker does not answer, the log is corrupt, or things were removed all the time.
 */
export async function takeBackup(options: BackupOptions): Promise<BackupReport> {
  const { bus, settings } = options;
  const api = new JetStreamApi(bus);
  const stores = storesOf(settings);
  for (const stream of stores.logs) {
    if ((await describeStream(api, stream)) !== undefined) continue;
    throw new MillraceError(
      'NOT_FOUND',
      `There is nothing to back up: no worker has ever run in the namespace ${settings.namespace}.`,
    );
  }
  for (let attempt = 1; ; attempt += 1) {
    const file = await BackupFile.create(options.file);
    let retainer: Retainer | undefined;
    try {
      retainer = await Retainer.begin(bus, settings);
      const report = await new Take(options, api, stores, file).run();
      retainer.assertKept();
      await file.end();
      return { ...report, file: options.file, bytes: file.bytes };
    } catch (error) {
      await file.drop();
      if (!(error instanceof Removed)) throw error;
      if (attempt >= MAX_ATTEMPTS) throw new MillraceError('UNAVAILABLE', error.message);
      await options.onProgress?.(`${error.message} It begins again.`);
    } finally {
      retainer?.close();
    }
  }
}

/** One attempt. */
class Take {
  readonly #options: BackupOptions;
  readonly #api: JetStreamApi;
  readonly #stores: Stores;
  readonly #file: BackupFile;
  readonly #events: Record<string, number> = {};
  #deployedFiles = 0;
  #keys = 0;

  constructor(options: BackupOptions, api: JetStreamApi, stores: Stores, file: BackupFile) {
    this.#options = options;
    this.#api = api;
    this.#stores = stores;
    this.#file = file;
  }

  async run(): Promise<BackupContent> {
    const { bus, settings } = this.#options;
    const log = await LogStreams.open(bus, settings);
    try {
      const store = await AssignmentStore.open(bus, settings);
      const { around, cut } = await this.#cut(log, store);
      const { at, layout } = cut;
      const { namespace } = settings;
      const partitions = cut.partitions.length;
      await this.#write({ kind: 'head', format: FORMAT, namespace, at, partitions, layout });
      for (const entry of around.entries) await this.#write(entry);
      for await (const object of readObjects(bus, this.#api, this.#stores)) {
        await this.#write(object);
        this.#deployedFiles += 1;
      }
      for (const stream of around.streams) await this.#copy(stream);
      await this.#emitted(await emittedBetween(log, cut.sequence, await log.mark()));
      for (const [id, partition] of cut.partitions.entries()) {
        if (partition !== undefined) await this.#replay(log, id, partition, cut);
        await this.#say(`${id + 1} of ${partitions} partitions, ${this.#keys} keys`);
      }
      // Who may only read leaves its mark.
      await log.trimMarks().catch((error: unknown) => {
        if ((error as MillraceError).code !== 'FORBIDDEN') throw error;
      });
      const [keys, deployedFiles] = [this.#keys, this.#deployedFiles];
      return { at, namespace, partitions, keys, events: this.#events, deployedFiles };
    } finally {
      log.close();
    }
  }

  /** Cursors before S: what they call settled is committed (K2). Nothing may come into being in between. */
  async #cut(log: LogStreams, store: AssignmentStore): Promise<{ around: Around; cut: Cut }> {
    const { bus, settings } = this.#options;
    for (let attempt = 1; attempt <= MAX_CUTS; attempt += 1) {
      const around = await lookAround(bus, this.#api, this.#stores, settings.replicas);
      const cut = await cutLog(log, store);
      const after = await lookAround(bus, this.#api, this.#stores, settings.replicas);
      if (cut !== undefined && around.print === after.print) return { around, cut };
    }
    throw new MillraceError(
      'UNAVAILABLE',
      'Functions, streams or the number of partitions change all the time: try again later.',
    );
  }

  /** K4: what was there before is in the copy, unless it was removed meanwhile. */
  async #copy(before: StreamDescription): Promise<void> {
    const { bus } = this.#options;
    const { config, state } = before;
    const { name } = config;
    await this.#say(`the stream ${name}, ${state.messages} messages`);
    await this.#write({ kind: 'stream', config, state, end: state.last_seq });
    await copyStream(bus, this.#api, name, (content) => this.#write({ kind: 'chunk', content }));
    this.#events[name] = state.messages;
    await this.#moved(before);
    const after = await describeStream(this.#api, name);
    // Of a user's streams goes what he wants to go; letters are dropped by people, what is due is moved by the broker itself.
    const keepsAll = name === this.#stores.streams[0];
    const same = after !== undefined && removedFrom(before) === removedFrom(after);
    if (keepsAll && !same) {
      throw new Removed(`Events of the stream ${name} were removed while it was copied.`);
    }
  }

  /** What is due, and letters that are to be handled again: each takes the place of another message, which goes. */
  async #moved({ config: { name }, state }: StreamDescription): Promise<void> {
    const { bus, settings } = this.#options;
    const [, dead, later] = this.#stores.streams;
    const subjects = subjectsOf(settings.namespace);
    const subject = new Map([
      [later, subjects.due('*')],
      [dead, subjects.replay('*')],
    ]).get(name);
    if (subject === undefined) return;
    const last = (await describeStream(this.#api, name))?.state.last_seq ?? 0;
    const moved: Msg[] = [];
    const sequences: number[] = [];
    const reader = new StreamReader(bus, this.#api);
    await reader.read(name, subject, state.last_seq + 1, last, (sequence, _bytes, message) => {
      moved.push(message);
      sequences.push(sequence);
    });
    for (const [at, message] of moved.entries()) {
      const headers = [...(message.headers ?? [])].map(([key, values]): [string, string] => [
        key,
        values.at(-1) ?? '',
      ]);
      const { subject: on, data: content } = message;
      const sequence = sequences[at] ?? 0;
      await this.#write({ kind: 'moved', sequence, subject: on, headers, content });
    }
  }

  async #emitted(keys: ReadonlySet<string>): Promise<void> {
    const ids = [...keys];
    for (let at = 0; at < ids.length; at += IDS_OF_A_FRAME) {
      await this.#write({ kind: 'emitted', ids: ids.slice(at, at + IDS_OF_A_FRAME) });
    }
  }

  async #replay(
    log: LogStreams,
    id: number,
    { claim, claimSequence, segments }: PartitionCut,
    { layout }: Cut,
  ): Promise<void> {
    const { settings } = this.#options;
    const limits = { ...settings, ...NO_MOVES };
    const machine = new Partition(id, { ...SILENT, rings: ringOf }, limits);
    const replay = new Replay(machine, {
      snapshots: log.snapshots(id),
      journal: (journal) => log.journal(journal),
    });
    try {
      await replay.read(claim, claimSequence, segments);
    } catch (error) {
      const why = `Partition ${id} could not be read: ${messageOf(error)}.`;
      if (error instanceof LogGap || error instanceof MillraceError) throw new Removed(why);
      throw new MillraceError('UNAVAILABLE', why, { cause: error, retryable: false });
    }
    const last = replay.skipped ? await log.claims(id).last() : undefined;
    const { generation = 0 } = machine.moves.layout ?? {};
    // By what it says: others may have written behind it.
    const changed = last !== undefined && Buffer.compare(last.bytes, encodeClaim(claim)) !== 0;
    if (changed || generation > layout.generation) {
      throw new Removed(`Partition ${id} was changed while it was read.`);
    }
    const keys = machine.items.size;
    await this.#write({ kind: 'partition', id, epoch: claim.epoch, keys });
    for await (const content of writeSnapshot(machine, settings.snapshotChunkBytes)) {
      await this.#write({ kind: 'part', content });
    }
    this.#keys += keys;
  }

  #write(frame: Exclude<Frame, { kind: 'end' }>): Promise<void> {
    return this.#file.write(frame);
  }

  async #say(what: string): Promise<void> {
    await this.#options.onProgress?.(what);
  }
}
