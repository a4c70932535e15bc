/** Stores a dispatcher's cursor now and then, and notices when another dispatcher has taken over. */
import { isDeepStrictEqual } from 'node:util';
import type { Cursor } from '../core/delivery/dispatch.ts';
import { StaleCursor, type CursorEntry, type Cursors, type StoredCursor } from './cursors.ts';

export interface SavedCursorOptions {
  cursors: Cursors;
  intervalMs: number;
  /** As it is now. */
  readonly cursor: () => Cursor;
  /** It has gone on. */
  readonly onSaved: () => void;
  /** Another worker dispatches the source. */
  readonly onLost: () => void;
  /** It is tried again. */
  readonly onProblem: (error: Error) => void;
}

export class SavedCursor {
  readonly #options: SavedCursorOptions;
  #entry: CursorEntry;
  #revision: number;
  /** While there is something to store. */
  #timer: NodeJS.Timeout | undefined;
  /** One is under way at a time. */
  #storing: Promise<void> = Promise.resolve();
  #closed = false;

  constructor({ entry, revision }: StoredCursor, options: SavedCursorOptions) {
    this.#entry = entry;
    this.#revision = revision;
    this.#options = options;
  }

  /** The cursor may have changed. */
  changed(): void {
    if (this.#closed) return;
    this.#timer ??= setTimeout(() => void this.#store(), this.#options.intervalMs);
  }

  /** For the last time. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#store();
  }

  #store(): Promise<void> {
    this.#timer = undefined;
    this.#storing = this.#storing.then(() => this.#put());
    return this.#storing;
  }

  /** Only what has changed. */
  async #put(): Promise<void> {
    const { cursors, cursor, onSaved, onLost, onProblem } = this.#options;
    const { next, open } = cursor();
    if (isDeepStrictEqual([next, open], [this.#entry.next, this.#entry.open])) return;
    const entry = { ...this.#entry, next, open };
    try {
      this.#revision = await cursors.put(entry, this.#revision);
      this.#entry = entry;
      onSaved();
    } catch (error) {
      if (error instanceof StaleCursor) onLost();
      else {
        onProblem(error as Error);
        this.changed();
      }
    }
  }
}
