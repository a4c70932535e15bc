/**
 * What a restore holds on to from its first change to its last: a note in the place of the table of owners. It has a number drawn
 * by whoever restores, and names what he has made; each change of it says which one came before, so of two restores at once one
 * finds out. A worker that finds it does not start, one that runs already does not find the table (docs/backup.md, K5).
 */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import {
  ASSIGNMENT,
  assignmentBucket,
  encodeAssignment,
  type AssignmentTable,
} from '../bus/assignment-store.ts';
import type { Bus } from '../bus/connection.ts';
import { readControl, writeControl } from '../bus/messages.ts';
import { MillraceError } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';

const noteSchema = z.object({ restoring: z.string(), made: z.array(z.string()) });

type Bucket = Awaited<ReturnType<Bus['keyValue']>>;

export class RestoreNote {
  readonly #bucket: Bucket;
  readonly #id = randomUUID();
  #made: readonly string[];
  #revision: number;

  private constructor(bucket: Bucket, made: readonly string[], revision: number) {
    this.#bucket = bucket;
    this.#made = made;
    this.#revision = revision;
  }

  /** What a restore has made that was broken off, if only the empty bucket; undefined where there is a table. */
  static async left(bus: Bus, settings: Settings): Promise<readonly string[] | undefined> {
    const bucket = await bucketOf(bus, settings);
    const entry = await bucket.get(ASSIGNMENT);
    return entry?.operation === 'PUT' ? (await read(bucket))?.made : [];
  }

  /** Takes over what is left of one that was broken off. Throws NOT_EMPTY where the table is there, or somebody else is quicker. */
  static async begin(bus: Bus, settings: Settings): Promise<RestoreNote> {
    const bucket = await bucketOf(bus, settings);
    const entry = await bucket.get(ASSIGNMENT);
    const note = await read(bucket);
    if (entry?.operation === 'PUT' && note === undefined) throw somebodyElse();
    const begun = new RestoreNote(bucket, note?.made ?? [], entry?.revision ?? 0);
    await begun.#write();
    return begun;
  }

  /** To be said before it is made. */
  async makes(stream: string): Promise<void> {
    this.#made = [...this.#made, stream];
    await this.#write();
  }

  /** Of what is left nothing is there any more. */
  async unmade(): Promise<void> {
    this.#made = [];
    await this.#write();
  }

  /** Workers may start. */
  async end(table: AssignmentTable): Promise<void> {
    await this.#put(encodeAssignment(table));
  }

  #write(): Promise<void> {
    return this.#put(writeControl({ restoring: this.#id, made: this.#made }));
  }

  async #put(bytes: Uint8Array): Promise<void> {
    try {
      this.#revision =
        this.#revision === 0
          ? await this.#bucket.create(ASSIGNMENT, bytes)
          : await this.#bucket.update(ASSIGNMENT, bytes, this.#revision);
    } catch (cause) {
      if ((cause as { api_error?: unknown }).api_error !== undefined) throw somebodyElse();
      throw new MillraceError('UNAVAILABLE', 'The restore could not be noted.', { cause });
    }
  }
}

function bucketOf(bus: Bus, { namespace, replicas }: Settings): Promise<Bucket> {
  return bus.keyValue(assignmentBucket(namespace), replicas);
}

async function read(bucket: Bucket): Promise<z.infer<typeof noteSchema> | undefined> {
  const entry = await bucket.get(ASSIGNMENT);
  return entry?.operation === 'PUT' ? readControl(noteSchema, entry.value) : undefined;
}

function somebodyElse(): MillraceError {
  return new MillraceError(
    'NOT_EMPTY',
    'Somebody else restores here, or workers have begun to run: a backup is restored only where nothing is.',
  );
}
