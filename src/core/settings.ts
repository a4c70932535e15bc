import { z } from 'zod';
import { MillraceError } from './errors.ts';

/**
 * Every bound and wait of the platform, each with its unit in its name. The defaults live here only;
 * config/README.md explains each in a sentence and a test holds the two together.
 */
const integer = (minimum: number, maximum: number, fallback: number) =>
  z.number().int().min(minimum).max(maximum).default(fallback);

const KiB = 1024;
const MiB = 1024 * KiB;
const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

const shape = z.strictObject({
  namespace: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,32}$/, 'must be 1 to 32 of A-Z a-z 0-9 _ -')
    // Under it every requester waits for answers, and nothing is answered under the namespace.
    .refine((namespace) => namespace !== '_INBOX', 'must not be _INBOX')
    .default('millrace'),
  maxPayloadBytes: integer(KiB, 8 * MiB, MiB),
  maxPayloadDepth: integer(8, 1_000, 128),
  maxPayloadValues: integer(1_000, 10_000_000, 262_144),
  callTimeoutMs: integer(1, DAY_MS, 30_000),
  maxCallsInFlight: integer(1, 1_000_000, 65_536),
  maxCallAttempts: integer(1, 100, 5),
  // A frame counts its functions' names in one byte.
  frameMaxCalls: integer(1, 255, 64),
  frameMaxBytes: integer(KiB, MiB, 64 * KiB),
  probeAfterMs: integer(10, MINUTE_MS, 250),
  discoveryWaitMs: integer(50, MINUTE_MS, 1_000),
  rerouteWaitMs: integer(50, 10 * MINUTE_MS, 5_000),
  sweepIntervalMs: integer(5, 1_000, 25),
  concurrency: integer(1, 65_536, 256),
  maxQueued: integer(0, 1_000_000, 1_024),
  maxAbandoned: integer(1, 1_000_000, 1_024),
  heartbeatIntervalMs: integer(100, MINUTE_MS, 1_000),
  missedAfterMs: integer(300, 10 * MINUTE_MS, 3_500),
  drainTimeoutMs: integer(0, DAY_MS, 30_000),
  inspectTimeoutMs: integer(50, MINUTE_MS, 500),
  // More would lie unevenly on the ring of keys (core/key-ring.ts).
  partitions: integer(1, 256, 8),
  replicas: integer(1, 5, 1),
  capacity: integer(1, 10_000, 100),
  maxValueBytes: integer(KiB, MiB, 512 * KiB),
  maxTransactionBytes: integer(KiB, 4 * MiB, 768 * KiB),
  maxTransactionKeys: integer(1, 100_000, 16_384),
  maxTransactionAttempts: integer(1, 1_000, 64),
  maxSessions: integer(1, 1_000_000, 16_384),
  maxPartitionBytes: integer(MiB, 4_096 * MiB, 256 * MiB),
  maxAppendBytes: integer(64 * KiB, 4 * MiB, 512 * KiB),
  snapshotAfterBytes: integer(64 * KiB, 4_096 * MiB, 16 * MiB),
  snapshotChunkBytes: integer(16 * KiB, MiB, 256 * KiB),
  appendTimeoutMs: integer(100, MINUTE_MS, 2_000),
  lockRetryMs: integer(10, MINUTE_MS, 200),
  voteTimeoutMs: integer(50, MINUTE_MS, 2_000),
  queryAfterMs: integer(10, MINUTE_MS, 500),
  resolveAfterMs: integer(10, MINUTE_MS, 500),
  keepOutcomeMs: integer(1_000, DAY_MS, MINUTE_MS),
  ownerBeatMs: integer(50, MINUTE_MS, 500),
  ownerMissedMs: integer(200, 10 * MINUTE_MS, 2_000),
  handoverMs: integer(0, MINUTE_MS, 1_000),
  answerKeepMs: integer(1_000, DAY_MS, 10 * MINUTE_MS),
  maxEventsHeld: integer(1, 50_000, 10_000),
  maxEventBytesHeld: integer(MiB, 4_096 * MiB, 64 * MiB),
  maxEventsRunning: integer(1, 65_536, 512),
  cursorIntervalMs: integer(10, MINUTE_MS, 500),
  maxCacheBytes: integer(KiB, 4_096 * MiB, 32 * MiB),
  tracesEndpoint: z
    .string()
    .regex(/^(https?:\/\/\S+)?$/, 'must be a URL, http:// or https://')
    .default(''),
  tracesRatio: z.number().min(0).max(1).default(1),
  maxTracesPerSecond: integer(1, 1_000_000, 100),
  inspectState: z
    .union(
      [
        z.enum(['open', 'closed']),
        z.strictObject({
          collections: z.array(z.string().regex(/^[A-Za-z0-9_-]{1,64}$/)).max(1_000),
        }),
      ],
      'must be "open", "closed" or { "collections": […] } with names of collections',
    )
    .default('open'),
});

const settingsSchema = shape
  .refine(({ missedAfterMs, heartbeatIntervalMs }) => missedAfterMs >= 2 * heartbeatIntervalMs, {
    path: ['missedAfterMs'],
    message: 'must be at least twice heartbeatIntervalMs',
  })
  .refine(({ ownerMissedMs, ownerBeatMs }) => ownerMissedMs >= 2 * ownerBeatMs, {
    path: ['ownerMissedMs'],
    message: 'must be at least twice ownerBeatMs',
  })
  .refine(({ maxTransactionBytes, maxValueBytes }) => maxTransactionBytes >= maxValueBytes, {
    path: ['maxTransactionBytes'],
    message: 'must not be less than maxValueBytes',
  });

export type Settings = Readonly<z.infer<typeof settingsSchema>>;
/** What a user may give: any of the settings, the rest are defaults. */
export type SettingsInput = z.input<typeof settingsSchema>;

export const SETTING_NAMES = Object.keys(shape.shape) as (keyof Settings)[];

/** May inspect show what lies in the collection, and which keys it has? */
export function mayInspect({ inspectState: open }: Settings, collection: string): boolean {
  return typeof open === 'string' ? open === 'open' : open.collections.includes(collection);
}

/** Throws USAGE naming the setting and what it must be. `source` says where the values came from, e.g. a file's path. */
export function parseSettings(given: unknown = {}, source = 'the settings'): Settings {
  const result = settingsSchema.safeParse(given);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const where = issue === undefined || issue.path.length === 0 ? '' : `${issue.path.join('.')}: `;
  throw new MillraceError('USAGE', `In ${source}: ${where}${issue?.message ?? 'not legal'}.`);
}
