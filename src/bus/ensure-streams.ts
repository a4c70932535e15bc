/** The two streams of all partitions: one of logs, one of snapshots. What they must be, and what they must never be. */
import { z } from 'zod';
import { MillraceError } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf } from '../core/subjects.ts';
import type { Bus } from './connection.ts';
import { apiSchema, JetStreamApi } from './jetstream-api.ts';
import { streamConfig } from './stream-config.ts';

/** The largest message of any setting (8 MiB), with its headers. */
const MAX_MESSAGE_BYTES = 8 * 1024 * 1024 + 64 * 1024;
/** The shortest that JetStream takes. Message ids are not used: a repeated one would pass for stored. */
const DUPLICATE_WINDOW_NS = 100_000_000;

const configSchema = z.looseObject({
  subjects: z.array(z.string()).optional(),
  num_replicas: z.number().optional(),
  max_msg_size: z.number().optional(),
});
export type StreamConfig = z.infer<typeof configSchema>;
const streamSchema = apiSchema.extend({ config: configSchema.optional() });

/**
 * What an existing stream may not differ in, and why. Left out of a stream's description means the first value of the
 * list.
 */
const REQUIRED: readonly [name: string, allowed: readonly unknown[], why: string][] = [
  ['storage', ['file'], 'what is in memory is lost with the broker'],
  ['retention', ['limits'], 'logs are removed by their owners only'],
  ['discard', ['new', undefined], 'a full stream must refuse, not forget'],
  ['max_age', [0, undefined], 'a log that expires loses its fence'],
  ['max_msgs', [-1, 0, undefined], 'a log that is cut loses its fence'],
  ['max_bytes', [-1, 0, undefined], 'a log that is cut loses its fence'],
  ['max_msgs_per_subject', [-1, 0, undefined], 'a log that is cut is not whole'],
  ['allow_rollup_hdrs', [false, undefined], 'a header could remove the whole log'],
  ['allow_msg_ttl', [false, undefined], 'a header could remove an append'],
  ['allow_msg_schedules', [false, undefined], 'a header could write to a log past its fence'],
  ['allow_msg_counter', [false, undefined], 'messages would be changed on their way'],
  ['deny_delete', [true], 'an append could be removed from the middle'],
  ['deny_purge', [false, undefined], 'logs could not be trimmed'],
  ['no_ack', [false, undefined], 'nothing would be acknowledged'],
  ['sealed', [false, undefined], 'nothing could be written'],
  ['persist_mode', ['default', '', undefined], 'acknowledged appends could be lost with the power'],
  ['mirror', [undefined, null], 'it would have two writers'],
  ['sources', [undefined, null], 'it would have two writers'],
  ['subject_transform', [undefined, null], 'appends would be stored elsewhere'],
  ['republish', [undefined, null], 'appends would be published'],
];

export interface LogStreamNames {
  log: string;
  snapshots: string;
}

export function logStreamNames(settings: Settings): LogStreamNames {
  return { log: `${settings.namespace}-log`, snapshots: `${settings.namespace}-snapshots` };
}

/**
 * Creates the streams where they are missing and checks them where they are there; several may do so at once. Throws
 * STREAM_UNUSABLE naming what is wrong with an existing stream, UNAVAILABLE or TIMEOUT where JetStream does not serve.
 */
export async function ensureLogStreams(bus: Bus, settings: Settings): Promise<void> {
  const api = new JetStreamApi(bus);
  const subjects = subjectsOf(settings.namespace);
  const names = logStreamNames(settings);
  await ensure(api, names.log, subjects.log('*'), settings.replicas);
  await ensure(api, names.snapshots, subjects.snapshot('*'), settings.replicas);
}

async function ensure(
  api: JetStreamApi,
  name: string,
  subjects: string,
  replicas: number,
): Promise<void> {
  const created = await unlessForbidden(
    api.ask(
      `STREAM.CREATE.${name}`,
      {
        ...streamConfig(name, [subjects], replicas),
        max_msg_size: MAX_MESSAGE_BYTES,
        duplicate_window: DUPLICATE_WINDOW_NS,
        allow_rollup_hdrs: false,
        allow_direct: false,
        allow_msg_ttl: false,
        allow_msg_schedules: false,
        deny_delete: true,
        deny_purge: false,
      },
      streamSchema,
    ),
  );
  // Whatever the refusal says, a stream that is there is checked; so is one that was made just now, because an older
  // server leaves out what it does not know.
  const { config } =
    created?.error === undefined && created !== undefined
      ? created
      : await api.ask(`STREAM.INFO.${name}`, {}, streamSchema);
  if (config === undefined) {
    const why = created?.error?.description ?? 'its configuration is not known';
    throw new MillraceError('UNAVAILABLE', `The stream ${name} cannot be created: ${why}.`);
  }
  assertUsable(name, config, subjects, replicas);
}

/** Who takes a backup may look at streams, not make them. */
async function unlessForbidden<Answer>(asked: Promise<Answer>): Promise<Answer | undefined> {
  return asked.catch((error: unknown) => {
    if ((error as MillraceError).code === 'FORBIDDEN') return undefined;
    throw error;
  });
}

function assertUsable(
  name: string,
  config: StreamConfig,
  subjects: string,
  replicas: number,
): void {
  const faults = logStreamFaults(config, subjects);
  const copies = config.num_replicas ?? 1;
  if (copies < replicas) {
    faults.push(`num_replicas ${copies} (the setting replicas asks for ${replicas})`);
  }
  if (faults.length === 0) return;
  throw new MillraceError(
    'STREAM_UNUSABLE',
    `The stream ${name} has ${faults.join(', ')}. Mend it with "nats stream edit ${name}", or use another namespace; "millrace doctor --fix" raises the number of replicas.`,
  );
}

/** In what a stream of logs or snapshots differs from what it must be, the number of replicas left out. `subjects`: those that it must have. */
export function logStreamFaults(config: StreamConfig, subjects: string): string[] {
  const faults = REQUIRED.filter(([field, allowed]) => !allowed.includes(config[field])).map(
    ([field, , why]) => `${field} ${JSON.stringify(config[field])} (${why})`,
  );
  const { subjects: has = [], max_msg_size: maxBytes = -1 } = config;
  if (has.length !== 1 || has[0] !== subjects) {
    faults.push(`subjects ${JSON.stringify(has)} (they must be ${subjects})`);
  }
  if (maxBytes > 0 && maxBytes < MAX_MESSAGE_BYTES) {
    faults.push(`max_msg_size ${maxBytes} (it must take ${MAX_MESSAGE_BYTES})`);
  }
  return faults;
}
