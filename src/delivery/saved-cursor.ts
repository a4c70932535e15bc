/** Stores a dispatcher's cursor now and then, and notices when another dispatcher has taken over. */
import { isDeepStrictEqual } from 'node:util';
import { MillraceError } from '../core/errors.ts';
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
  #alone: CursorEntry['alone'];
  #stopped = false;
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

  /** Says, before it is begun, what runs alone. Rejects where that could not be stored. */
  async alone(sequence: number, times: number): Promise<void> {
    this.#alone = { sequence, times };
    await this.#store();
    if (isDeepStrictEqual(this.#entry.alone, this.#alone)) return;
    throw new MillraceError('UNAVAILABLE', 'The cursor could not be stored.');
  }

  /** For the last time. `stopped`: nothing runs any more. */
  async close(stopped: boolean): Promise<void> {
    this.#closed = true;
    this.#stopped = stopped;
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
    const entry: CursorEntry = { ...this.#entry, next, open };
    if (this.#alone !== undefined) entry.alone = this.#alone;
    if (this.#stopped) entry.stopped = true;
    if (isDeepStrictEqual(entry, this.#entry)) return;
    try {
      await this.#write(cursors, entry);
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

  async #write(cursors: Cursors, entry: CursorEntry): Promise<void> {
    try {
      this.#revision = await cursors.put(entry, this.#revision);
    } catch (error) {
      if (!(error instanceof StaleCursor)) throw error;
      // A version that is to come has noted its subjects, or an answer was lost: it is this dispatcher's all the same.
      const now = await cursors.read(entry.function, entry.stream);
      const own = now?.entry.worker === entry.worker && now?.entry.identity === entry.identity;
      if (now === undefined || !own) throw error;
      if (now.entry.coming !== undefined) entry.coming = now.entry.coming;
      this.#revision = await cursors.put(entry, now.revision);
    }
  }
}
