/** A built file with its source map, as it lies in the object store: named by its content. */
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import { pack, unpack } from 'msgpackr';
import { MillraceError } from '../core/errors.ts';

/** Of one function with all that is bundled with it, source maps included, before it is compressed. */
export const MAX_FUNCTION_BYTES = 16 * 1024 * 1024;

export interface BuiltFile {
  code: Buffer;
  /** Of the code, as a source map. */
  map: Buffer;
}

export interface PackedFile {
  /** SHA-256 of `bytes`, hexadecimal. */
  hash: string;
  bytes: Buffer;
}

const compress = promisify(gzip);
const decompress = promisify(gunzip);

export function packFile({ code, map }: BuiltFile): PackedFile {
  const bytes = pack([code, map]);
  return { hash: hashOf(bytes), bytes };
}

export async function compressFile({ bytes }: PackedFile): Promise<Uint8Array> {
  return compress(bytes);
}

/** Throws FUNCTION_LOAD_FAILED where it is not what its name says. */
export async function unpackFile(hash: string, stored: Uint8Array): Promise<BuiltFile> {
  const bytes = await decompress(stored, { maxOutputLength: MAX_FUNCTION_BYTES }).catch(() => null);
  if (bytes === null || hashOf(bytes) !== hash) throw damaged(hash);
  const parts: unknown = unpack(bytes);
  const [code, map] = Array.isArray(parts) ? (parts as unknown[]) : [];
  if (!Buffer.isBuffer(code) || !Buffer.isBuffer(map)) throw damaged(hash);
  return { code, map };
}

function damaged(hash: string): MillraceError {
  return new MillraceError(
    'FUNCTION_LOAD_FAILED',
    `The deployed file ${hash.slice(0, 12)} is damaged: its content is not what its name says.`,
  );
}

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
