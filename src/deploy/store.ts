/** Where deployed functions lie: what runs and which versions there are in a KV bucket, their code in an object store. */
import type { KV, ObjectInfo, ObjectStore } from 'nats';
import { bucketKeys } from '../bus/bucket-keys.ts';
import type { Bus } from '../bus/connection.ts';
import { JetStreamApi } from '../bus/jetstream-api.ts';
import { assertFormat, readControl, writeControl } from '../bus/messages.ts';
import { StreamReader } from '../bus/stream-reader.ts';
import { MillraceError, messageOf } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import { compressFile, unpackFile, type BuiltFile, type PackedFile } from './packed.ts';
import {
  FORMAT,
  manifestSchema,
  NOTHING_DEPLOYED,
  toStored,
  toStoredVersions,
  versionsSchema,
  type Manifest,
  type VersionRecord,
} from './records.ts';

const MANIFEST = 'manifest';
const VERSIONS = 'versions.';
/** JetStream's word for: somebody else has written since. */
const WRONG_SEQUENCE = 10_071;

export interface Read<Value> {
  value: Value;
  /** Of the key; 0 where there is nothing yet. */
  revision: number;
}

export class DeployStore {
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #bucket: KV;
  #objects: Promise<ObjectStore> | undefined;

  private constructor(bus: Bus, settings: Settings, bucket: KV) {
    this.#bus = bus;
    this.#settings = settings;
    this.#bucket = bucket;
  }

  /** Creates what is not there yet. Throws UNAVAILABLE where JetStream does not serve. */
  static async open(bus: Bus, settings: Settings): Promise<DeployStore> {
    const name = `${settings.namespace}-deployments`;
    const bucket = await served(bus.keyValue(name, settings.replicas));
    return new DeployStore(bus, settings, bucket);
  }

  async manifest(): Promise<Read<Manifest>> {
    const entry = await served(this.#bucket.get(MANIFEST));
    if (entry === null) return { value: NOTHING_DEPLOYED, revision: 0 };
    assertFormat(entry.value, 'The manifest of deployed functions', FORMAT);
    const stored = readControl(manifestSchema, entry.value);
    if (stored === undefined) throw unreadable('The manifest of deployed functions');
    const { generation, at, by, functions } = stored;
    const value = { generation, at, by, functions: new Map(functions) };
    return { value, revision: entry.revision };
  }

  /** Gives the new revision; undefined where somebody else has changed it since `revision`. */
  async putManifest(manifest: Manifest, revision: number): Promise<number | undefined> {
    return this.#put(MANIFEST, writeControl(toStored(manifest)), revision);
  }

  /** The oldest first; empty for a function that was never deployed. */
  async versions(functionName: string): Promise<Read<VersionRecord[]>> {
    const entry = await served(this.#bucket.get(`${VERSIONS}${functionName}`));
    if (entry === null) return { value: [], revision: 0 };
    assertFormat(entry.value, `What is known of the versions of ${functionName}`, FORMAT);
    const stored = readControl(versionsSchema, entry.value);
    if (stored === undefined) throw unreadable(`What is known of the versions of ${functionName}`);
    return { value: stored.versions, revision: entry.revision };
  }

  async putVersions(
    functionName: string,
    versions: VersionRecord[],
    revision: number,
  ): Promise<number | undefined> {
    const bytes = writeControl(toStoredVersions(versions));
    return this.#put(`${VERSIONS}${functionName}`, bytes, revision);
  }

  /** Throws NOT_FOUND. */
  async version(functionName: string, version: string): Promise<VersionRecord> {
    const { value } = await this.versions(functionName);
    const record = value.find((each) => each.version === version);
    if (record !== undefined) return record;
    throw new MillraceError('NOT_FOUND', `${functionName} has no version ${version}.`);
  }

  /** Once, however often it is put. */
  async putFile(file: PackedFile): Promise<void> {
    const objects = await this.#store();
    const before = await served(objects.info(file.hash));
    // One that was collected is known still, as deleted.
    if (before !== null && !before.deleted) return;
    await served(objects.putBlob({ name: file.hash }, await compressFile(file)));
  }

  /** Its hash is checked. Throws FUNCTION_LOAD_FAILED where it is damaged or not there. */
  async file(hash: string): Promise<BuiltFile> {
    const objects = await this.#store();
    const info = await served(objects.info(hash));
    if (info !== null && !info.deleted) return unpackFile(hash, await this.#chunks(info));
    throw new MillraceError(
      'FUNCTION_LOAD_FAILED',
      `The deployed file ${hash.slice(0, 12)} is not in the object store.`,
    );
  }

  /** Removes files that no version needs. One younger than `minAgeMs` may belong to a deploy that is under way. */
  async collect(minAgeMs: number): Promise<number> {
    const needed = new Set<string>();
    const { keys } = await served(bucketKeys(this.#bus, this.#name('deployments'), VERSIONS));
    for (const key of keys) {
      const { value } = await this.versions(key.slice(VERSIONS.length));
      for (const { hash } of value.flatMap(({ files }) => files)) needed.add(hash);
    }
    const objects = await this.#store();
    const before = Date.now() - minAgeMs;
    const old = (await served(objects.list())).filter(
      ({ name, mtime, deleted }) => !deleted && !needed.has(name) && Date.parse(mtime) < before,
    );
    for (const { name } of old) await served(objects.delete(name));
    return old.length;
  }

  /** Not by the client, which takes what a replica has that is behind for all. Throws UNAVAILABLE. */
  async #chunks({ nuid, chunks: count }: ObjectInfo): Promise<Uint8Array> {
    const bucket = this.#name('deploys');
    const [stream, subject] = [`OBJ_${bucket}`, `$O.${bucket}.C.${nuid}`];
    const api = new JetStreamApi(this.#bus);
    const last = await api.last(stream, subject);
    // As most files have: it takes no reader of its own.
    if (count === 1 && last !== undefined) return last.bytes;
    const chunks: Uint8Array[] = [];
    if (last !== undefined) {
      const reader = new StreamReader(this.#bus, api);
      await reader.read(stream, subject, 1, last.sequence, (_, chunk) => void chunks.push(chunk));
    }
    return Buffer.concat(chunks);
  }

  #name(bucket: string): string {
    return `${this.#settings.namespace}-${bucket}`;
  }

  #store(): Promise<ObjectStore> {
    const { replicas } = this.#settings;
    this.#objects ??= served(this.#bus.objectStore(this.#name('deploys'), replicas));
    this.#objects.catch(() => (this.#objects = undefined));
    return this.#objects;
  }

  async #put(key: string, bytes: Uint8Array, revision: number): Promise<number | undefined> {
    try {
      if (revision === 0) return await this.#bucket.create(key, bytes);
      return await this.#bucket.update(key, bytes, revision);
    } catch (error) {
      const { api_error: refused } = error as { api_error?: { err_code?: number } };
      if (refused?.err_code === WRONG_SEQUENCE) return undefined;
      throw unavailable(error);
    }
  }
}

async function served<Answer>(asked: Promise<Answer>): Promise<Answer> {
  try {
    return await asked;
  } catch (error) {
    throw unavailable(error);
  }
}

function unavailable(cause: unknown): MillraceError {
  if (cause instanceof MillraceError) return cause;
  const why = messageOf(cause);
  return new MillraceError('UNAVAILABLE', `Deployed functions cannot be reached: ${why}.`, {
    cause,
  });
}

function unreadable(what: string): MillraceError {
  return new MillraceError(
    'NOT_SUPPORTED',
    `${what} cannot be read: a newer millrace has written it, or somebody else.`,
  );
}
