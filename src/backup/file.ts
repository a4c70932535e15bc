/** Writes a backup file beside its name, and gives it that name when it is whole and on the disk. */
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { access, open, rename, rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createGzip, type Gzip } from 'node:zlib';
import { MillraceError, messageOf } from '../core/errors.ts';
import { FrameEncoder, type Frame } from './format.ts';

/** Most of it is text; more costs more time than it saves. */
const GZIP_LEVEL = 3;

export class BackupFile {
  bytes = 0;
  readonly #file: string;
  readonly #partial: string;
  readonly #encoder = new FrameEncoder();
  readonly #gzip: Gzip;
  readonly #written: Promise<void>;
  #failure: Error | undefined;

  private constructor(file: string) {
    this.#file = file;
    this.#partial = `${file}.partial`;
    this.#gzip = createGzip({ level: GZIP_LEVEL });
    this.#gzip.on('data', (piece: Buffer) => (this.bytes += piece.length));
    this.#written = pipeline(this.#gzip, createWriteStream(this.#partial));
    this.#written.catch((error: Error) => {
      this.#failure = error;
    });
  }

  /** Throws USAGE where the file is there already, or cannot be written. */
  static async create(file: string): Promise<BackupFile> {
    const exists = await access(file).then(
      () => true,
      () => false,
    );
    if (exists) throw notWritten(file, 'it is there already');
    // To be told now, and not at the end of a long way.
    try {
      await (await open(`${file}.partial`, 'w')).close();
    } catch (cause) {
      throw notWritten(file, messageOf(cause), cause);
    }
    return new BackupFile(file);
  }

  async write(frame: Exclude<Frame, { kind: 'end' }>): Promise<void> {
    if (this.#failure !== undefined) throw notWritten(this.#file, messageOf(this.#failure));
    if (this.#gzip.write(this.#encoder.encode(frame))) return;
    await Promise.race([once(this.#gzip, 'drain'), this.#written]).catch(() => {});
  }

  async end(): Promise<void> {
    try {
      this.#gzip.end(this.#encoder.end());
      await this.#written;
      const handle = await open(this.#partial, 'r+');
      await handle.sync();
      await handle.close();
      await rename(this.#partial, this.#file);
    } catch (cause) {
      throw notWritten(this.#file, messageOf(cause), cause);
    }
  }

  /** Nothing stays of it. */
  async drop(): Promise<void> {
    this.#gzip.destroy();
    await this.#written.catch(() => {});
    await rm(this.#partial, { force: true });
  }
}

function notWritten(file: string, why: string, cause?: unknown): MillraceError {
  return new MillraceError('USAGE', `The backup ${file} cannot be written: ${why}.`, { cause });
}
