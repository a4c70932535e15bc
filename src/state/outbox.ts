/** Events that a transaction has emitted, as bytes for its `decide` record, and their way out once it has committed. */
import { setTimeout as delay } from 'node:timers/promises';
import { Packr } from 'msgpackr';
import { headers as newHeaders } from 'nats';
import type { PreparedEvent, Publisher } from '../bus/publisher.ts';

const packr = new Packr({ useRecords: false, moreTypes: false });
const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 5_000;

type Encoded = [
  id: string,
  subject: string,
  payload: Uint8Array,
  headers: [string, string][],
  emittedAtMs?: number,
];

export interface EmittedEvent extends PreparedEvent {
  /** By its worker's clock, since 1970: it was not published before. */
  emittedAtMs: number;
}

export function encodeEmit({ id, subject, payload, headers }: PreparedEvent): Uint8Array {
  const pairs = [...headers].map(([name, [value = '']]) => [name, value]);
  return packr.pack([id, subject, payload, pairs, Date.now()]);
}

/** Its id was given when it was emitted: published again after a crash, a stream knows it. */
export function decodeEmit(bytes: Uint8Array): EmittedEvent {
  const [id, subject, payload, pairs, emittedAtMs = 0] = packr.unpack(bytes) as Encoded;
  const headers = newHeaders();
  for (const [name, value] of pairs) headers.set(name, value);
  return { id, subject, payload, headers, emittedAtMs };
}

/**
 * Tries until all are published, or until `over` says that it is somebody else's task now. True: all are. `again`: some may
 * have been published before.
 */
export async function publishEmits(
  publisher: Publisher,
  emits: readonly Uint8Array[],
  again: boolean,
  over: () => boolean,
): Promise<boolean> {
  const left = new Set(emits.map((emit) => decodeEmit(emit)));
  let others = again;
  for (let waitMs = FIRST_RETRY_MS; !over(); waitMs = Math.min(MAX_RETRY_MS, waitMs * 2)) {
    await Promise.all(
      [...left].map(async (event) => {
        await publisher.sendOnce(event, event.emittedAtMs, others).then(
          () => left.delete(event),
          () => {},
        );
      }),
    );
    if (left.size === 0) return true;
    others = true;
    await delay(waitMs);
  }
  return false;
}
