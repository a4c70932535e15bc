/** The platform's streams: whether they are as they must be, on enough servers, and whether these have caught up. */
import { z } from 'zod';
import type { Bus } from '../bus/connection.ts';
import { logStreamFaults, type StreamConfig } from '../bus/ensure-streams.ts';
import { apiSchema, JetStreamApi } from '../bus/jetstream-api.ts';
import { MillraceError } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import {
  bucketsOf,
  objectsOf,
  streamOfBucket,
  streamOfObjects,
  streamsOf,
} from '../core/stores.ts';
import { subjectsOf } from '../core/subjects.ts';
import { bytesText, fail, ok, warn, type Check } from './checks.ts';

interface Kept {
  stream: string;
  /** What must lie in it for ever, or go by the platform's word only. */
  faults: (config: StreamConfig) => string[];
}

const replicaSchema = z.object({
  name: z.string(),
  current: z.boolean().optional(),
  offline: z.boolean().optional(),
  lag: z.number().optional(),
});
const streamSchema = apiSchema.extend({
  config: z
    .looseObject({
      subjects: z.array(z.string()).optional(),
      num_replicas: z.number().optional(),
      max_msg_size: z.number().optional(),
    })
    .optional(),
  state: z.object({ messages: z.number(), bytes: z.number() }).optional(),
  cluster: z
    .object({ leader: z.string().optional(), replicas: z.array(replicaSchema).nullish() })
    .optional(),
  ts: z.string().optional(),
});
type Stream = z.infer<typeof streamSchema>;

const NO_STREAM = 10059;
/** By how many appends a replica may be behind that works. */
const MAX_LAG = 10_000;

/** Every stream that a namespace may have; a test holds it against what is made. */
export function platformStreams({ namespace }: Settings): Kept[] {
  const subjects = subjectsOf(namespace);
  const streams = streamsOf(namespace);
  const log = (stream: string, subject: string): Kept => ({
    stream,
    faults: (config) => logStreamFaults(config, subject),
  });
  const kept = (stream: string): Kept => ({ stream, faults: losses });
  return [
    log(streams.log, subjects.log('*')),
    log(streams.snapshots, subjects.snapshot('*')),
    ...[streams.events, streams.dead, streams.later].map(kept),
    ...Object.values(bucketsOf(namespace)).map((bucket) => kept(streamOfBucket(bucket))),
    ...Object.values(objectsOf(namespace)).map((bucket) => kept(streamOfObjects(bucket))),
  ];
}

/** What would take things away that are needed still. */
function losses(config: StreamConfig): string[] {
  const faults: string[] = [];
  if (config['storage'] !== 'file')
    faults.push('the storage memory, which is lost with the server');
  for (const limit of ['max_age', 'max_msgs', 'max_bytes']) {
    const value = config[limit];
    if (typeof value === 'number' && value > 0) {
      faults.push(`${limit} ${value}, beyond which things go that are needed still`);
    }
  }
  if (config['discard'] !== 'new' && config['max_msgs_per_subject'] !== 1) {
    faults.push('the discard policy old, with which a full stream forgets');
  }
  if (config['persist_mode'] === 'async') {
    faults.push('persist_mode async, with which what is acknowledged can be lost');
  }
  return faults;
}

export interface ExaminedStreams {
  checks: Check[];
  /** Milliseconds since 1970 by the server's clock, and by this one's when it was said; undefined without a stream. */
  clock: { serverMs: number; hereMs: number; withinMs: number } | undefined;
}

/** Raises nothing and makes nothing. Throws UNAVAILABLE or TIMEOUT where JetStream does not answer. */
export async function examineStreams(bus: Bus, settings: Settings): Promise<ExaminedStreams> {
  const api = new JetStreamApi(bus);
  const checks: Check[] = [];
  let clock: ExaminedStreams['clock'];
  let missing = 0;
  const streams = platformStreams(settings);
  for (const { stream, faults } of streams) {
    const askedMs = Date.now();
    const found = await api.ask(`STREAM.INFO.${stream}`, {}, streamSchema);
    const withinMs = (Date.now() - askedMs) / 2;
    if (found.ts !== undefined && (clock === undefined || withinMs < clock.withinMs)) {
      clock = { serverMs: Date.parse(found.ts), hereMs: askedMs + withinMs, withinMs };
    }
    if (found.error?.err_code === NO_STREAM) missing += 1;
    else checks.push(checkStream(stream, found, faults, settings.replicas));
  }
  if (missing === streams.length) {
    checks.push(
      ok('streams', `none yet in the namespace ${settings.namespace}; workers make them`),
    );
  }
  return { checks, clock };
}

function checkStream(
  stream: string,
  { config, state, cluster, error }: Stream,
  faultsOf: Kept['faults'],
  replicas: number,
): Check {
  const name = `stream ${stream}`;
  if (config === undefined) {
    const why = error?.description ?? 'its configuration is not known';
    return fail(name, why, `See what its servers say: nats stream info ${stream}.`);
  }
  const faults = faultsOf(config);
  if (faults.length > 0) {
    return fail(name, `it has ${faults.join('; ')}`, `Mend it: nats stream edit ${stream}.`);
  }
  const copies = config.num_replicas ?? 1;
  if (copies < replicas) {
    return fail(
      name,
      `${copies} of ${replicas} replicas`,
      `Raise it: millrace doctor --replicas ${replicas} --fix, or nats stream edit ${stream} --replicas ${replicas}.`,
    );
  }
  const others = cluster?.replicas ?? [];
  const offline = others.filter((each) => each.offline === true).map((each) => each.name);
  if (cluster !== undefined && copies > 1 && !cluster.leader) {
    return fail(name, 'it has no leader', 'Start the servers of the cluster that are down.');
  }
  if (offline.length > 0) {
    return warn(name, `its replica on ${offline.join(', ')} is offline`, 'Start that server.');
  }
  const behind = others.filter((each) => each.current === false && (each.lag ?? 0) > MAX_LAG);
  if (behind.length > 0) {
    const who = behind.map((each) => `${each.name} by ${each.lag}`).join(', ');
    return warn(
      name,
      `behind: ${who}`,
      'Wait until it has caught up before you stop another server.',
    );
  }
  const size = state === undefined ? '' : `, ${bytesText(state.bytes)}`;
  return ok(name, `${copies} ${copies === 1 ? 'replica' : 'replicas'}${size}`);
}

/** Raises the number of replicas of every stream that has fewer than the setting says; gives their names. Throws UNAVAILABLE. */
export async function raiseReplicas(bus: Bus, settings: Settings): Promise<string[]> {
  const api = new JetStreamApi(bus);
  const raised: string[] = [];
  for (const { stream } of platformStreams(settings)) {
    const { config } = await api.ask(`STREAM.INFO.${stream}`, {}, streamSchema);
    if (config === undefined || (config.num_replicas ?? 1) >= settings.replicas) continue;
    const changed = { ...config, num_replicas: settings.replicas };
    const { error } = await api.ask(`STREAM.UPDATE.${stream}`, changed, streamSchema);
    if (error !== undefined) {
      const why = error.description ?? `error ${error.err_code}`;
      throw new MillraceError(
        'UNAVAILABLE',
        `${stream} cannot have ${settings.replicas} replicas: ${why}.`,
      );
    }
    raised.push(stream);
  }
  return raised;
}
