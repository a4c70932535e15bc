/** The table partition → worker, and where keys lie, in one key of a KV bucket: whoever changes it says which revision he has seen. */
import { z } from 'zod';
import { MillraceError, messageOf } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import type { Layout } from '../core/state/layout.ts';
import type { Bus } from './connection.ts';
import { assertFormat, readControl, writeControl } from './messages.ts';

export const ASSIGNMENT = 'assignment';
/** The highest sequence of the stream of logs that was acknowledged, as far as it was noted. */
const LOG_END = 'log-end';

const count = z.number().int().nonnegative();
/** backup/restore-note.ts */
const restoringSchema = z.object({ restoring: z.string() });
const FORMAT = 1;
const assignmentSchema = z.object({
  owners: z.array(z.string().nullable()).min(1),
  layout: z.object({ generation: count, from: count.min(1), to: count.min(1) }).optional(),
});

const logEndSchema = z.object({ sequence: count });

export interface AssignmentTable {
  /** By partition; null where nobody is to own it yet. It never gets shorter (src/core/state/SPEC.md). */
  owners: readonly (string | null)[];
  layout: Layout;
}

export interface Assignment extends AssignmentTable {
  revision: number;
}

type Bucket = Awaited<ReturnType<Bus['keyValue']>>;

export function assignmentBucket(namespace: string): string {
  return `${namespace}-assignment`;
}

export class AssignmentStore {
  readonly #bucket: Bucket;

  private constructor(bucket: Bucket) {
    this.#bucket = bucket;
  }

  /** Creates what is not there yet. Throws UNAVAILABLE where JetStream does not serve, RESTORE_UNFINISHED, NEWER_VERSION. */
  static async open(bus: Bus, settings: Settings): Promise<AssignmentStore> {
    try {
      const bucket = await bus.keyValue(assignmentBucket(settings.namespace), settings.replicas);
      const store = new AssignmentStore(bucket);
      const entry = await bucket.get(ASSIGNMENT);
      if (entry === null) await store.#create(settings.partitions);
      else assertReadable(entry.value);
      return store;
    } catch (cause) {
      if (cause instanceof MillraceError) throw cause;
      throw new MillraceError(
        'UNAVAILABLE',
        `The assignment of partitions cannot be read: ${messageOf(cause)}.`,
        { cause },
      );
    }
  }

  /** Throws as `open` does, STREAM_UNUSABLE where somebody else has written there. */
  async read(): Promise<Assignment> {
    const entry = await this.#bucket.get(ASSIGNMENT);
    if (entry !== null) assertReadable(entry.value);
    if (entry === null) {
      throw new MillraceError('UNAVAILABLE', 'The assignment of partitions is not there.');
    }
    const table = readControl(assignmentSchema, entry.value);
    // Not made anew: how many partitions there were nobody would know.
    if (table === undefined) throw notOurs(entry.key, entry.bucket);
    const { owners } = table;
    const first = { generation: 0, from: owners.length, to: owners.length };
    return { owners, layout: table.layout ?? first, revision: entry.revision };
  }

  /** False when somebody else has changed it since `revision`. */
  async change({ owners, layout }: AssignmentTable, revision: number): Promise<boolean> {
    try {
      await this.#bucket.update(ASSIGNMENT, encodeAssignment({ owners, layout }), revision);
      return true;
    } catch {
      return false;
    }
  }

  /** 0 where nothing is noted yet. Rejects as the client does. */
  async logEnd(): Promise<number> {
    return (await this.#logEnd()).sequence;
  }

  /** The higher one counts. Rejects where it was not noted. */
  async noteLogEnd(sequence: number): Promise<void> {
    const before = await this.#logEnd();
    if (before.sequence >= sequence) return;
    await this.#bucket.put(LOG_END, writeControl({ sequence }), { previousSeq: before.revision });
  }

  async #logEnd(): Promise<{ sequence: number; revision: number }> {
    const entry = await this.#bucket.get(LOG_END);
    const noted = entry === null ? undefined : readControl(logEndSchema, entry.value);
    return { sequence: noted?.sequence ?? 0, revision: entry?.revision ?? 0 };
  }

  async #create(partitions: number): Promise<void> {
    const owners = Array.from({ length: partitions }, () => null);
    try {
      await this.#bucket.create(ASSIGNMENT, writeControl({ format: FORMAT, owners }));
    } catch (cause) {
      // Another worker may be first: its table counts.
      if ((await this.#bucket.get(ASSIGNMENT)) === null) throw cause;
    }
  }
}

function assertReadable(value: Uint8Array): void {
  if (readControl(restoringSchema, value) !== undefined) throw restoreUnfinished();
  assertFormat(value, 'The table of partitions', FORMAT);
}

/** For a restore: nobody else changes it meanwhile. */
export function encodeAssignment({ owners, layout }: AssignmentTable): Uint8Array {
  return writeControl({ format: FORMAT, owners, layout });
}

function notOurs(key: string, bucket: string): MillraceError {
  return new MillraceError(
    'STREAM_UNUSABLE',
    `The assignment of partitions, key ${key} of the bucket ${bucket}, is nothing that millrace has written. Put back what was there, or restore a backup.`,
  );
}

function restoreUnfinished(): MillraceError {
  return new MillraceError(
    'RESTORE_UNFINISHED',
    'A backup is being restored here, or its restore was broken off: let it end, or run it again.',
  );
}
