/**
 * Measures the logs of subjects on a broker of its own: `tsx bench/subject-log.ts`. One process writes and reads, on the
 * same machine as the broker; it does not measure a network, replicas, or a disk that others use.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findBroker, startBroker } from '../src/broker/index.ts';
import { Bus } from '../src/bus/connection.ts';
import { LogStreams } from '../src/bus/log-streams.ts';
import { parseSettings } from '../src/core/settings.ts';
import { closeWithChecksum } from '../src/core/state/whole.ts';

const PARTITIONS = 32;
const APPEND_BYTES = 2_048;
const APPEND_MS = 5_000;
const REPLAY_MESSAGES = 200_000;
const REPLAY_BYTES = 128;
const CONFIRMATIONS = 3_000;
const CONFIG = fileURLToPath(new URL('../config/nats-server.conf', import.meta.url));

async function withStreams(
  synced: boolean,
  measure: (streams: LogStreams, bus: Bus) => Promise<void>,
): Promise<void> {
  const storeDir = await mkdtemp(join(tmpdir(), 'millrace-bench-'));
  const configFile = join(storeDir, 'server.conf');
  const config = await readFile(CONFIG, 'utf8');
  await writeFile(configFile, synced ? config : config.replace('sync_interval: always', ''));
  const broker = await startBroker({ binary: await findBroker({}), port: 0, storeDir, configFile });
  const bus = await Bus.open({ servers: broker.url, name: 'bench', namespace: 'millrace' });
  const streams = await LogStreams.open(bus, parseSettings());
  try {
    await measure(streams, bus);
  } finally {
    streams.close();
    await bus.close();
    await broker.stop();
    await rm(storeDir, { recursive: true, force: true });
  }
}

function print(what: string, perSecond: number, latenciesMs?: number[]): void {
  const sorted = latenciesMs?.toSorted((left, right) => left - right) ?? [];
  const at = (share: number): string => (sorted[Math.floor(sorted.length * share)] ?? 0).toFixed(2);
  const latency = sorted.length === 0 ? '' : `, p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`;
  process.stdout.write(`${what}: ${Math.round(perSecond)}/s${latency}\n`);
}

async function appends(streams: LogStreams, what: string): Promise<void> {
  const bytes = closeWithChecksum(Buffer.alloc(APPEND_BYTES, 1));
  const latenciesMs: number[] = [];
  const until = performance.now() + APPEND_MS;
  await Promise.all(
    Array.from({ length: PARTITIONS }, async (_, partition) => {
      const log = streams.journal(String(partition));
      let sequence = 0;
      while (performance.now() < until) {
        const start = performance.now();
        sequence = await log.append(bytes, sequence);
        latenciesMs.push(performance.now() - start);
      }
    }),
  );
  print(what, (latenciesMs.length * 1_000) / APPEND_MS, latenciesMs);
}

async function confirmations(streams: LogStreams, atOnce: number): Promise<void> {
  const latenciesMs: number[] = [];
  const start = performance.now();
  await Promise.all(
    Array.from({ length: atOnce }, async (_, partition) => {
      const log = streams.journal(String(partition));
      const sequence = (await log.last())?.sequence ?? 0;
      for (let count = 0; count < CONFIRMATIONS / atOnce; count += 1) {
        const asked = performance.now();
        if (!(await log.confirm(sequence))) throw new Error('not confirmed');
        latenciesMs.push(performance.now() - asked);
      }
    }),
  );
  const perSecond = (latenciesMs.length * 1_000) / (performance.now() - start);
  print(`confirm, ${atOnce} at once`, perSecond, latenciesMs);
}

async function replay(streams: LogStreams, bus: Bus): Promise<void> {
  const bytes = closeWithChecksum(Buffer.alloc(REPLAY_BYTES, 1));
  for (let count = 1; count <= REPLAY_MESSAGES; count += 1) {
    bus.publish('millrace.log.journal-99', bytes);
    if (count % 2_000 === 0) await bus.flush();
  }
  const log = streams.journal('99');
  let last = 0;
  let before = -1;
  // Stored without acknowledgements: all are there when no more come.
  while (last !== before) {
    before = last;
    await new Promise((resolve) => setTimeout(resolve, 500));
    last = await log.lastSequence();
  }
  for (let run = 0; run < 3; run += 1) {
    let count = 0;
    const start = performance.now();
    await log.read(1, last, () => {
      count += 1;
    });
    print(`replay of ${count} × ${REPLAY_BYTES} B`, (count * 1_000) / (performance.now() - start));
  }
}

await withStreams(true, async (streams) => {
  await appends(streams, `${PARTITIONS} partitions × 1 append of ${APPEND_BYTES} B, each synced`);
  await confirmations(streams, 1);
  await confirmations(streams, PARTITIONS);
});
await withStreams(false, async (streams, bus) => {
  await appends(streams, `the same, not synced`);
  await replay(streams, bus);
});
