/** What lies in a log and was never appended. */
const OPENING_BRACE = 0x7b;

/**
 * Is it a word of JetStream's, which somebody had sent here by naming a log as his reply subject (SECURITY.md)? It is JSON, what we
 * append never begins like that: it is left out. What cannot be read for any other reason is damage, and noticed.
 */
export function isForeign(bytes: Uint8Array): boolean {
  return bytes[0] === OPENING_BRACE;
}
