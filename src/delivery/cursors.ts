/** How far functions have come on their sources: a KV bucket with one key for each function and stream. */
import { z } from 'zod';
import type { Bus } from '../bus/connection.ts';
import { readControl, writeControl } from '../bus/messages.ts';
import type { Cursor } from '../core/delivery/dispatch.ts';
import type { Settings } from '../core/settings.ts';

const whole = z.number().int().nonnegative();
const entrySchema = z.object({
  function: z.string(),
  stream: z.string(),
  next: whole,
  open: z.array(z.tuple([whole, whole])),
});
type Entry = z.infer<typeof entrySchema>;
type Bucket = Awaited<ReturnType<Bus['keyValue']>>;

export class Cursors {
  readonly #bucket: Bucket;

  private constructor(bucket: Bucket) {
    this.#bucket = bucket;
  }

  static async open(bus: Bus, settings: Settings): Promise<Cursors> {
    return new Cursors(await bus.keyValue(`${settings.namespace}-deliveries`, settings.replicas));
  }

  async get(functionName: string, stream: string): Promise<Cursor | undefined> {
    return this.#read(keyOf(functionName, stream));
  }

  /** The one that is there counts. */
  async create(functionName: string, stream: string, next: number): Promise<void> {
    const entry: Entry = { function: functionName, stream, next, open: [] };
    await this.#bucket.create(keyOf(functionName, stream), writeControl(entry)).catch(() => {});
  }

  async put(functionName: string, stream: string, cursor: Cursor): Promise<void> {
    const entry: Entry = { function: functionName, stream, ...cursor };
    await this.#bucket.put(keyOf(functionName, stream), writeControl(entry));
  }

  /** The lowest sequence of the stream that some function has yet to settle; undefined where none reads it. */
  async lowest(stream: string): Promise<number | undefined> {
    let lowest: number | undefined;
    for await (const key of await this.#bucket.keys()) {
      const entry = await this.#read(key);
      if (entry?.stream !== stream) continue;
      lowest = Math.min(lowest ?? entry.next, lowestOf(entry));
    }
    return lowest;
  }

  async #read(key: string): Promise<Entry | undefined> {
    const stored = await this.#bucket.get(key);
    return stored === null ? undefined : readControl(entrySchema, stored.value);
  }
}

/** Everything before it is settled. */
export function lowestOf({ next, open }: Cursor): number {
  return open.reduce((lowest, [sequence]) => Math.min(lowest, sequence), next);
}

/** A stream's name may have characters that a key may not. */
function keyOf(functionName: string, stream: string): string {
  return `${functionName}.${Buffer.from(stream).toString('base64url')}`;
}
