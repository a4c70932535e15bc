import { createHash } from 'node:crypto';
import { compareText } from './failure.ts';

const VERSION_DIGITS = 12;
const HASH_DIGITS = 24;
// The names of shared chunks are hashes themselves, of content that counts already.
const CHUNK_NAME = /chunk-[A-Z0-9]{8}\.js/g;

export interface BundledCode {
  /** Path in the bundle → code. */
  readonly texts: ReadonlyMap<string, string>;
  /** Path in the bundle → the paths of what it imports from the bundle. */
  readonly imports: ReadonlyMap<string, readonly string[]>;
  readonly packageEntry: string;
}

/**
 * Gives the version of one function: the hash of its code and of all the chunks it imports. Where millrace itself is
 * installed does not count, so that workers on different machines agree on it.
 */
export function versionsOf({
  texts,
  imports,
  packageEntry,
}: BundledCode): (entry: string) => string {
  // Functions share chunks, of which a library's may be large: each is read once.
  const digests = new Map<string, string>();
  const digestOf = (path: string): string => {
    const known = digests.get(path);
    if (known !== undefined) return known;
    const code = texts.get(path) ?? '';
    const same = code.replaceAll(packageEntry, 'millrace').replaceAll(CHUNK_NAME, 'chunk.js');
    const digest = createHash('sha256').update(same).digest('hex');
    digests.set(path, digest);
    return digest;
  };
  return (entry) => {
    const hash = createHash('sha256');
    const visited = new Set<string>();
    const pending = [entry];
    for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
      if (visited.has(path)) continue;
      visited.add(path);
      hash.update(digestOf(path));
      pending.push(...(imports.get(path) ?? []));
    }
    return hash.digest('hex').slice(0, VERSION_DIGITS);
  };
}

/** Of all files with their paths. */
export function hashOf(contents: ReadonlyMap<string, Uint8Array>): string {
  const hash = createHash('sha256');
  for (const [path, content] of [...contents].sort(([a], [b]) => compareText(a, b))) {
    hash.update(`${path}\0${content.byteLength}\0`).update(content);
  }
  return hash.digest('hex').slice(0, HASH_DIGITS);
}
