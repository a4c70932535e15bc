import type { ScanLimits } from './msgpack-scan.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;

/**
 * Counts depth and values of a JSON text before it is parsed. Syntax is left to the parser; here only size
 * matters. Text of n bytes nests at most n / 2 levels, so short payloads, nearly all of them, need no scan.
 * Returns the reason why the text is refused, or undefined.
 */
export function scanJson(text: string, limits: ScanLimits): string | undefined {
  if (text.length <= limits.maxDepth * 2 && text.length <= limits.maxValues) return undefined;
  let depth = 0;
  let values = 1;
  for (let at = 0; at < text.length; at += 1) {
    const character = text.charCodeAt(at);
    if (character === QUOTE) {
      at = closingQuote(text, at + 1);
    } else if (character === 0x5b || character === 0x7b) {
      depth += 1;
      values += 1;
      if (depth > limits.maxDepth) return `nested deeper than ${limits.maxDepth} levels`;
    } else if (character === 0x5d || character === 0x7d) {
      depth -= 1;
    } else if (character === COMMA) {
      values += 1;
    }
    if (values > limits.maxValues) return `more than ${limits.maxValues} values`;
  }
  return undefined;
}

function closingQuote(text: string, from: number): number {
  let at = from;
  while (at < text.length && text.charCodeAt(at) !== QUOTE) {
    at += text.charCodeAt(at) === BACKSLASH ? 2 : 1;
  }
  return at;
}
