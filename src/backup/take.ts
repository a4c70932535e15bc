/** Takes a backup while everything goes on: docs/backup.md says what is in it, in which order it is read, and why that is one moment (K1 to K5). */
import { AssignmentStore } from '../bus/assignment-store.ts';
import type { Bus } from '../bus/connection.ts';
import { JetStreamApi } from '../bus/jetstream-api.ts';
import { LogStreams } from '../bus/log-streams.ts';
import {
  copyStream,
  describeStream,
  removedFrom,
  type StreamDescription,
} from '../bus/stream-backup.ts';
import { MillraceError } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import { Partition } from '../core/state/partition.ts';
import { SILENT } from '../core/state/ports.ts';
import { Replay } from '../core/state/replay.ts';
import { writeSnapshot } from '../core/state/snapshot.ts';
import { Cursors, lowestOf, type CursorEntry } from '../delivery/cursors.ts';
import { ringOf } from '../state/rings.ts';
import { cutLog, type Cut, type PartitionCut } from './cut.ts';
import { emittedBetween } from './emitted.ts';
import { BackupFile } from './file.ts';
import { FORMAT, type BackupContent, type Frame } from './format.ts';
import { Retainer } from './retainer.ts';
import { readBuckets, storesOf, type Stores } from './stores.ts';

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
/** Of partitions that are not served here nothing moves. */
const NO_MOVES = { moveChunkBytes: 0 };

class Removed extends Error {}

/**
 * Resolves when the file is whole. Throws NOT_FOUND where there is no state, USAGE where the file cannot be written, UNAVAILABLE
 * where JetStream or a worker does not answer, or things were removed all the time.
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

  async run(): Promise<Omit<BackupReport, 'file' | 'bytes'>> {
    const { bus, settings } = this.#options;
    const log = await LogStreams.open(bus, settings);
    try {
      // Cursors first: what they call settled is committed (K2).
      const entries: Frame[] = [];
      const cursors = await this.#readBuckets(entries);
      const streams = await this.#describe(cursors);
      const cut = await cutLog(log, await AssignmentStore.open(bus, settings));
      const { at, layout, partitions } = cut;
      const { namespace } = settings;
      const count = partitions.length;
      await this.#write({ kind: 'head', format: FORMAT, namespace, at, partitions: count, layout });
      for (const entry of entries) await this.#write(entry);
      for (const stream of streams) await this.#copy(stream, cursors);
      const ids = await emittedBetween(log, cut.sequence, await log.mark());
      await this.#write({ kind: 'emitted', ids: [...ids] });
      for (const [id, partition] of partitions.entries()) {
        if (partition !== undefined) await this.#replay(log, id, partition, cut);
        await this.#say(`${id + 1} of ${count} partitions, ${this.#keys} keys`);
      }
      const [keys, deployedFiles] = [this.#keys, this.#deployedFiles];
      return { at, namespace, partitions: count, keys, events: this.#events, deployedFiles };
    } finally {
      log.close();
    }
  }

  async #readBuckets(entries: Frame[]): Promise<CursorEntry[]> {
    const { bus, settings } = this.#options;
    for await (const frame of readBuckets(bus, this.#api, this.#stores, settings.replicas)) {
      entries.push(frame);
      if (frame.kind === 'object') this.#deployedFiles += 1;
    }
    if ((await describeStream(this.#api, `KV_${this.#stores.buckets[0]}`)) === undefined) return [];
    return (await Cursors.open(bus, settings)).all();
  }

  /** The platform's own, and those of the user's that functions read. */
  async #describe(cursors: readonly CursorEntry[]): Promise<StreamDescription[]> {
    const names = new Set([...this.#stores.streams, ...cursors.map(({ stream }) => stream)]);
    const described = await Promise.all(
      [...names].map(async (name) => describeStream(this.#api, name)),
    );
    return described.filter((each) => each !== undefined);
  }

  /** K4: what was there before is in the copy, unless it was removed meanwhile. */
  async #copy(before: StreamDescription, cursors: readonly CursorEntry[]): Promise<void> {
    const { bus } = this.#options;
    const { name } = before.config;
    await this.#say(`the stream ${name}, ${before.state.messages} messages`);
    const { config, state } = before;
    await this.#write({ kind: 'stream', config, state, end: state.last_seq });
    await copyStream(bus, this.#api, name, (content) => this.#write({ kind: 'chunk', content }));
    this.#events[name] = state.messages;
    const after = await describeStream(this.#api, name);
    if (after !== undefined && this.#isWhole(before, after, cursors)) return;
    throw new Removed(`Events of the stream ${name} were removed while it was copied.`);
  }

  /** A user's stream may forget its oldest by itself: those that all have settled are not needed. */
  #isWhole(
    before: StreamDescription,
    after: StreamDescription,
    cursors: readonly CursorEntry[],
  ): boolean {
    if (removedFrom(before) === removedFrom(after)) return true;
    const { name } = before.config;
    const [own] = this.#stores.streams;
    if (name === own) return false;
    // Letters are dropped by people, and what is due is moved by the broker itself.
    if (this.#stores.streams.includes(name)) return true;
    const needed = cursors.filter(({ stream }) => stream === name).map((each) => lowestOf(each));
    return after.state.first_seq <= Math.min(...needed);
  }

  async #replay(
    log: LogStreams,
    id: number,
    { claim, claimSequence }: PartitionCut,
    { ends }: Cut,
  ): Promise<void> {
    const { settings } = this.#options;
    const limits = { ...settings, ...NO_MOVES };
    const machine = new Partition(id, { ...SILENT, rings: ringOf }, limits);
    const segments = claim.segments.map((segment) => {
      const end = ends.get(segment.journal) ?? segment.from;
      return {
        ...segment,
        to: segment.to ?? (end.index < segment.from.index ? segment.from : end),
      };
    });
    const ports = {
      snapshots: log.snapshots(id),
      journal: (journal: string) => log.journal(journal),
    };
    try {
      await new Replay(machine, ports).read(claim, claimSequence, segments);
    } catch (error) {
      throw new Removed(`Partition ${id} could not be read: ${(error as Error).message}.`);
    }
    const keys = machine.items.size;
    await this.#write({ kind: 'partition', id, epoch: claim.epoch, keys });
    for await (const content of writeSnapshot(machine, settings.snapshotChunkBytes)) {
      await this.#write({ kind: 'part', content });
    }
    this.#keys += keys;
  }

  #write(frame: Frame): Promise<void> {
    return this.#file.write(frame as Exclude<Frame, { kind: 'end' }>);
  }

  async #say(what: string): Promise<void> {
    await this.#options.onProgress?.(what);
  }
}
