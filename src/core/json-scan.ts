import type { ScanLimits } from './msgpack-scan.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;

/**
 * Counts depth and values of JSON bytes before they are parsed. Syntax is left to the parser; here only size
 * matters. Text of n bytes nests at most n / 2 levels, so short payloads, nearly all of them, need no scan.
 * Returns the reason why the bytes are refused, or undefined.
 */
export function scanJson(bytes: Uint8Array, limits: ScanLimits): string | undefined {
  if (bytes.length <= limits.maxDepth * 2 && bytes.length <= limits.maxValues) return undefined;
  let depth = 0;
  let values = 1;
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at];
    if (byte === QUOTE) {
      at = closingQuote(bytes, at + 1);
    } else if (byte === 0x5b || byte === 0x7b) {
      depth += 1;
      values += 1;
      if (depth > limits.maxDepth) return `nested deeper than ${limits.maxDepth} levels`;
    } else if (byte === 0x5d || byte === 0x7d) {
      depth -= 1;
    } else if (byte === COMMA) {
      values += 1;
    }
    if (values > limits.maxValues) return `more than ${limits.maxValues} values`;
  }
  return undefined;
}

function closingQuote(bytes: Uint8Array, from: number): number {
  let at = from;
  while (at < bytes.length && bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1;
  return at;
}
