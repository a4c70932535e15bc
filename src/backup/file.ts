/** Writes a backup file beside its name, and gives it that name when it is whole and on the disk: nothing is ever written over. */
import { once } from 'node:events';
import { access, link, open, rm, type FileHandle } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip, type Gzip } from 'node:zlib';
import { MillraceError, messageOf } from '../core/errors.ts';
import { FrameEncoder, type Frame } from './format.ts';

/** Most of it is text; more costs more time than it saves. */
const GZIP_LEVEL = 3;
/** All state is in it. */
const OWNER_ONLY = 0o600;

export class BackupFile {
  bytes = 0;
  readonly #file: string;
  readonly #partial: string;
  readonly #encoder = new FrameEncoder();
  readonly #gzip: Gzip;
  readonly #written: Promise<void>;
  #failure: Error | undefined;

  private constructor(file: string, partial: string, handle: FileHandle) {
    this.#file = file;
    this.#partial = partial;
    this.#gzip = createGzip({ level: GZIP_LEVEL });
    this.#gzip.on('data', (piece: Buffer) => (this.bytes += piece.length));
    this.#written = pipeline(this.#gzip, handle.createWriteStream({ flush: true }));
    this.#written.catch((error: Error) => {
      this.#failure = error;
    });
  }

  /** Throws USAGE where the file is there already, or cannot be written: now, and not at the end of a long way. */
  static async create(file: string): Promise<BackupFile> {
    const exists = await access(file).then(
      () => true,
      () => false,
    );
    if (exists) throw notWritten(file, 'it is there already');
    const partial = `${file}.${randomBytes(4).toString('hex')}.partial`;
    try {
      return new BackupFile(file, partial, await open(partial, 'wx', OWNER_ONLY));
    } catch (cause) {
      throw notWritten(file, messageOf(cause), cause);
    }
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
      await link(this.#partial, this.#file);
      await rm(this.#partial, { force: true });
      const folder = await open(dirname(this.#file));
      await folder.sync();
      await folder.close();
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
