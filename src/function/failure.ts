import { relative, sep } from 'node:path';
import { MillraceError } from '../core/errors.ts';

/** More than a person reads at once; the rest is counted. */
export const MAX_FAILURES_SHOWN = 20;
const MAX_REASON_CHARACTERS = 500;

/** One thing that keeps the functions from being loaded. */
export interface LoadFailure {
  /** Relative to the working directory where it lies inside, else absolute. */
  readonly file: string;
  readonly line: number | undefined;
  readonly reason: string;
}

/** A step's result, or everything that went wrong in it. */
export type Outcome<Value> =
  | { readonly ok: true; readonly value: Value }
  | { readonly ok: false; readonly failures: LoadFailure[] };

/** A path as people should see it: `functions/x.ts`, or absolute when it lies outside of `cwd`. */
export function shownPath(file: string, cwd: string): string {
  const path = relative(cwd, file);
  const inside = path !== '' && path !== '..' && !path.startsWith(`..${sep}`) && path !== file;
  return (inside ? path : file).replaceAll(sep, '/');
}

/** `reason` on one line and bounded, since it may hold whatever user code has thrown. */
export function failure(file: string, line: number | undefined, reason: string): LoadFailure {
  const oneLine = reason.replace(/\s+/g, ' ').trim();
  const bounded =
    oneLine.length <= MAX_REASON_CHARACTERS
      ? oneLine
      : `${oneLine.slice(0, MAX_REASON_CHARACTERS)}…`;
  return { file, line, reason: bounded };
}

/**
 * FUNCTION_LOAD_FAILED with one line `file:line: reason` for each failure, sorted by file. The same failure seen from
 * several functions, as with a shared helper, is told once. `details`: `{ failures, total }`.
 */
export function loadFailed(failures: readonly LoadFailure[]): MillraceError {
  const told = new Map(failures.map((one) => [toLine(one), one]));
  const sorted = [...told].sort(
    ([, a], [, b]) => compareText(a.file, b.file) || (a.line ?? 0) - (b.line ?? 0),
  );
  const shown = sorted.slice(0, MAX_FAILURES_SHOWN);
  const lines = shown.map(([line]) => line);
  if (sorted.length > shown.length) lines.push(`and ${sorted.length - shown.length} more`);
  return new MillraceError('FUNCTION_LOAD_FAILED', lines.join('\n'), {
    details: { failures: shown.map(([, one]) => one), total: sorted.length },
  });
}

function toLine({ file, line, reason }: LoadFailure): string {
  return line === undefined ? `${file}: ${reason}` : `${file}:${line}: ${reason}`;
}

/** The order of code units: the same on every machine, whatever its language. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
