import { once } from 'node:events';
import { resolve, sep } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { watch, type FSWatcher } from 'chokidar';

/** Editors write in several steps, and save several files at once. */
const QUIET_MS = 80;
/** A folder that takes longer to go through is watched all the same, from some moment on. */
const READY_TIMEOUT_MS = 5_000;

export interface WatchListener {
  /** Once for changes that come close together. */
  onChange: () => void;
  /** The system watches no more files: an edit may not be seen. */
  onError: (error: Error) => void;
}

/** Tells when files of the functions folder, or files that its functions import, have changed. */
export class FunctionsWatch {
  readonly #listener: WatchListener;
  readonly #watched = new Set<string>();
  readonly #watchers: FSWatcher[] = [];
  #quiet: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(listener: WatchListener) {
    this.#listener = listener;
  }

  /** Watches files, and folders with all that is in them. Resolves when no later change is missed. */
  async add(paths: readonly string[]): Promise<void> {
    const added = [...new Set(paths.map((path) => resolve(path)))].filter(
      (path) => !this.#isWatched(path),
    );
    if (added.length === 0 || this.#closed) return;
    for (const path of added) this.#watched.add(path);
    // One of its own for each addition: a watcher says only once that it is ready.
    const watcher = watch(added, {
      ignoreInitial: true,
      ignored: (path) => /[\\/](node_modules|\.git|\.millrace)([\\/]|$)/.test(path),
    });
    this.#watchers.push(watcher);
    watcher.on('error', (error) => this.#listener.onError(error as Error));
    watcher.on('all', () => {
      clearTimeout(this.#quiet);
      this.#quiet = setTimeout(() => this.#listener.onChange(), QUIET_MS);
    });
    const waiting = new AbortController();
    const { signal } = waiting;
    const ready = once(watcher, 'ready', { signal }).catch(() => {});
    const late = delay(READY_TIMEOUT_MS, undefined, { signal }).catch(() => {});
    await Promise.race([ready, late]);
    waiting.abort();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#quiet);
    await Promise.all(this.#watchers.map((watcher) => watcher.close()));
  }

  #isWatched(path: string): boolean {
    return [...this.#watched].some((known) => path === known || path.startsWith(known + sep));
  }
}
