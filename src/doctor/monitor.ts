/** What a server tells on its monitoring port, and over NATS only to the system account. */
import { z } from 'zod';
import { messageOf } from '../core/errors.ts';
import { isAtLeast, RECOMMENDED_SERVER_VERSION } from '../core/version.ts';
import { bytesText, fail, ok, unknown, warn, type Check } from './checks.ts';

const TIMEOUT_MS = 3_000;
const SECOND_NS = 1_000_000_000;
/** Shares of what may be stored. */
const FULL_SOON = 0.8;
const FULL = 0.95;

const serverSchema = z.object({
  server_name: z.string(),
  version: z.string(),
  now: z.string().optional(),
  slow_consumers: z.number().optional(),
  jetstream: z
    .object({
      config: z
        .object({
          max_storage: z.number().optional(),
          sync_always: z.boolean().optional(),
          sync_interval: z.number().optional(),
        })
        .optional(),
      stats: z.object({ storage: z.number().optional() }).optional(),
      meta: z
        .object({ leader: z.string().optional(), cluster_size: z.number().optional() })
        .optional(),
    })
    .optional(),
});

/** One server; `url` is its monitoring port, as http://host:8222. */
export async function examineMonitor(url: string, replicas: number): Promise<Check[]> {
  let server: z.infer<typeof serverSchema>;
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const answer = await fetch(new URL('/varz', url), { signal });
    server = serverSchema.parse(await answer.json());
  } catch (error) {
    const remedy = 'Give the URL of its monitoring port (http: in its configuration).';
    return [fail(`server ${url}`, `it does not answer: ${messageOf(error)}`, remedy)];
  }
  const { server_name: name, version, jetstream } = server;
  const { config, stats, meta } = jetstream ?? {};
  if (config === undefined) {
    return [
      fail(`server ${name}`, 'it has no JetStream', 'Add a block jetstream to its configuration.'),
    ];
  }
  return [
    versionCheck(`version of ${name}`, version, replicas),
    syncCheck(`sync of ${name}`, config, replicas),
    spaceCheck(`space of ${name}`, stats?.storage ?? 0, config.max_storage ?? -1),
    clusterCheck(`cluster of ${name}`, meta, replicas),
  ];
}

export function versionCheck(name: string, version: string, replicas: number): Check {
  if (isAtLeast(version, RECOMMENDED_SERVER_VERSION)) return ok(name, version);
  // What they mend concerns replicated streams.
  if (replicas === 1)
    return ok(name, `${version}; ${RECOMMENDED_SERVER_VERSION} is better in a cluster`);
  return warn(
    name,
    `${version}: faults with replicated streams are mended in ${RECOMMENDED_SERVER_VERSION}`,
    `Update nats-server to ${RECOMMENDED_SERVER_VERSION} or newer, one server after the other.`,
  );
}

function syncCheck(
  name: string,
  {
    sync_always: always,
    sync_interval: intervalNs,
  }: { sync_always?: boolean | undefined; sync_interval?: number | undefined },
  replicas: number,
): Check {
  if (always === true) return ok(name, 'sync_interval: always');
  if (always === undefined && intervalNs === undefined) return unknown(name, 'it does not say');
  const every = intervalNs === undefined ? 'now and then' : `every ${intervalNs / SECOND_NS} s`;
  const remedy = 'Set sync_interval: always in its block jetstream, and start it again.';
  if (replicas > 1) {
    return warn(
      name,
      `${every}: what was acknowledged since is lost if the power of most servers fails at once`,
      remedy,
    );
  }
  return fail(name, `${every}: what was acknowledged since is lost with the power`, remedy);
}

/** `limit`: -1 for none. */
export function spaceCheck(name: string, used: number, limit: number): Check {
  if (limit <= 0) return ok(name, `${bytesText(used)} used, no limit`);
  const finding = `${bytesText(used)} of ${bytesText(limit)} used`;
  const remedy =
    'Raise the limit (max_file_store, or that of the account), or remove what is not needed.';
  if (used >= FULL * limit) return fail(name, finding, remedy);
  return used >= FULL_SOON * limit ? warn(name, finding, remedy) : ok(name, finding);
}

function clusterCheck(
  name: string,
  meta: { leader?: string | undefined; cluster_size?: number | undefined } | undefined,
  replicas: number,
): Check {
  const size = meta?.cluster_size ?? 1;
  if (size < replicas) {
    return fail(
      name,
      `${size} ${size === 1 ? 'server' : 'servers'}, too few for ${replicas} replicas`,
      'Add servers (config/cluster), or set replicas lower.',
    );
  }
  if (size > 1 && !meta?.leader) {
    return fail(name, 'no leader', 'Start the servers that are down; more than half have to run.');
  }
  if (size === 2) {
    return warn(
      name,
      '2 servers: with one of them down nothing goes on',
      'Have one, three or five.',
    );
  }
  return ok(name, size === 1 ? 'none' : `${size} servers, led by ${meta?.leader}`);
}
