/**
 * Durable events of about 128 bytes, every append of the broker synced to the disk, or by NATS's default (`--sync default`). It does not measure: several machines or
 * replicas, handlers that do anything, events without a key that write state, many functions.
 *
 * - Backlog: a stream is filled, then workers start; from when some are handled to the last.
 * - Flow: one client publishes with 512 under way and waits for each acknowledgement, functions handle meanwhile; from the
 *   first publish to the last event handled. Publishing waits for the disk, event by event.
 * - Latency: 1,000 events a second at a steady pace, from publish to the event that the transaction emits: a way more.
 * - pg-boss: the same backlog on PostgreSQL with its defaults (one sync for each transaction), a third as many events.
 */
import { writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectNats, StorageType, type NatsConnection } from 'nats';
import type { Mill } from '../src/index.ts';
import { startBenchBroker, type Sync } from './broker.ts';
import { installPeers } from './install-peers.ts';
import { describeMachine, printMachine } from './machine.ts';
import { note, print } from './print.ts';
import { runPgBoss } from './peers/pg-boss.ts';
import { withSystem } from './state-system.ts';

const PARTITIONS = 8;
const KEYS = 10_000;
export const IN_FLIGHT = 512;
const FILL_BATCH = 500;
const PADDING = 'x'.repeat(80);
const PACE_PER_SECOND = 1_000;
const PACE_SECONDS = 5;
const TICK_MS = 10;
const POLL_MS = 50;
const PULL = 1_000;

export interface EventOptions {
  workers: number;
  events: number;
  sync: Sync;
  jsonFile: string | undefined;
}

interface Row {
  what: string;
  perSecond: number;
}

export const eventOf = (index: number): { key: string; pad: string } => ({
  key: `k${(index * 7_919) % KEYS}`,
  pad: PADDING,
});

export async function benchEvents(options: EventOptions): Promise<void> {
  const { workers, events, sync, jsonFile } = options;
  await installPeers();
  const broker = await startBenchBroker();
  const machine = await describeMachine(broker.version);
  await broker.stop();
  printMachine(machine);
  print(`${workers} workers, ${events} events, sync ${sync}`);
  const rows: Row[] = [];
  const say = (what: string, count: number, ms: number): void => {
    const perSecond = Math.round((count * 1_000) / ms);
    rows.push({ what, perSecond });
    print(`${what.padEnd(56)}${String(perSecond).padStart(8)}/s`);
  };
  for (const name of ['count', 'ignore']) {
    const what = name === 'count' ? 'one keyed counter each, exactly once' : 'without state';
    let rawMs = 0;
    const before = async (url: string): Promise<void> => {
      const nats = await connectNats({ servers: url });
      await fill(nats, `bench.${name}`, events);
      rawMs = await consumeRaw(nats, events);
      await nats.close();
    };
    const run = async (mill: Mill): Promise<void> => {
      const { events: handled, ms } = await drained(mill, name, events);
      say(`backlog, ${what}`, handled, ms);
    };
    await withSystem(workers, PARTITIONS, run, { functions: 'event-functions', before, sync });
    say('backlog, raw JetStream pull consumer with acks', events, rawMs);
  }
  let latency = { p50Ms: 0, p99Ms: 0 };
  await withSystem(
    workers,
    PARTITIONS,
    async (mill, { url }) => {
      for (const name of ['count', 'ignore']) {
        const count = Math.round(events / 3);
        const what = name === 'count' ? 'one keyed counter each, exactly once' : 'without state';
        const startMs = performance.now();
        await publish(mill, `bench.${name}`, count);
        say(`published, ${IN_FLIGHT} under way`, count, performance.now() - startMs);
        await drained(mill, name, count);
        say(`flow, ${what}`, count, performance.now() - startMs);
      }
      latency = await latencyOf(mill, url);
      const { p50Ms, p99Ms } = latency;
      print(
        `${PACE_PER_SECOND}/s, publish to committed and said: p50 ${p50Ms} ms, p99 ${p99Ms} ms`,
      );
    },
    { functions: 'event-functions', sync },
  );
  const third = Array.from({ length: Math.round(events / 3) }, (_, index) => eventOf(index));
  const pgBoss = await runPgBoss(KEYS, third);
  if (pgBoss !== undefined) {
    say('pg-boss: backlog, one counter each, exactly once', third.length, pgBoss.backlogMs);
    say('pg-boss: published, 32 under way', third.length, pgBoss.publishMs);
  }
  if (jsonFile === undefined) return;
  await writeFile(jsonFile, `${JSON.stringify({ machine, options, rows, latency }, null, 2)}\n`);
  note(`written to ${jsonFile}`);
}

/** Without waiting for each: as fast as the stream takes them. */
export async function fill(
  nats: NatsConnection,
  subject: string,
  count: number,
  replicas = 1,
): Promise<void> {
  const manager = await nats.jetstreamManager();
  await manager.streams.add({
    name: 'BENCH',
    subjects: ['bench.>'],
    storage: StorageType.File,
    num_replicas: replicas,
  });
  const stored = async (): Promise<number> => (await manager.streams.info('BENCH')).state.messages;
  for (let index = 0; index < count; index += 1) {
    nats.publish(subject, JSON.stringify(eventOf(index)));
    if (index % FILL_BATCH !== FILL_BATCH - 1) continue;
    // It forgets what comes faster than it can store.
    while ((await stored()) < index + 1 - FILL_BATCH) await delay(1);
  }
  while ((await stored()) < count) await delay(POLL_MS);
}

export async function consumeRaw(nats: NatsConnection, count: number): Promise<number> {
  const manager = await nats.jetstreamManager();
  await manager.consumers.add('BENCH', {
    durable_name: 'raw',
    ack_policy: 'explicit' as never,
    max_ack_pending: PULL * 4,
  });
  const consumer = await nats.jetstream().consumers.get('BENCH', 'raw');
  const messages = await consumer.consume({ max_messages: PULL });
  const startMs = performance.now();
  let left = count;
  for await (const message of messages) {
    message.json();
    message.ack();
    left -= 1;
    if (left === 0) break;
  }
  await nats.flush();
  return performance.now() - startMs;
}

export async function publish(mill: Mill, subject: string, count: number): Promise<void> {
  let next = 0;
  const loop = async (): Promise<void> => {
    while (next < count) {
      const index = next;
      next += 1;
      await mill.publish(subject, eventOf(index));
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, loop));
}

/** From when some are handled until all are: how many that were, and how long it took. */
export async function drained(
  mill: Mill,
  name: string,
  count: number,
): Promise<{ events: number; ms: number }> {
  let from: { calls: number; atMs: number } | undefined;
  for (;;) {
    const now = (await mill.inspect.functions().catch(() => [])).find((each) => each.name === name);
    const [calls, atMs] = [now?.calls ?? 0, performance.now()];
    // Workers begin before all of them are ready.
    if (calls > 0) from ??= { calls, atMs };
    if (now !== undefined && calls >= count && now.pending === 0) {
      const begun = from ?? { calls, atMs };
      return { events: calls - begun.calls, ms: atMs - begun.atMs };
    }
    await delay(POLL_MS);
  }
}

async function latencyOf(mill: Mill, url: string): Promise<{ p50Ms: number; p99Ms: number }> {
  const nats = await connectNats({ servers: url });
  const latencies: number[] = [];
  nats.subscribe('bench-done', {
    callback: (_, message) => {
      latencies.push(performance.now() - message.json<{ sentMs: number }>().sentMs);
    },
  });
  const total = PACE_PER_SECOND * PACE_SECONDS;
  const startMs = performance.now();
  for (let sent = 0; sent < total;) {
    const due = Math.min(total, ((performance.now() - startMs) * PACE_PER_SECOND) / 1_000);
    for (; sent < due; sent += 1) {
      const sentMs = performance.now();
      void mill.publish('bench.timed', { ...eventOf(sent), sentMs });
    }
    await delay(TICK_MS);
  }
  while (latencies.length < total) await delay(POLL_MS);
  await nats.close();
  latencies.sort((left, right) => left - right);
  const at = (share: number): number =>
    Number((latencies[Math.floor(latencies.length * share)] ?? Number.NaN).toFixed(1));
  return { p50Ms: at(0.5), p99Ms: at(0.99) };
}
