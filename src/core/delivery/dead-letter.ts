/** What is known of an event that was given up. */
import { z } from 'zod';

/** Of a dead letter, as JSON; its payload is the event's. */
export const DEAD_HEADER = 'Millrace-Dead';

const failureSchema = z.object({
  /** ISO 8601. */
  at: z.string(),
  attempt: z.number(),
  code: z.string(),
  message: z.string(),
  stack: z.string().optional(),
  version: z.string(),
  worker: z.string(),
});
const deadLetterSchema = z.object({
  function: z.string(),
  id: z.string(),
  subject: z.string(),
  stream: z.string(),
  sequence: z.number(),
  /** When the stream stored the event, ISO 8601. */
  time: z.iso.datetime(),
  headers: z.record(z.string(), z.string()),
  attempts: z.number(),
  /** Of the last attempts; of those before a change of dispatcher only the number is known. */
  failures: z.array(failureSchema),
  /** The payload would not have fitted beside all this: it is still in the stream. */
  withoutPayload: z.boolean().optional(),
  /** Likewise the event's headers. */
  withoutHeaders: z.boolean().optional(),
});
export type DeadLetter = z.infer<typeof deadLetterSchema>;
export type DeadFailure = z.infer<typeof failureSchema>;

/** Undefined for what is no dead letter's header. */
export function readDeadLetter(text: string): DeadLetter | undefined {
  try {
    return deadLetterSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
