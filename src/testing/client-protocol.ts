/** What a NATS client says to its server, message by message: https://docs.nats.io/reference/reference-protocols/nats-protocol. */

export interface Said {
  /** As it came, to be handed on. */
  bytes: Buffer;
  /** Undefined for what publishes nothing. */
  publication?: Publication;
}

export interface Publication {
  subject: string;
  reply: string;
  /** Without headers. */
  payload: Buffer;
  hasHeaders: boolean;
}

/** A first line holds subjects and sizes, or what a client says of itself. */
const MAX_LINE_BYTES = 64 * 1024;
const LINE_END = '\r\n';

/** Takes a connection's bytes as they come and gives what is whole. */
export class ClientProtocol {
  #rest: Buffer = Buffer.alloc(0);

  /** Throws where it is not NATS. */
  *take(chunk: Buffer): Generator<Said> {
    let bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    for (;;) {
      const said = next(bytes);
      if (said === undefined) break;
      bytes = bytes.subarray(said.bytes.length);
      yield said;
    }
    this.#rest = bytes;
  }
}

/** Undefined until all of it is there. */
function next(bytes: Buffer): Said | undefined {
  const end = bytes.indexOf(LINE_END);
  if (end < 0) {
    if (bytes.length > MAX_LINE_BYTES) throw new Error('This is no NATS client.');
    return undefined;
  }
  const begin = end + LINE_END.length;
  const line = bytes.toString('latin1', 0, end);
  const [verb = '', subject = '', ...rest] = line.split(/[ \t]+/);
  const hasHeaders = verb.toUpperCase() === 'HPUB';
  if (!hasHeaders && verb.toUpperCase() !== 'PUB') return { bytes: bytes.subarray(0, begin) };
  const size = Number(rest.at(-1));
  const headerSize = hasHeaders ? Number(rest.at(-2)) : 0;
  if (!Number.isSafeInteger(size) || !Number.isSafeInteger(headerSize)) {
    throw new Error('This is no NATS client.');
  }
  if (bytes.length < begin + size + LINE_END.length) return undefined;
  const reply = rest.length > (hasHeaders ? 2 : 1) ? (rest[0] ?? '') : '';
  const payload = bytes.subarray(begin + headerSize, begin + size);
  return {
    bytes: bytes.subarray(0, begin + size + LINE_END.length),
    // Subjects are UTF-8.
    publication: { subject: utf8(subject), reply: utf8(reply), payload, hasHeaders },
  };
}

function utf8(latin1: string): string {
  return Buffer.from(latin1, 'latin1').toString();
}

/** A publication without headers, as a client says it. */
export function publish(subject: string, reply: string, payload: Uint8Array): Buffer {
  const line = `PUB ${subject} ${reply === '' ? '' : `${reply} `}${payload.length}${LINE_END}`;
  return Buffer.concat([Buffer.from(line), payload, Buffer.from(LINE_END)]);
}
