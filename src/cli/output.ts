/** What commands print: results on standard output, everything else on standard error. */
import { MillraceError, messageOf } from '../core/errors.ts';

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function printError(text: string): void {
  process.stderr.write(`${text}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, process.stdout.isTTY ? 2 : undefined) ?? 'null');
}

/** What a function returned: bytes as they are, or as `{"base64": …}` with --json; anything else as JSON. */
export function printResult(result: unknown, json: boolean): void {
  if (!(result instanceof Uint8Array)) printJson(result);
  else if (json) printJson({ base64: Buffer.from(result).toString('base64') });
  else process.stdout.write(result);
}

/** One of several: a line of JSON each. */
export function printPart(part: unknown): void {
  const shown =
    part instanceof Uint8Array ? { base64: Buffer.from(part).toString('base64') } : part;
  print(JSON.stringify(shown ?? null));
}

/** A table of left-aligned columns under their titles. */
export function table(titles: readonly string[], rows: readonly (readonly unknown[])[]): string {
  const lines = [titles, ...rows].map((row) => row.map((cell) => readable(String(cell))));
  const widths = titles.map((_, column) =>
    Math.max(...lines.map((line) => (line[column] ?? '').length)),
  );
  return lines.map((line) => padded(line, widths)).join('\n');
}

/** One line of a table. */
export function padded(cells: readonly string[], widths: readonly number[]): string {
  return cells
    .map((cell, column) => readable(cell).padEnd(widths[column] ?? 0))
    .join('  ')
    .trimEnd();
}

/** Control characters as escapes, except those in `kept`: what users store must not steer a terminal. */
export function readable(text: string, kept = ''): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (character) =>
    kept.includes(character)
      ? character
      : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

const EXIT_FAILURE = 1;
export const EXIT_USAGE = 2;

/** Says the error, and gives the exit status. */
export function fail(error: unknown): number {
  printError(describeError(error, process.argv.includes('--verbose')));
  return error instanceof MillraceError && error.code === 'USAGE' ? EXIT_USAGE : EXIT_FAILURE;
}

/** One line with the code; the lines as they were and the stack only for those who ask. */
export function describeError(thrown: unknown, verbose: boolean): string {
  const code = thrown instanceof MillraceError ? thrown.code : 'FAILED';
  const message = messageOf(thrown);
  if (!verbose) return `millrace: ${oneLine(message)} [${code}]`;
  const stack = thrown instanceof Error ? `\n${stackOf(thrown)}` : '';
  return `millrace: ${message} [${code}]${stack}`;
}

/** Wrong usage as commander words it (`error: unknown option '--x'`), as one line with the code. */
export function describeUsage(message: string): string {
  const text = oneLine(message.replace(/^error: /, '')).replace(/\.$/, '');
  return `millrace: ${text}; add --help for what is possible. [USAGE]`;
}

/** Several lines joined by semicolons, unless one ends in punctuation itself or the next is in parentheses. */
function oneLine(text: string): string {
  return text
    .trim()
    .replace(/\s*[\r\n]\s*(?=\()/g, ' ')
    .replace(/([:;,.])\s*[\r\n]\s*/g, '$1 ')
    .replace(/\s*[\r\n]\s*/g, '; ');
}

function stackOf(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${stackOf(error.cause)}` : '';
  return `${error.stack ?? ''}${cause}`;
}
