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

/** A table of left-aligned columns under their titles. */
export function table(titles: readonly string[], rows: readonly (readonly unknown[])[]): string {
  const lines = [titles, ...rows.map((row) => row.map(String))];
  const widths = titles.map((_, column) =>
    Math.max(...lines.map((line) => (line[column] ?? '').length)),
  );
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
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

/** Several lines joined; a list under a line that ends with a colon reads on from it. */
function oneLine(text: string): string {
  const lines = text
    .split(/[\r\n]+/)
    .map((line) => line.trim())
    .filter((line) => line !== '');
  return lines
    .reduce((all, line) => `${all}${/[:;,.]$/.test(all) ? '' : ';'} ${line}`, '')
    .slice(2);
}

function stackOf(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${stackOf(error.cause)}` : '';
  return `${error.stack ?? ''}${cause}`;
}
