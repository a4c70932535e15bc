/** The control messages between our own processes: one schema each, the type inferred from it. All are JSON. */
import { z } from 'zod';
import { MAX_PARTITIONS } from '../core/key-ring.ts';
import { newerVersion } from '../core/newer.ts';
import { ContentType, decodePayload, type PayloadLimits } from '../core/payload.ts';

const workerState = z.enum(['running', 'draining']);
/** One token of a subject: whoever knows a worker asks below its id. */
const id = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/);
const count = z.number().int().nonnegative();

/** Pairs: a function may be called as no key of an object from outside may be, such as `__proto__`. */
const byName = <Value>(value: z.ZodType<Value>) =>
  z
    .array(z.tuple([z.string().max(64), value]).readonly())
    .readonly()
    .optional();

export const beatSchema = z.object({
  id,
  connectionEpoch: count,
  state: workerState,
  /** Counts the changes of the set of functions. */
  revision: count,
  /** Functions of which so many run that others wait. */
  full: z.array(z.string()).optional(),
  /** Of functions that are not balanced at random. */
  loads: byName(
    z.object({ running: count, waiting: count, serviceMs: z.number().nonnegative().optional() }),
  ),
});
export type Beat = z.infer<typeof beatSchema>;

export const announcementSchema = beatSchema.extend({
  functions: z.array(z.string().max(64)),
  /** Of those with durable events: delivery/identity.ts. */
  identities: byName(z.string()),
  /** How calls are balanced, by function, where not at random. */
  balances: byName(z.string()),
  caches: byName(
    z.object({
      ttlMs: count,
      staleMs: count,
      errorMs: count,
      maxEntries: z.number().int().positive(),
      keyed: z.boolean(),
      version: z.string().optional(),
      state: z.array(z.string()).readonly(),
    }),
  ),
  capacity: z.number().positive().optional(),
  /** core/newer.ts; in both it is missing where it is the first one. */
  protocol: count.optional(),
});
export type Announcement = z.infer<typeof announcementSchema>;

export const leaveSchema = z.object({ id });

/** What workers say of the partitions that they own. */
export const ownerBeatSchema = z.object({
  id,
  /** Relative to other workers': its share of the partitions. */
  capacity: z.number().positive(),
  /** False once it is leaving. */
  hosting: z.boolean(),
  /** How many there are that keys lie on. */
  partitions: count,
  /** The last change of their number that is done at all that it owns. */
  settled: count.optional(),
  /** Partition and epoch. */
  owned: z.array(z.tuple([count.max(MAX_PARTITIONS - 1), count])).max(MAX_PARTITIONS),
  protocol: count.optional(),
});
export type OwnerBeat = z.infer<typeof ownerBeatSchema>;

const CONTROL_LIMITS: PayloadLimits = {
  maxPayloadBytes: 8 * 1024 * 1024,
  maxPayloadDepth: 16,
  maxPayloadValues: 1_000_000,
};

/** The message, or undefined when it is not what the schema says: control messages that don't fit are ignored. */
export function readControl<Message>(
  schema: z.ZodType<Message>,
  bytes: Uint8Array,
): Message | undefined {
  try {
    const parsed = schema.safeParse(decodePayload(ContentType.json, bytes, CONTROL_LIMITS));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}

const formatSchema = z.object({ format: count });

/** Of what is stored as JSON; without a format it is of the first. Throws NEWER_VERSION. `what` begins the sentence. */
export function assertFormat(bytes: Uint8Array, what: string, known: number): void {
  const { format } = readControl(formatSchema, bytes) ?? { format: known };
  if (format > known) throw newerVersion(what, format, known);
}

export function writeControl(message: object): Buffer {
  return Buffer.from(JSON.stringify(message));
}
