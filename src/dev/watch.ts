import { watch, type FSWatcher } from 'chokidar';

/** Editors write in several steps, and save several files at once. */
const QUIET_MS = 80;

/** Calls back once when files of the functions folder, or files that its functions import, have changed. */
export class FunctionsWatch {
  readonly #watcher: FSWatcher;
  #quiet: NodeJS.Timeout | undefined;

  constructor(directory: string, inputs: readonly string[], onChange: () => void) {
    this.#watcher = watch([directory, ...inputs], {
      ignoreInitial: true,
      ignored: (path) => /[\\/](node_modules|\.git|\.millrace)([\\/]|$)/.test(path),
    });
    this.#watcher.on('all', () => {
      clearTimeout(this.#quiet);
      this.#quiet = setTimeout(onChange, QUIET_MS);
    });
  }

  alsoWatch(inputs: readonly string[]): void {
    this.#watcher.add([...inputs]);
  }

  async close(): Promise<void> {
    clearTimeout(this.#quiet);
    await this.#watcher.close();
  }
}
