/**
 * Serializable transactions: each adds one to some of 10,000 counters, wherever they lie. Broker (every append fsynced),
 * workers and one client on this machine. It does not measure: several machines or replicas, values larger than a
 * number, handlers that do anything else. Beside it PostgreSQL (peers/postgres.ts) makes the same changes on the same disk, called
 * without a function platform in between: its calls are less work.
 */
import { writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { startBenchBroker } from './broker.ts';
import { describeMachine, printMachine } from './machine.ts';
import { startPostgres, WAYS, type Way } from './peers/postgres.ts';
import { installPeers } from './install-peers.ts';
import { note, print } from './print.ts';
import { withSystem } from './state-system.ts';

const COUNTERS = 10_000;
const ZIPF = 0.99;
const WARM_UP_MS = 2_000;

export interface TransferOptions {
  workers: number;
  concurrency: number;
  seconds: number;
  partitions: readonly number[];
  keys: readonly number[];
  /** Measure PostgreSQL as well. */
  postgres: boolean;
  jsonFile: string | undefined;
}

interface Row {
  system: 'millrace' | `PostgreSQL, ${Way}`;
  /** 0 where there are none. */
  partitions: number;
  keys: number;
  skew: 'uniform' | 'zipf 0.99';
  /** `false`: the call is sent once; otherwise its answer is kept, as one more write. */
  exactlyOnce: boolean;
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  refused: number;
}

export async function benchTransfer(options: TransferOptions): Promise<void> {
  const rows: Row[] = [];
  const broker = await startBenchBroker();
  const machine = await describeMachine(broker.version);
  await broker.stop();
  printMachine(machine);
  print(`${options.workers} workers, ${options.concurrency} in flight, ${COUNTERS} counters`);
  print(
    'SYSTEM                       PARTITIONS  KEYS  SKEW       ANSWERS KEPT   PER SECOND   P50 MS   P99 MS   REFUSED',
  );
  for (const partitions of options.partitions) {
    await withSystem(options.workers, partitions, async (mill) => {
      const measured = async (
        keys: number,
        skew: Row['skew'],
        exactlyOnce: boolean,
      ): Promise<void> => {
        const bump = async (chosen: string[]): Promise<unknown> =>
          mill.invoke('bump', { keys: chosen }, { retry: exactlyOnce, key: chosen[0] as string });
        const kind = { system: 'millrace', partitions, keys, skew, exactlyOnce } as const;
        rows.push(await measure(bump, options, kind));
      };
      for (const keys of options.keys) await measured(keys, 'uniform', false);
      await measured(2, 'uniform', true);
      await measured(2, 'zipf 0.99', false);
    });
  }
  if (options.postgres) rows.push(...(await besideIt(options)));
  if (options.jsonFile !== undefined) {
    await writeFile(options.jsonFile, `${JSON.stringify({ machine, options, rows }, null, 2)}\n`);
    note(`written to ${options.jsonFile}`);
  }
}

async function besideIt(options: TransferOptions): Promise<Row[]> {
  await installPeers();
  const postgres = await startPostgres(COUNTERS);
  if (postgres === undefined) return [];
  const rows: Row[] = [];
  try {
    for (const way of WAYS) {
      for (const skew of ['uniform', 'zipf 0.99'] as const) {
        const bump = async (keys: string[]): Promise<void> => postgres.bump(way, keys);
        const system = `PostgreSQL, ${way}` as const;
        const kind = { system, partitions: 0, keys: 2, skew, exactlyOnce: false };
        rows.push(await measure(bump, options, kind));
      }
    }
  } finally {
    await postgres.stop();
  }
  return rows;
}

export async function measure(
  bump: (keys: string[]) => Promise<unknown>,
  { concurrency, seconds }: Pick<TransferOptions, 'concurrency' | 'seconds'>,
  kind: Pick<Row, 'system' | 'partitions' | 'keys' | 'skew' | 'exactlyOnce'>,
): Promise<Row> {
  const { system, partitions, keys, skew, exactlyOnce } = kind;
  const pick = skew === 'uniform' ? () => Math.floor(Math.random() * COUNTERS) : zipf();
  const latencies: number[] = [];
  let refused = 0;
  const phase = { measuring: false, stopped: false };
  const loop = async (): Promise<void> => {
    while (!phase.stopped) {
      const chosen = new Set<string>();
      while (chosen.size < keys) chosen.add(`counter-${pick()}`);
      const startMs = performance.now();
      const failed = await bump([...chosen]).then(
        () => false,
        () => true,
      );
      if (!phase.measuring) continue;
      if (failed) refused += 1;
      else latencies.push(performance.now() - startMs);
    }
  };
  const loops = Array.from({ length: concurrency }, loop);
  await delay(WARM_UP_MS);
  phase.measuring = true;
  const startMs = performance.now();
  await delay(seconds * 1_000);
  phase.measuring = false;
  const elapsedMs = performance.now() - startMs;
  phase.stopped = true;
  await Promise.all(loops);
  latencies.sort((left, right) => left - right);
  const at = (share: number): number => latencies[Math.floor(latencies.length * share)] ?? 0;
  const row: Row = {
    ...kind,
    perSecond: Math.round((latencies.length * 1_000) / elapsedMs),
    p50Ms: Math.round(at(0.5) * 10) / 10,
    p99Ms: Math.round(at(0.99) * 10) / 10,
    refused,
  };
  print(
    [
      system.padEnd(27),
      (partitions === 0 ? '' : String(partitions)).padStart(12),
      String(keys).padStart(6),
      `  ${skew.padEnd(10)}`,
      (exactlyOnce ? 'yes' : 'no').padStart(13),
      String(row.perSecond).padStart(13),
      row.p50Ms.toFixed(1).padStart(9),
      row.p99Ms.toFixed(1).padStart(9),
      String(refused).padStart(10),
    ].join(''),
  );
  return row;
}

/** Ranks are spread over the counters, so that the hot ones do not lie side by side. */
function zipf(): () => number {
  const cumulative: number[] = [];
  let sum = 0;
  for (let rank = 1; rank <= COUNTERS; rank += 1) {
    sum += 1 / rank ** ZIPF;
    cumulative.push(sum);
  }
  return () => {
    const wanted = Math.random() * sum;
    let low = 0;
    let high = COUNTERS - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((cumulative[middle] as number) < wanted) low = middle + 1;
      else high = middle;
    }
    return (low * 7_919) % COUNTERS;
  };
}
