/** JetStream's API by plain requests: what the package's own client leaves out, and no more than is needed. */
import type { Msg } from 'nats';
import { z } from 'zod';
import { MillraceError } from '../core/errors.ts';
import { NO_RESPONDERS, type Bus } from './connection.ts';
import { readControl, writeControl } from './messages.ts';

const API_TIMEOUT_MS = 5_000;
/** A stream of three servers is without a leader for 4 to 9 s when the one that led it was killed. */
const ASK_AGAIN_MS = 500;
/** JetStream's error code for a subject, or a range of it, without a message. */
const NO_MESSAGE = 10037;
const NO_SUCH_SEQUENCE = 10043;
export const NO_STREAM = 10059;
/** The account has no JetStream. */
const NOT_ENABLED = 10039;

export const apiErrorSchema = z.object({
  err_code: z.number().optional(),
  description: z.string().optional(),
});
export const apiSchema = z.object({ error: apiErrorSchema.optional() });
const messageSchema = apiSchema.extend({
  message: z
    .object({
      subject: z.string().default(''),
      seq: z.number().int(),
      data: z.string().optional(),
      hdrs: z.string().optional(),
      time: z.string().optional(),
    })
    .optional(),
});

const namesSchema = apiSchema.extend({ streams: z.array(z.string()).nullish() });
const subjectsSchema = apiSchema.extend({
  state: z.object({ subjects: z.record(z.string(), z.number()).nullish() }).optional(),
});

export interface StoredMessage {
  sequence: number;
  subject: string;
  bytes: Uint8Array;
  /** As they are on the wire, undefined for none. */
  headers: string | undefined;
  /** When it was stored, ISO 8601. */
  time: string;
}

export class JetStreamApi {
  readonly #bus: Bus;

  constructor(bus: Bus) {
    this.#bus = bus;
  }

  /** Throws UNAVAILABLE where JetStream does not answer, TIMEOUT where it does not in time. */
  async ask<Answer>(
    what: string,
    request: object,
    schema: z.ZodType<Answer>,
    timeoutMs = API_TIMEOUT_MS,
  ): Promise<Answer> {
    let message: Msg;
    try {
      message = await this.#bus.request(`$JS.API.${what}`, writeControl(request), timeoutMs);
    } catch (error) {
      if ((error as MillraceError).details === NO_RESPONDERS) {
        throw new MillraceError('UNAVAILABLE', 'JetStream does not answer.', { cause: error });
      }
      throw error;
    }
    const answer = readControl(schema, message.data);
    if (answer === undefined) {
      throw new MillraceError('UNAVAILABLE', `JetStream's answer to ${what} is not understood.`);
    }
    return answer;
  }

  /** The last message on the subject. From the stream's leader: a Direct Get may be stale. Throws as `ask` does. */
  last(stream: string, subject: string): Promise<StoredMessage | undefined> {
    return this.#message(stream, { last_by_subj: subject });
  }

  /** The first message on the subject from `sequence` on; likewise. An answer "none" costs no payload. */
  next(
    stream: string,
    subject: string,
    sequence: number,
    timeoutMs?: number,
  ): Promise<StoredMessage | undefined> {
    return this.#message(stream, { next_by_subj: subject, seq: sequence }, timeoutMs);
  }

  /** The message with this sequence, undefined where there is none. Throws as `ask` does. */
  at(stream: string, sequence: number): Promise<StoredMessage | undefined> {
    return this.#message(stream, { seq: sequence });
  }

  /** Which streams capture something of it. Throws as `ask` does. */
  async streamsOf(subject: string): Promise<readonly string[]> {
    const { streams, error } = await this.ask('STREAM.NAMES', { subject }, namesSchema);
    if (error === undefined) return streams ?? [];
    const why = error.description ?? `error ${error.err_code}`;
    throw new MillraceError('UNAVAILABLE', `JetStream cannot say who stores ${subject}: ${why}.`);
  }

  /** Those that have messages and match. Throws as `ask` does. */
  async subjects(stream: string, filter: string): Promise<string[]> {
    const request = { subjects_filter: filter };
    const { state, error } = await this.ask(`STREAM.INFO.${stream}`, request, subjectsSchema);
    if (state === undefined) throw refusedBy(stream, error);
    return Object.keys(state.subjects ?? {});
  }

  /** Removes one message; false where it is not there. Throws as `ask` does. */
  async remove(stream: string, sequence: number): Promise<boolean> {
    const { error } = await this.ask(`STREAM.MSG.DELETE.${stream}`, { seq: sequence }, apiSchema);
    if (error === undefined) return true;
    if (error.err_code === NO_MESSAGE || error.err_code === NO_SUCH_SEQUENCE) return false;
    throw refusedBy(stream, error);
  }

  /** Removes what lies on the subject before `sequence`. Throws as `ask` does, UNAVAILABLE where it is not done. */
  async purge(stream: string, subject: string, sequence: number): Promise<void> {
    // JetStream takes 0 for no bound at all, and removes everything.
    if (sequence <= 1) return;
    const request = { filter: subject, seq: sequence };
    const { error } = await this.ask(`STREAM.PURGE.${stream}`, request, apiSchema);
    if (error !== undefined) throw refusedBy(stream, error);
  }

  /**
   * While a stream has no leader nobody answers. So it is asked again meanwhile, without giving up what was asked before: one
   * that was elected just now need not be waited for to the end of the time.
   */
  #askLeader(
    stream: string,
    question: object,
    timeoutMs = API_TIMEOUT_MS,
  ): Promise<z.infer<typeof messageSchema>> {
    const untilMs = performance.now() + timeoutMs;
    return new Promise((resolve, reject) => {
      let unanswered = 0;
      const ask = (): void => {
        const leftMs = untilMs - performance.now();
        if (leftMs <= 0) return;
        unanswered += 1;
        this.ask(`STREAM.MSG.GET.${stream}`, question, messageSchema, leftMs).then(
          (answer) => {
            clearInterval(again);
            resolve(answer);
          },
          (error: Error) => {
            unanswered -= 1;
            if (unanswered > 0) return;
            clearInterval(again);
            reject(error);
          },
        );
      };
      const again = setInterval(ask, ASK_AGAIN_MS);
      ask();
    });
  }

  async #message(
    stream: string,
    question: object,
    timeoutMs?: number,
  ): Promise<StoredMessage | undefined> {
    const { message, error } = await this.#askLeader(stream, question, timeoutMs);
    if (message !== undefined) {
      const { seq: sequence, subject, data = '', hdrs, time = '' } = message;
      const headers = hdrs === undefined ? undefined : Buffer.from(hdrs, 'base64').toString();
      return { sequence, subject, bytes: Buffer.from(data, 'base64'), headers, time };
    }
    if (error?.err_code === NO_MESSAGE || error?.err_code === NO_STREAM) return undefined;
    throw refusedBy(stream, error);
  }
}

/**
 * False where there surely is no JetStream. One that does not answer just now is there all the same: while a cluster elects its
 * leaders, nobody answers or says that it is not enabled.
 */
export async function hasJetStream(bus: Bus): Promise<boolean> {
  try {
    const { error } = await new JetStreamApi(bus).ask('INFO', {}, apiSchema);
    return error?.err_code !== NOT_ENABLED;
  } catch (error) {
    const nobody = bus.up && isNobody(error);
    return !nobody || bus.jetStreamHere;
  }
}

function isNobody(error: unknown): boolean {
  const { cause } = error as MillraceError;
  return (cause as MillraceError | undefined)?.details === NO_RESPONDERS;
}

export function refusedBy(
  stream: string,
  error: z.infer<typeof apiErrorSchema> | undefined,
): MillraceError {
  const why = error?.description ?? `error ${error?.err_code}`;
  return new MillraceError('UNAVAILABLE', `The stream ${stream} does not serve: ${why}.`);
}
