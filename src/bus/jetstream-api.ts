/** JetStream's API by plain requests: what the package's own client leaves out, and no more than is needed. */
import type { Msg } from 'nats';
import { z } from 'zod';
import { MillraceError } from '../core/errors.ts';
import { NO_RESPONDERS, type Bus } from './connection.ts';
import { readControl, writeControl } from './messages.ts';

const API_TIMEOUT_MS = 5_000;

export const apiErrorSchema = z.object({
  err_code: z.number().optional(),
  description: z.string().optional(),
});
export const apiSchema = z.object({ error: apiErrorSchema.optional() });

export class JetStreamApi {
  readonly #bus: Bus;

  constructor(bus: Bus) {
    this.#bus = bus;
  }

  /** Throws UNAVAILABLE where JetStream does not answer. */
  async ask<Answer>(what: string, request: object, schema: z.ZodType<Answer>): Promise<Answer> {
    let message: Msg;
    try {
      message = await this.#bus.request(`$JS.API.${what}`, writeControl(request), API_TIMEOUT_MS);
    } catch (error) {
      if ((error as MillraceError).details === NO_RESPONDERS) {
        throw new MillraceError('UNAVAILABLE', 'JetStream does not answer.', { cause: error });
      }
      throw error;
    }
    const answer = readControl(schema, message.data);
    if (answer === undefined) throw new Error(`JetStream's answer to ${what} is not understood`);
    return answer;
  }
}
