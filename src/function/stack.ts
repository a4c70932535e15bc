import { fileURLToPath } from 'node:url';

/** A place in a file: an absolute path; line and column count from 1. */
export interface Position {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

// "    at name (file:///a/b.ts:1:2)", "    at /a/b.ts:1:2", "    at async C:\a\b.ts:1:2"
const FRAME = /^\s+at (?:.*\()?(?:async )?((?:file:\/\/)?(?:\/|[A-Za-z]:[\\/]).*?):(\d+):(\d+)\)?$/;
// V8 puts the place of an error in linking or parsing on a line of its own, before the message.
const HEADING = /^((?:file:\/\/)?(?:\/|[A-Za-z]:[\\/]).*?):(\d+)$/;

function toPosition(match: RegExpExecArray | null): Position | undefined {
  const [, where, line, column] = match ?? [];
  if (where === undefined || line === undefined) return undefined;
  try {
    const file = where.startsWith('file://')
      ? fileURLToPath(where)
      : where.replace(/\?[^/\\]*$/, '');
    return { file, line: Number(line), column: Number(column ?? 1) };
  } catch {
    // Not a legal file URL: a frame that says nothing.
    return undefined;
  }
}

/** The places a stack names, innermost first; frames of Node itself and of evaluated code are left out. */
export function positionsIn(stack: unknown): Position[] {
  if (typeof stack !== 'string') return [];
  const lines = stack.split('\n');
  const found = [HEADING.exec(lines[0] ?? ''), ...lines.map((line) => FRAME.exec(line))];
  return found.map(toPosition).filter((position) => position !== undefined);
}

/**
 * Remembers where `callee` was called from. The text of the stack is made, and mapped to the sources, only when
 * somebody asks, because that is slow and nearly nobody does.
 */
export function callerOf(callee: (...values: never[]) => unknown): () => Position | undefined {
  let trace: { stack?: string } | undefined = {};
  let position: Position | undefined;
  // Frames above and including `callee` are left out, so that the first one is the caller.
  Error.captureStackTrace(trace, callee);
  return () => {
    if (trace !== undefined) {
      [position] = positionsIn(trace.stack);
      trace = undefined;
    }
    return position;
  };
}
