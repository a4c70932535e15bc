import { readFileSync } from 'node:fs';
import { SourceMap, type SourceMapPayload } from 'node:module';
import { dirname, resolve, sep } from 'node:path';
import { positionsIn, type Position } from './stack.ts';

/**
 * Finds the user's own lines in stacks. Node maps stacks to the sources where source maps are on; frames that it left
 * in the build, as in an error of linking, are mapped here.
 */
export class Locator {
  readonly #folder: string;
  readonly #sources: ReadonlySet<string>;
  readonly #maps = new Map<string, SourceMap | undefined>();

  /** `folder` holds the build, `sources` the absolute paths of the user's files. */
  constructor(folder: string, sources: readonly string[]) {
    this.#folder = folder + sep;
    this.#sources = new Set(sources);
  }

  /** The innermost place of an error that lies in the user's files, or undefined. */
  ofError(thrown: unknown): Position | undefined {
    const stack = (thrown as { stack?: unknown } | null | undefined)?.stack;
    return this.#firstOwn(positionsIn(stack));
  }

  /** A place that may be in the build, as a place in the user's files. */
  ofPosition(position: Position | undefined): Position | undefined {
    return position && this.#firstOwn([position]);
  }

  #firstOwn(positions: readonly Position[]): Position | undefined {
    for (const position of positions) {
      const source = position.file.startsWith(this.#folder) ? this.#mapped(position) : position;
      if (source !== undefined && this.#sources.has(source.file)) return source;
    }
    return undefined;
  }

  #mapped({ file, line, column }: Position): Position | undefined {
    if (!this.#maps.has(file)) this.#maps.set(file, readMap(`${file}.map`));
    const map = this.#maps.get(file);
    // Source maps count from 0.
    const entry = map?.findEntry(line - 1, column - 1);
    if (entry === undefined || !('originalSource' in entry)) return undefined;
    return {
      file: resolve(dirname(file), entry.originalSource),
      line: entry.originalLine + 1,
      column: entry.originalColumn + 1,
    };
  }
}

function readMap(path: string): SourceMap | undefined {
  try {
    return new SourceMap(JSON.parse(readFileSync(path, 'utf8')) as SourceMapPayload);
  } catch {
    // A place is told if it can be; the reason of the failure does not depend on it.
    return undefined;
  }
}
