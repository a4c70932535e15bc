/**
 * MurmurHash3 (x86, 32 bits, seed 0) of the string's UTF-16 code units in little-endian order: for text from JavaScript
 * there is nothing to encode, and any other language gets the same from the bytes of its UTF-16LE form.
 *
 * Which partition a key belongs to, and so in which log its state lies, rests on this function: it must never change.
 */
function mixed(block: number): number {
  const spread = Math.imul(block, 0xcc9e2d51);
  return Math.imul((spread << 15) | (spread >>> 17), 0x1b873593);
}

/** 0 to 2^32 - 1, every bit as good as any other. Any string is accepted, lone surrogates as well. */
export function hash32(text: string): number {
  const { length } = text;
  const paired = length & ~1;
  let hash = 0;
  for (let index = 0; index < paired; index += 2) {
    hash ^= mixed(text.charCodeAt(index) | (text.charCodeAt(index + 1) << 16));
    hash = (hash << 13) | (hash >>> 19);
    hash = (Math.imul(hash, 5) + 0xe6546b64) | 0;
  }
  if (paired < length) hash ^= mixed(text.charCodeAt(paired));

  // The length counts bytes, as in the original.
  hash ^= length * 2;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
