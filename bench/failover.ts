/**
 * How long keys are away when a worker, or the server that leads the stream of all journals, is killed -9: three servers,
 * replicas of everything, one key of each partition, asked for again and again by a transaction that writes. It does not measure
 * machines or networks that are lost, nor load beside it; all processes share one machine's cores and its one disk.
 */
import { writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectNats, type JetStreamManager } from 'nats';
import type { BrokerCluster } from '../src/broker/index.ts';
import type { Mill } from '../src/index.ts';
import { describeMachine, printMachine } from './machine.ts';
import { note, print } from './print.ts';
import { keysOf } from './recovery.ts';
import { allServed, withSystem, type System } from './state-system.ts';

export interface FailoverOptions {
  workers: number;
  kills: number;
  jsonFile: string | undefined;
}

const PARTITIONS = 8;
const LOG_STREAM = 'millrace-log';
const ITEMS = 1_000;
const ASK_TIMEOUT_MS = 1_000;
const GIVE_UP_MS = 120_000;
const POLL_MS = 50;
/** What was done before must not be part of the next. */
const BETWEEN_MS = 1_000;

export async function benchFailover({ workers, kills, jsonFile }: FailoverOptions): Promise<void> {
  await withSystem(
    workers,
    PARTITIONS,
    async (mill, system) => {
      const machine = await describeMachine(system.brokerVersion);
      printMachine(machine);
      await mill.invoke('fill', { from: 0, count: ITEMS });
      const byWorker: number[] = [];
      for (let kill = 1; kill <= kills; kill += 1) {
        byWorker.push(...(await killWorker(mill, system, workers)));
        note(`worker ${kill} of ${kills}: ${summary(byWorker)}`);
      }
      const byLeader: number[] = [];
      const streamAway: number[] = [];
      const nats = await connectNats({ servers: system.url.split(',') });
      const manager = await nats.jetstreamManager();
      for (let kill = 1; kill <= kills; kill += 1) {
        const { keys, stream } = await killLeader(mill, system.cluster, manager);
        byLeader.push(...keys);
        streamAway.push(stream);
        note(
          `leader ${kill} of ${kills}: ${summary(byLeader)}; the stream: ${summary(streamAway)}`,
        );
      }
      await nats.close();
      print(
        `kill -9 of a worker, ${kills} times: a key of its partitions is away ${summary(byWorker)}`,
      );
      print(
        `kill -9 of the leader of the log, ${kills} times: a key is away ${summary(byLeader)}; the stream itself ${summary(streamAway)}`,
      );
      if (jsonFile === undefined) return;
      const result = {
        machine,
        workers,
        servers: 3,
        replicas: 3,
        kills,
        byWorker,
        byLeader,
        streamAway,
      };
      await writeFile(jsonFile, `${JSON.stringify(result, null, 2)}\n`);
      note(`written to ${jsonFile}`);
    },
    { servers: 3 },
  );
}

/** Milliseconds, for each of the worker's partitions. */
async function killWorker(mill: Mill, system: System, workers: number): Promise<number[]> {
  const owning = (await mill.inspect.workers()).filter(({ partitions }) => partitions.length > 0);
  const victim = owning[Math.floor(Math.random() * owning.length)];
  if (victim?.pid == null) throw new Error('no worker owns a partition');
  const keys = await keysOf(mill, victim.partitions);
  process.kill(victim.pid, 'SIGKILL');
  const awayMs = await Promise.all(keys.map(async (key) => away(mill, key)));
  await system.startWorker();
  await allServed(mill, Math.min(workers, PARTITIONS));
  await delay(BETWEEN_MS);
  return awayMs;
}

async function killLeader(
  mill: Mill,
  cluster: BrokerCluster | undefined,
  manager: JetStreamManager,
): Promise<{ keys: number[]; stream: number }> {
  if (cluster === undefined) throw new Error('there is no cluster');
  const all = Array.from({ length: PARTITIONS }, (_, partition) => partition);
  const keys = await keysOf(mill, all);
  const { cluster: group } = await manager.streams.info(LOG_STREAM);
  const leader = cluster.names.indexOf(group?.leader ?? '');
  const server = cluster.servers[leader];
  if (server === undefined) throw new Error('the stream has no leader');
  process.kill(server.pid, 'SIGKILL');
  const [stream, ...awayMs] = await Promise.all([
    streamAway(manager),
    ...keys.map(async (key) => away(mill, key)),
  ]);
  await server.exited;
  await cluster.restart(leader);
  await cluster.ready();
  await caughtUp(manager);
  await delay(BETWEEN_MS);
  return { keys: awayMs, stream };
}

/** Milliseconds until a transaction on the key that was begun after now is committed. */
async function away(mill: Mill, key: string): Promise<number> {
  const startMs = performance.now();
  for (;;) {
    try {
      await mill.invoke('touch', { key }, { timeoutMs: ASK_TIMEOUT_MS });
      return performance.now() - startMs;
    } catch (error) {
      if (performance.now() - startMs >= GIVE_UP_MS) throw error;
      await delay(POLL_MS);
    }
  }
}

/** Milliseconds until the stream has a leader that says so, millrace apart. */
async function streamAway(manager: JetStreamManager): Promise<number> {
  const startMs = performance.now();
  for (;;) {
    // Before the others know that it is gone they name the one that was killed.
    const asked = manager.streams.getMessage(LOG_STREAM, { last_by_subj: 'millrace.log.>' });
    const answered = await Promise.race([
      asked.then(
        () => true,
        () => false,
      ),
      delay(4 * POLL_MS).then(() => false),
    ]);
    if (answered) return performance.now() - startMs;
    if (performance.now() - startMs >= GIVE_UP_MS) throw new Error('the stream does not come back');
  }
}

/** Another server may be killed only when all have what they should have. */
async function caughtUp(manager: JetStreamManager): Promise<void> {
  const giveUpMs = performance.now() + GIVE_UP_MS;
  for (;;) {
    const info = await manager.streams.info(LOG_STREAM).catch(() => undefined);
    const others = info?.cluster?.replicas ?? [];
    const current = others.filter((each) => each.current && !each.offline);
    if (current.length === 2) return;
    if (performance.now() >= giveUpMs) throw new Error('a server does not catch up');
    await delay(POLL_MS);
  }
}

function summary(valuesMs: readonly number[]): string {
  const sorted = valuesMs.toSorted((left, right) => left - right);
  const at = (share: number): number =>
    Math.round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0);
  return `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, at most ${at(1)} ms (${sorted.length})`;
}
