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

/** One sentence with the code; the stack only for those who ask. */
export function describeError(thrown: unknown, verbose: boolean): string {
  const code = thrown instanceof MillraceError ? thrown.code : 'FAILED';
  const line = `millrace: ${messageOf(thrown)} [${code}]`;
  return verbose && thrown instanceof Error ? `${line}\n${stackOf(thrown)}` : line;
}

function stackOf(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${stackOf(error.cause)}` : '';
  return `${error.stack ?? ''}${cause}`;
}
