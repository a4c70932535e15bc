import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Sync } from './broker.ts';
import { benchBalance } from './balance.ts';
import { benchCluster } from './cluster.ts';
import { benchDashboard } from './dashboard.ts';
import { benchEvents } from './events.ts';
import { benchFailover } from './failover.ts';
import { benchHttp } from './http.ts';
import { benchIdle, IDLE_COMMAND } from './idle.ts';
import { benchInvoke } from './invoke.ts';
import { PEERS } from './peers/index.ts';
import { benchRecovery } from './recovery.ts';
import { benchTelemetry } from './telemetry.ts';
import { benchTransfer } from './transfer.ts';
import { note, print } from './print.ts';

const USAGE = `usage: npm run bench -- WHAT [options]

invoke   ask a function to add two numbers, await the answer; millrace and others, interleaved
  --seconds 3              length of one measurement
  --rounds 3               medians are taken over the rounds
  --concurrency 1,64,512   calls in flight
  --only NAME,NAME         of ${PEERS.map(({ name }) => name).join(', ')}
  --json FILE              default bench/results/invoke.json; with --only or --cpu-prof none unless named
  --cpu-prof DIR           CPU profiles of every selected caller and worker

transfer serializable transactions over keys on several partitions
  --workers 2  --concurrency 256  --seconds 4
  --partitions 8,32,128    one after the other
  --keys 1,2,4,8           in one transaction
  --no-postgres            without PostgreSQL beside it (it is measured where it is installed)
  --json FILE              default bench/results/transfer.json

events   durable events: published to handled, from a backlog, and how long one takes; beside it a raw JetStream consumer
  --workers 2  --events 60000
  --sync always            or default: the broker syncs every two minutes, as NATS does by itself
  --json FILE              default bench/results/events.json, with --sync default events-default-sync.json

http     the gateway beside fastify's hello world, and a deploy of 50 functions to 4 workers
  --seconds 4  --rounds 5
  --cpu-prof DIR           CPU profiles of the gateway
  --json FILE              default bench/results/http.json

balance  what strategies cost, what kept answers bring, more processes, and a rolling restart under load
  --seconds 3  --rounds 3
  --only PART,PART         of strategies, cache, processes, join, partitions, roll
  --json FILE              default bench/results/balance.json; with --only none unless named

telemetry  what traces and metrics cost: off, on, every trace kept, in one run
  --seconds 3  --rounds 5
  --json FILE              default bench/results/telemetry.json

dashboard  the dashboard's page in Chromium, of 200 workers and 1,000 functions: frames a second while it is scrolled, and its size
  --seconds 5  --rounds 3
  --json FILE              default bench/results/dashboard.json

recovery a worker with many keys is killed: how long until its keys answer again
  --workers 2  --items 1000000
  --json FILE              default bench/results/recovery.json

failover a worker, and the server that leads the log, are killed again and again: three servers, how long keys are away
  --workers 4  --kills 50  of each
  --json FILE              default bench/results/failover.json

cluster  the main figures of invoke, transfer, events and balance on one server, and on three with replicas of everything
  --workers 2  --seconds 4  --rounds 3  --events 30000
  --json FILE              default bench/results/cluster.json

idle     what a worker costs while nothing happens
  --command 'COMMAND'      default ${IDLE_COMMAND}
  --settle 5  --seconds 20`;

const TRANSFER_RESULTS = fileURLToPath(new URL('./results/transfer.json', import.meta.url));
const EVENT_RESULTS = {
  always: fileURLToPath(new URL('./results/events.json', import.meta.url)),
  default: fileURLToPath(new URL('./results/events-default-sync.json', import.meta.url)),
};
const BALANCE_RESULTS = fileURLToPath(new URL('./results/balance.json', import.meta.url));
const RECOVERY_RESULTS = fileURLToPath(new URL('./results/recovery.json', import.meta.url));
const FAILOVER_RESULTS = fileURLToPath(new URL('./results/failover.json', import.meta.url));
const CLUSTER_RESULTS = fileURLToPath(new URL('./results/cluster.json', import.meta.url));
const TELEMETRY_RESULTS = fileURLToPath(new URL('./results/telemetry.json', import.meta.url));
const DASHBOARD_RESULTS = fileURLToPath(new URL('./results/dashboard.json', import.meta.url));
const HTTP_RESULTS = fileURLToPath(new URL('./results/http.json', import.meta.url));
const RESULTS = fileURLToPath(new URL('./results/invoke.json', import.meta.url));

/** A mistake in the command line: status 2 and the usage. */
class UsageError extends Error {}

const list = (text: string | undefined): string[] | undefined =>
  text?.split(',').filter((part) => part !== '');

function positive(text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!(value > 0) || !Number.isFinite(value))
    throw new UsageError(`not a positive number: ${text}`);
  return value;
}

function syncOf(text = 'always'): Sync {
  if (text !== 'always' && text !== 'default') throw new UsageError(`no --sync ${text}`);
  return text;
}

function knownPeers(names: string[] | undefined): string[] | undefined {
  const unknown = names?.find((name) => !PEERS.some((peer) => peer.name === name));
  if (unknown !== undefined) throw new UsageError(`no peer named ${unknown}`);
  return names;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seconds: { type: 'string' },
      rounds: { type: 'string' },
      concurrency: { type: 'string' },
      only: { type: 'string' },
      json: { type: 'string' },
      'cpu-prof': { type: 'string' },
      command: { type: 'string' },
      settle: { type: 'string' },
      workers: { type: 'string' },
      partitions: { type: 'string' },
      keys: { type: 'string' },
      items: { type: 'string' },
      events: { type: 'string' },
      kills: { type: 'string' },
      sync: { type: 'string' },
      'no-postgres': { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  const [what] = positionals;
  if (values.help === true) {
    print(USAGE);
  } else if (what === 'invoke') {
    const only = knownPeers(list(values.only));
    const whole = only === undefined && values['cpu-prof'] === undefined;
    await benchInvoke({
      seconds: positive(values.seconds, 3),
      rounds: positive(values.rounds, 3),
      concurrency: (list(values.concurrency) ?? ['1', '64', '512']).map((n) => positive(n, 1)),
      only,
      jsonFile: values.json ?? (whole ? RESULTS : undefined),
      profileDir: values['cpu-prof'],
    });
  } else if (what === 'transfer') {
    await benchTransfer({
      workers: positive(values.workers, 2),
      concurrency: positive(values.concurrency, 256),
      seconds: positive(values.seconds, 4),
      partitions: (list(values.partitions) ?? ['8', '32', '128']).map((n) => positive(n, 1)),
      keys: (list(values.keys) ?? ['1', '2', '4', '8']).map((n) => positive(n, 1)),
      postgres: values['no-postgres'] !== true,
      jsonFile: values.json ?? TRANSFER_RESULTS,
    });
  } else if (what === 'cluster') {
    await benchCluster({
      workers: positive(values.workers, 2),
      seconds: positive(values.seconds, 4),
      rounds: positive(values.rounds, 3),
      events: positive(values.events, 30_000),
      jsonFile: values.json ?? CLUSTER_RESULTS,
    });
  } else if (what === 'events') {
    await benchEvents({
      workers: positive(values.workers, 2),
      events: positive(values.events, 60_000),
      sync: syncOf(values.sync),
      jsonFile: values.json ?? EVENT_RESULTS[syncOf(values.sync)],
    });
  } else if (what === 'balance') {
    await benchBalance({
      seconds: positive(values.seconds, 3),
      rounds: positive(values.rounds, 3),
      only: list(values.only),
      jsonFile: values.json ?? (values.only === undefined ? BALANCE_RESULTS : undefined),
    });
  } else if (what === 'telemetry') {
    await benchTelemetry({
      seconds: positive(values.seconds, 3),
      rounds: positive(values.rounds, 5),
      jsonFile: values.json ?? TELEMETRY_RESULTS,
    });
  } else if (what === 'http') {
    await benchHttp({
      seconds: positive(values.seconds, 4),
      rounds: positive(values.rounds, 5),
      jsonFile: values.json ?? (values['cpu-prof'] === undefined ? HTTP_RESULTS : undefined),
      profileDir: values['cpu-prof'],
    });
  } else if (what === 'dashboard') {
    await benchDashboard({
      seconds: positive(values.seconds, 5),
      rounds: positive(values.rounds, 3),
      jsonFile: values.json ?? DASHBOARD_RESULTS,
    });
  } else if (what === 'failover') {
    await benchFailover({
      workers: positive(values.workers, 4),
      kills: positive(values.kills, 50),
      jsonFile: values.json ?? FAILOVER_RESULTS,
    });
  } else if (what === 'recovery') {
    await benchRecovery({
      workers: positive(values.workers, 2),
      items: positive(values.items, 1_000_000),
      jsonFile: values.json ?? RECOVERY_RESULTS,
    });
  } else if (what === 'idle') {
    await benchIdle({
      command: values.command ?? IDLE_COMMAND,
      settleSeconds: positive(values.settle, 5),
      seconds: positive(values.seconds, 20),
    });
  } else {
    throw new UsageError(what === undefined ? 'what to measure?' : `no benchmark named ${what}`);
  }
}

function isUsageError(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  return error instanceof UsageError || code.startsWith('ERR_PARSE_ARGS');
}

try {
  await main();
} catch (error) {
  note(error instanceof Error ? error.message : String(error));
  if (isUsageError(error)) note(USAGE);
  process.exitCode = isUsageError(error) ? 2 : 1;
}
