/** The last lines that a function has written on this worker: bounded by their bytes. */
import { levelNumber, type LogLevel } from '../../bus/function-logs.ts';

export const MAX_KEPT_BYTES = 256 * 1024;
/** A longer line is kept and sent without what is beside its message and its ids. */
export const MAX_LINE_BYTES = 8 * 1024;

export interface WantedLines {
  level?: LogLevel | undefined;
  invocation?: string | undefined;
}

export class KeptLines {
  readonly #lines: string[] = [];
  #bytes = 0;

  add(line: string): void {
    this.#lines.push(line);
    this.#bytes += line.length;
    while (this.#bytes > MAX_KEPT_BYTES) this.#bytes -= (this.#lines.shift() ?? '').length;
  }

  /** The last `count` of those that are wanted, as many as have room in `maxBytes`; the oldest first. */
  last(count: number, wanted: WantedLines, maxBytes: number): string[] {
    const found: string[] = [];
    let bytes = 0;
    for (let at = this.#lines.length - 1; at >= 0 && found.length < count; at -= 1) {
      const line = this.#lines[at] ?? '';
      if (!isWanted(line, wanted)) continue;
      bytes += line.length;
      if (bytes > maxBytes) break;
      found.push(line);
    }
    return found.toReversed();
  }
}

const LEVEL = /^\{"level":(\d+)/;

/** Without reading all of the line: pino writes the level first. */
export function isWanted(line: string, { level, invocation }: WantedLines): boolean {
  if (level !== undefined) {
    const [, number = 'Infinity'] = LEVEL.exec(line) ?? [];
    if (Number(number) < levelNumber(level)) return false;
  }
  return invocation === undefined || line.includes(`"invocation":${JSON.stringify(invocation)}`);
}

const KEPT_FACTS = [
  'level',
  'time',
  'worker',
  'function',
  'invocation',
  'attempt',
  'trace_id',
  'span_id',
  'code',
];

/** The line, or the most important of it where it is too long. */
export function bounded(written: string): string {
  const line = written.trimEnd();
  if (line.length <= MAX_LINE_BYTES) return line;
  try {
    const all = JSON.parse(line) as Record<string, unknown>;
    const kept = KEPT_FACTS.filter((name) => all[name] !== undefined).map((name) => [
      name,
      all[name],
    ]);
    const text = all['msg'];
    const msg = typeof text === 'string' ? text.slice(0, MAX_LINE_BYTES / 4) : '';
    const facts = Object.fromEntries(kept) as object;
    return JSON.stringify({ ...facts, msg, truncatedBytes: line.length });
  } catch {
    return JSON.stringify({
      level: 50,
      msg: 'a line could not be kept',
      truncatedBytes: line.length,
    });
  }
}
