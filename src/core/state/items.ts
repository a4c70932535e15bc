/** The committed values of a partition, and what they cost. */
import type { VersionedWrite, Write } from './messages.ts';

export interface Item {
  /** JSON text. */
  value: string;
  /** Grows with every write to the partition; never given twice. */
  version: number;
}

/** What an item costs beside its characters: map entry, two strings, one object (measured, docs/ARCHITECTURE.md). */
export const ITEM_OVERHEAD_BYTES = 160;

export class Items {
  private readonly map = new Map<string, Item>();
  /** Estimated memory. */
  bytes = 0;
  /** The highest that was given. */
  version = 0;

  get size(): number {
    return this.map.size;
  }

  get(key: string): Item | undefined {
    return this.map.get(key);
  }

  keys(): Iterable<string> {
    return this.map.keys();
  }

  /** May be walked while items change: each is met once, as it is then. */
  [Symbol.iterator](): Iterator<[key: string, item: Item]> {
    return this.map.entries();
  }

  apply([key, value, version]: VersionedWrite): void {
    const before = this.map.get(key);
    if (before !== undefined) this.bytes -= costOf(key, before.value);
    if (value === null) this.map.delete(key);
    else {
      this.bytes += costOf(key, value);
      this.map.set(key, { value, version });
    }
    this.raiseVersion(version);
  }

  nextVersion(): number {
    this.version += 1;
    return this.version;
  }

  raiseVersion(version: number): void {
    this.version = Math.max(this.version, version);
  }

  /** The first key that there is no room for. */
  outgrownBy(writes: readonly Write[], maxBytes: number): string | undefined {
    let { bytes } = this;
    for (const [key, value] of writes) {
      const before = this.map.get(key);
      if (before !== undefined) bytes -= costOf(key, before.value);
      if (value === null) continue;
      bytes += costOf(key, value);
      if (bytes > maxBytes) return key;
    }
    return undefined;
  }

  clear(): void {
    this.map.clear();
    this.bytes = 0;
  }
}

function costOf(key: string, value: string): number {
  return key.length + value.length + ITEM_OVERHEAD_BYTES;
}
