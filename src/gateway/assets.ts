/** The dashboard's files: read once, kept in memory, sent as they are or compressed. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';

export interface Asset {
  type: string;
  body: Buffer;
  gzipped: Buffer;
  etag: string;
}

/** Made by the build: scripts/dashboard.mjs. */
const DIRECTORY = new URL('./dashboard/', import.meta.url);
const TYPES: Readonly<Record<string, string>> = {
  'index.html': 'text/html; charset=utf-8',
  'app.js': 'text/javascript; charset=utf-8',
  'style.css': 'text/css; charset=utf-8',
  'icon.svg': 'image/svg+xml',
};

export class Assets {
  readonly #files: ReadonlyMap<string, Asset>;

  private constructor(files: ReadonlyMap<string, Asset>) {
    this.#files = files;
  }

  /** Files that there are not, where nothing was built, are left out. */
  static async read(directory: URL = DIRECTORY): Promise<Assets> {
    const files = new Map<string, Asset>();
    for (const [name, type] of Object.entries(TYPES)) {
      const body = await readFile(new URL(name, directory)).catch(() => undefined);
      if (body === undefined) continue;
      const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`;
      files.set(name, { type, body, etag, gzipped: await promisify(gzip)(body, { level: 9 }) });
    }
    return new Assets(files);
  }

  get(name: string): Asset | undefined {
    return this.#files.get(name);
  }
}
