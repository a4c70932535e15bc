/** The table partition → worker, in one key of a KV bucket: whoever changes it says which revision he has seen. */
import { z } from 'zod';
import { MillraceError, messageOf } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import type { Bus } from './connection.ts';
import { readControl, writeControl } from './messages.ts';

const KEY = 'assignment';

const assignmentSchema = z.object({ owners: z.array(z.string().nullable()).min(1) });

export interface Assignment {
  /** By partition; null where nobody is to own it yet. Its length is the number of partitions, fixed at creation. */
  owners: readonly (string | null)[];
  revision: number;
}

type Bucket = Awaited<ReturnType<Bus['keyValue']>>;

export class AssignmentStore {
  readonly #bucket: Bucket;

  private constructor(bucket: Bucket) {
    this.#bucket = bucket;
  }

  /** Creates what is not there yet. Throws UNAVAILABLE where JetStream does not serve. */
  static async open(bus: Bus, settings: Settings): Promise<AssignmentStore> {
    try {
      const bucket = await bus.keyValue(`${settings.namespace}-assignment`, settings.replicas);
      const store = new AssignmentStore(bucket);
      if ((await bucket.get(KEY)) === null) await store.#create(settings.partitions);
      return store;
    } catch (cause) {
      throw new MillraceError(
        'UNAVAILABLE',
        `The assignment of partitions cannot be read: ${messageOf(cause)}.`,
        { cause },
      );
    }
  }

  async read(): Promise<Assignment> {
    const entry = await this.#bucket.get(KEY);
    const table = entry === null ? undefined : readControl(assignmentSchema, entry.value);
    if (entry === null || table === undefined) {
      throw new MillraceError('UNAVAILABLE', 'The assignment of partitions cannot be read.');
    }
    return { owners: table.owners, revision: entry.revision };
  }

  /** False when somebody else has changed it since `revision`. */
  async change(owners: readonly (string | null)[], revision: number): Promise<boolean> {
    try {
      await this.#bucket.update(KEY, writeControl({ owners }), revision);
      return true;
    } catch {
      return false;
    }
  }

  async #create(partitions: number): Promise<void> {
    const owners = Array.from({ length: partitions }, () => null);
    // Another worker may be first: its table counts.
    await this.#bucket.create(KEY, writeControl({ owners })).catch(() => {});
  }
}
