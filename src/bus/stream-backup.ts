/**
 * A stream as the broker itself copies and brings back: its messages with their sequences, times and headers, and its
 * configuration. What the bytes mean is the broker's own affair.
 *
 * The copy has everything that the stream has when it begins and keeps until it is over; of what is stored meanwhile it may
 * have a part.
 */
import { nuid, type Msg } from 'nats';
import { z } from 'zod';
import { MillraceError } from '../core/errors.ts';
import type { Bus } from './connection.ts';
import { apiSchema, NO_STREAM, refusedBy, type JetStreamApi } from './jetstream-api.ts';

const CHUNK_BYTES = 128 * 1024;
/** Silence after which a copy is given up. */
const IDLE_MS = 15_000;
/** The broker reads all of a stream before it says that it has it. */
const RESTORED_TIMEOUT_MS = 300_000;
/** Chunks under way at once while a stream is brought back. */
const WINDOW = 8;
const STATUS_DONE = 204;

const stateSchema = z.looseObject({
  messages: z.number(),
  bytes: z.number(),
  first_seq: z.number(),
  last_seq: z.number(),
  num_deleted: z.number().optional(),
});
const configSchema = z.looseObject({
  name: z.string(),
  subjects: z.array(z.string()).optional(),
  num_replicas: z.number().optional(),
});
const describedSchema = z.object({ config: configSchema, state: stateSchema });
const infoSchema = apiSchema.extend(describedSchema.partial().shape);
const restoreSchema = apiSchema.extend({ deliver_subject: z.string().optional() });

/** A stream's configuration and extent, as the broker says them. */
export type StreamDescription = z.infer<typeof describedSchema>;

/** Undefined where there is no such stream. Throws UNAVAILABLE, also where it does not serve just now, or TIMEOUT. */
export async function describeStream(
  api: JetStreamApi,
  stream: string,
): Promise<StreamDescription | undefined> {
  const { config, state, error } = await api.ask(`STREAM.INFO.${stream}`, {}, infoSchema);
  if (config !== undefined && state !== undefined) return { config, state };
  if (error?.err_code === NO_STREAM) return undefined;
  throw refusedBy(stream, error);
}

/** How many messages the stream has lost since it was made, whatever the reason. */
export function removedFrom({ state }: StreamDescription): number {
  return state.last_seq - state.messages;
}

/** Gives the copy to `onChunk`, piece by piece and no faster than it takes them. Throws UNAVAILABLE, or what `onChunk` throws. */
export async function copyStream(
  bus: Bus,
  api: JetStreamApi,
  stream: string,
  onChunk: (bytes: Uint8Array) => Promise<void>,
): Promise<StreamDescription> {
  const inbox = `${bus.inbox}.b.${nuid.next()}`;
  const chunks = new Chunks();
  const subscription = bus.subscribe(inbox, (message) => chunks.push(message));
  try {
    const request = { deliver_subject: inbox, no_consumers: true, chunk_size: CHUNK_BYTES };
    const answer = await api.ask(`STREAM.SNAPSHOT.${stream}`, request, infoSchema);
    const { config, state, error } = answer;
    if (config === undefined || state === undefined) {
      throw notCopied(stream, error?.description ?? 'the broker does not say why');
    }
    for (;;) {
      const message = await chunks.next();
      if (message === undefined) throw notCopied(stream, 'the broker fell silent');
      if (message.data.length === 0) {
        const code = message.headers?.code ?? STATUS_DONE;
        if (code === 0 || code === STATUS_DONE) return { config, state };
        throw notCopied(stream, message.headers?.description ?? `status ${code}`);
      }
      await onChunk(message.data);
      message.respond();
    }
  } finally {
    subscription.unsubscribe();
  }
}

/** Brings back a stream that is not there. Throws UNAVAILABLE. */
export async function restoreStream(
  bus: Bus,
  api: JetStreamApi,
  { config, state }: StreamDescription,
  chunks: AsyncIterable<Uint8Array>,
): Promise<void> {
  const { name } = config;
  const begun = await api.ask(`STREAM.RESTORE.${name}`, { config, state }, restoreSchema);
  const { deliver_subject: subject, error } = begun;
  if (subject === undefined) throw notRestored(name, error?.description);
  const underWay = new Set<Promise<unknown>>();
  let failure: unknown;
  for await (const chunk of chunks) {
    const sent = bus.request(subject, chunk, IDLE_MS).catch((cause: unknown) => {
      failure ??= cause;
    });
    underWay.add(sent);
    void sent.then(() => underWay.delete(sent));
    if (underWay.size >= WINDOW) await Promise.race(underWay);
    if (failure !== undefined) break;
  }
  await Promise.all(underWay);
  if (failure !== undefined) throw notRestored(name, (failure as Error).message);
  const end = await bus.request(subject, new Uint8Array(), RESTORED_TIMEOUT_MS);
  const { config: restored, error: refused } = infoSchema.parse(end.json());
  if (restored === undefined) throw notRestored(name, refused?.description);
}

/** What has come, in order, for one reader that may be slower. The broker waits for it: few are ever there. */
class Chunks {
  readonly #waiting: Msg[] = [];
  #wake: (() => void) | undefined;

  push(message: Msg): void {
    this.#waiting.push(message);
    this.#wake?.();
  }

  /** Undefined when none has come for IDLE_MS. */
  async next(): Promise<Msg | undefined> {
    if (this.#waiting.length === 0) {
      await new Promise<void>((resolve) => {
        const idle = setTimeout(resolve, IDLE_MS);
        this.#wake = () => {
          clearTimeout(idle);
          resolve();
        };
      });
      this.#wake = undefined;
    }
    return this.#waiting.shift();
  }
}

function notCopied(stream: string, why: string): MillraceError {
  return new MillraceError('UNAVAILABLE', `The stream ${stream} could not be copied: ${why}.`);
}

function notRestored(stream: string, why = 'the broker does not say why'): MillraceError {
  return new MillraceError('UNAVAILABLE', `The stream ${stream} could not be restored: ${why}.`);
}

/** Throws UNAVAILABLE where the broker refuses, or TIMEOUT. */
export async function changeStream(
  api: JetStreamApi,
  what: 'UPDATE' | 'DELETE',
  stream: string,
  config: object,
): Promise<void> {
  const { error } = await api.ask(`STREAM.${what}.${stream}`, config, apiSchema);
  if (error === undefined) return;
  const why = error.description ?? 'the broker does not say why';
  throw new MillraceError('UNAVAILABLE', `The stream ${stream} could not be changed: ${why}.`);
}
