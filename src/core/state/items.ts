/** The committed values of a partition, and what they cost. */
import type { VersionedWrite, Write } from './messages.ts';

export interface Item {
  /** JSON text. */
  value: string;
  /** Grows with every write to the partition; never given twice. */
  version: number;
}

/** What an item is taken to cost beside its characters: map entry, two strings, one object. Measured: 108 (docs/ARCHITECTURE.md). */
export const ITEM_OVERHEAD_BYTES = 160;

/** Collections that no function can name. Their values are JSON lists that begin with the time when they may go. */
const OWN = '$';

export function isOwnCollection(name: string): boolean {
  return name.startsWith(OWN);
}

export class Items {
  private readonly map = new Map<string, Item>();
  /** Keys of the platform's own collections, in the order in which they are looked at. */
  private readonly own = new Set<string>();
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
    if (value === null) {
      this.map.delete(key);
      this.own.delete(key);
    } else {
      if (key.startsWith(OWN)) this.own.add(key);
      this.bytes += costOf(key, value);
      this.map.set(key, { value, version });
    }
    this.raiseVersion(version);
  }

  /** Those of the platform's own whose keys begin like this. */
  ownItems(prefix: string): [key: string, value: string][] {
    const found: [string, string][] = [];
    for (const key of this.own) {
      if (key.startsWith(prefix)) found.push([key, (this.map.get(key) as Item).value]);
    }
    return found;
  }

  /** Of `maximum` of the platform's own items those whose time is over, and their versions. `wallMs`: since 1970. */
  expired(wallMs: number, maximum: number): [key: string, version: number][] {
    const due: [string, number][] = [];
    let left = Math.min(maximum, this.own.size);
    for (const key of this.own) {
      if (left === 0) break;
      left -= 1;
      // Looked at again after all the others.
      this.own.delete(key);
      this.own.add(key);
      const item = this.map.get(key);
      if (item === undefined) this.own.delete(key);
      else if (Number.parseInt(item.value.slice(1), 10) <= wallMs) due.push([key, item.version]);
    }
    return due;
  }

  remove(items: readonly (readonly [key: string, version: number])[]): void {
    for (const [key, version] of items) {
      if (this.map.get(key)?.version === version) this.apply([key, null, version]);
    }
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
    this.own.clear();
    this.bytes = 0;
  }
}

function costOf(key: string, value: string): number {
  return key.length + value.length + ITEM_OVERHEAD_BYTES;
}
