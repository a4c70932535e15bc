/** Runs whose handler has returned an async iterable: their parts are sent as they come, or collected. docs/streaming.md. */
import { setImmediate as turn } from 'node:timers/promises';
import { MillraceError } from '../core/errors.ts';
import { ContentType } from '../core/payload.ts';
import type { Settings } from '../core/settings.ts';
import type { LoadedFunction } from '../function/load.ts';
import { encodeEmit } from '../state/outbox.ts';
import { encodeResult } from './answers.ts';
import { complete } from './complete.ts';
import type { Invocation } from './invocation.ts';
import { checkedOutput } from './read-event.ts';
import type { RunnerHost } from './runner-host.ts';
import type { Sender } from './streams.ts';

/** Whoever collects gives the process a turn after so many: parts that are there at once would hold it up. */
const PARTS_A_TURN = 256;

export interface PartsOptions {
  loaded: LoadedFunction;
  settings: Settings;
  host: RunnerHost;
  /** Nobody wants the answer any more. */
  cancel: () => void;
}

export function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  const { [Symbol.asyncIterator]: method } = (value ?? {}) as { [Symbol.asyncIterator]?: unknown };
  return typeof method === 'function';
}

/** Resolves with what is the answer when it has ended: all parts, or nothing where they are sent. Throws what the iterable throws. */
export async function runInParts(
  invocation: Invocation,
  iterable: AsyncIterable<unknown>,
  options: PartsOptions,
): Promise<unknown> {
  const iterator = iterable[Symbol.asyncIterator]();
  // A generator that waits for something ends by its signal; others hear of it at once.
  invocation.onAbort = async () => iterator.return?.();
  const parts = { [Symbol.asyncIterator]: () => iterator };
  const { parts: takesParts, joined } = invocation.incoming;
  const isKept = options.loaded.definition.cache !== undefined;
  return takesParts === undefined || joined !== undefined || isKept
    ? collected(invocation, parts, options)
    : sent(invocation, parts, options);
}

async function sent(
  invocation: Invocation,
  parts: AsyncIterable<unknown>,
  options: PartsOptions,
): Promise<undefined> {
  const { loaded, settings, host, cancel } = options;
  const { type, parts: takesParts } = invocation.incoming;
  const sender = (): Sender => {
    if (invocation.sender === undefined) {
      invocation.streamTo(host.streams.open(takesParts?.to, cancel));
    }
    return invocation.sender as unknown as Sender;
  };
  for await (const part of parts) {
    const checked = await checkedOutput(loaded, part);
    const encoded = encodeResult(loaded.name, checked, type, settings, host.secrets);
    if (!invocation.settled && !invocation.gaveParts) {
      const { attempt, emits } = invocation;
      // S2
      if (attempt?.wrote === true || emits.length > 0) await sender().opened();
      if (!invocation.settled) await commitBefore(invocation, options);
    }
    if (invocation.settled) return;
    sender().send(encoded);
    await sender().room();
    if (invocation.settled) return;
  }
  if (!invocation.settled) await sender().opened();
}

/** S1: what a part says has happened. */
async function commitBefore(invocation: Invocation, { loaded, host }: PartsOptions): Promise<void> {
  complete(invocation, loaded, host);
  const { attempt, emits } = invocation;
  if (attempt !== undefined && attempt.transaction.size > 0) {
    attempt.closeCollections();
    attempt.over();
    await attempt.commit(emits.map((emit) => encodeEmit(emit)));
    host.transactions?.ended(attempt.transaction);
    invocation.attempt = undefined;
  } else await host.publishAll(emits);
  emits.length = 0;
  invocation.gaveParts = true;
}

async function collected(
  invocation: Invocation,
  parts: AsyncIterable<unknown>,
  { loaded, settings, host }: PartsOptions,
): Promise<unknown[] | undefined> {
  const { delivery, type } = invocation.incoming;
  const { maxPayloadBytes } = settings;
  const all: unknown[] = [];
  let bytes = 0;
  let count = 0;
  for await (const part of parts) {
    // As where they are sent: a function must not depend on who asks.
    invocation.gaveParts = true;
    invocation.attempt?.closeCollections();
    const checked = await checkedOutput(loaded, part);
    count += 1;
    if (count % PARTS_A_TURN === 0) await turn();
    if (invocation.settled) return undefined;
    // Nobody waits for what a handler makes of an event.
    if (delivery !== undefined) continue;
    bytes += encodeResult(loaded.name, checked, type, settings, host.secrets).body.length;
    if (bytes > maxPayloadBytes) {
      throw new MillraceError(
        'PAYLOAD_TOO_LARGE',
        `The parts of the answer have more than ${maxPayloadBytes} bytes together: have them streamed.`,
        { details: { limitBytes: maxPayloadBytes } },
      );
    }
    all.push(type === ContentType.msgpack ? checked : shown(checked));
  }
  return all;
}

/** Bytes among other values have no JSON. */
function shown(part: unknown): unknown {
  return part instanceof Uint8Array ? { base64: Buffer.from(part).toString('base64') } : part;
}
