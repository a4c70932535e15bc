/**
 * The main figures of the other benchmarks on one server, and on three with three replicas of everything, in turn in one run: calls, durable
 * events, transactions, kept answers. Beside the events raw JetStream, which replicates as well; the other peers do not. All
 * processes, three servers among them, share this machine's cores and its one disk, which syncs everything three times: three
 * machines have three disks. It does not measure those, or a network.
 */
import { writeFile } from 'node:fs/promises';
import { connect as connectNats } from 'nats';
import type { Mill } from '../src/index.ts';
import { consumeRaw, drained, eventOf, fill, IN_FLIGHT, publish } from './events.ts';
import { closedLoop } from './loop.ts';
import { describeMachine, printMachine, type Machine } from './machine.ts';
import { note, print } from './print.ts';
import { withSystem, type System } from './state-system.ts';
import { measure } from './transfer.ts';
import { sumRequest, type SumReply } from './work.ts';

export interface ClusterOptions {
  workers: number;
  seconds: number;
  rounds: number;
  events: number;
  jsonFile: string | undefined;
}

type Servers = 1 | 3;
interface Row {
  what: string;
  servers: Servers;
  perSecond: number;
  p50Ms?: number;
  p99Ms?: number;
}

const PARTITIONS = 8;
const CALLS_IN_FLIGHT = [64, 512];
const TRANSACTIONS_IN_FLIGHT = 256;
/** The cached function is asked for so many different sums. */
const CACHED_INPUTS = 100;

export async function benchCluster(options: ClusterOptions): Promise<void> {
  const rows: Row[] = [];
  let machine: Machine | undefined;
  for (let round = 1; round <= options.rounds; round += 1) {
    for (const servers of [1, 3] as const) {
      note(`round ${round} of ${options.rounds}, ${servers} server${servers === 1 ? '' : 's'}`);
      const add = (what: string, row: Omit<Row, 'what' | 'servers'>): void =>
        void rows.push({ what, servers, ...row });
      await calls(options, servers, add, async ({ brokerVersion }) => {
        machine ??= await describeMachine(brokerVersion);
      });
      await transactions(options, servers, add);
      await keptAnswers(options, servers, add);
      await events(options, servers, add);
    }
  }
  if (machine !== undefined) printMachine(machine);
  print(`${options.workers} workers; medians of ${options.rounds} rounds`);
  const whats = [...new Set(rows.map(({ what }) => what))];
  print(
    `${''.padEnd(58)}${'ONE'.padStart(9)}${'THREE'.padStart(9)}${'RATIO'.padStart(8)}   P50 / P99 MS`,
  );
  for (const what of whats) print(lineOf(what, rows));
  if (options.jsonFile === undefined) return;
  await writeFile(options.jsonFile, `${JSON.stringify({ machine, options, rows }, null, 2)}\n`);
  note(`written to ${options.jsonFile}`);
}

type Add = (what: string, row: Omit<Row, 'what' | 'servers'>) => void;

async function calls(
  { workers, seconds }: ClusterOptions,
  servers: Servers,
  add: Add,
  also: (system: System) => Promise<void>,
): Promise<void> {
  const run = async (mill: Mill, system: System): Promise<void> => {
    await also(system);
    for (const concurrency of CALLS_IN_FLIGHT) {
      const name = `calls, ${concurrency} in flight`;
      add(name, await asked(mill, 'bench-sum', concurrency, seconds));
    }
  };
  await withSystem(workers, PARTITIONS, run, { functions: 'functions', servers });
}

async function keptAnswers(
  { workers, seconds }: ClusterOptions,
  servers: Servers,
  add: Add,
): Promise<void> {
  const run = async (mill: Mill): Promise<void> =>
    add('calls, kept answers', await asked(mill, 'cached', 64, seconds, CACHED_INPUTS));
  await withSystem(workers, PARTITIONS, run, { functions: 'balance-functions', servers });
}

async function asked(
  mill: Mill,
  name: string,
  concurrency: number,
  seconds: number,
  inputs = Infinity,
): Promise<Omit<Row, 'what' | 'servers'>> {
  const call = async (a: number, b: number): Promise<number> => {
    const request = sumRequest(a % inputs, b % inputs);
    const { sum } = (await mill.invoke(name, request)) as SumReply;
    // What was asked for is looked at by the loop.
    return sum === request.a + request.b ? a + b : Number.NaN;
  };
  const close = async (): Promise<void> => {};
  await closedLoop({ call, close }, { concurrency, seconds: 1 });
  const {
    calls: count,
    errors,
    elapsedMs,
    p50Ms,
    p99Ms,
  } = await closedLoop({ call, close }, { concurrency, seconds });
  if (errors > 0) throw new Error(`${errors} calls of ${name} failed`);
  return { perSecond: (count * 1_000) / elapsedMs, p50Ms, p99Ms };
}

async function transactions(
  { workers, seconds }: ClusterOptions,
  servers: Servers,
  add: Add,
): Promise<void> {
  const run = async (mill: Mill): Promise<void> => {
    for (const keys of [1, 2]) {
      const bump = async (chosen: string[]): Promise<unknown> =>
        mill.invoke('bump', { keys: chosen }, { retry: false, key: chosen[0] as string });
      const kind = { system: 'millrace', partitions: PARTITIONS, keys, skew: 'uniform' } as const;
      const load = { concurrency: TRANSACTIONS_IN_FLIGHT, seconds };
      const row = await measure(bump, load, { ...kind, exactlyOnce: false });
      if (row.refused > 0) throw new Error(`${row.refused} transactions were refused`);
      const { perSecond, p50Ms, p99Ms } = row;
      add(`transactions of ${keys} key${keys === 1 ? '' : 's'}`, { perSecond, p50Ms, p99Ms });
    }
  };
  await withSystem(workers, PARTITIONS, run, { servers });
}

async function events(options: ClusterOptions, servers: Servers, add: Add): Promise<void> {
  const { workers, events: count } = options;
  const third = Math.round(count / 3);
  const per = (events: number, ms: number): { perSecond: number } => ({
    perSecond: (events * 1_000) / ms,
  });
  const before = async (url: string): Promise<void> => {
    const nats = await connectNats({ servers: url.split(',') });
    await fill(nats, 'bench.count', count, servers);
    add('events: backlog, raw JetStream', per(count, await consumeRaw(nats, count)));
    const manager = await nats.jetstreamManager();
    await manager.streams.add({ name: 'RAW', subjects: ['raw'], num_replicas: servers });
    const stream = nats.jetstream();
    const startMs = performance.now();
    let next = 0;
    const loop = async (): Promise<void> => {
      while (next < third) {
        next += 1;
        await stream.publish('raw', JSON.stringify(eventOf(next)));
      }
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, loop));
    add('events: published, raw JetStream', per(third, performance.now() - startMs));
    await nats.close();
  };
  const run = async (mill: Mill): Promise<void> => {
    const backlog = 'events: backlog, one counter each, exactly once';
    const { events: handled, ms } = await drained(mill, 'count', count);
    add(backlog, per(handled, ms));
    const startMs = performance.now();
    await publish(mill, 'bench.ignore', third);
    add('events: published', per(third, performance.now() - startMs));
    await drained(mill, 'ignore', third);
    add('events: published and handled', per(third, performance.now() - startMs));
  };
  await withSystem(workers, PARTITIONS, run, { functions: 'event-functions', before, servers });
}

function lineOf(what: string, rows: readonly Row[]): string {
  const of = (servers: Servers, field: 'perSecond' | 'p50Ms' | 'p99Ms'): number =>
    median(
      rows.flatMap((row) =>
        row.what === what && row.servers === servers ? (row[field] ?? []) : [],
      ),
    );
  const [one, three] = [of(1, 'perSecond'), of(3, 'perSecond')];
  const times = ([1, 3] as const)
    .map((servers) => `${of(servers, 'p50Ms').toFixed(1)} / ${of(servers, 'p99Ms').toFixed(1)}`)
    .join(' → ');
  const cells = [Math.round(one), Math.round(three)].map((each) => String(each).padStart(9));
  const ratio = (three / one).toFixed(2).padStart(8);
  return `${what.padEnd(58)}${cells.join('')}${ratio}   ${times.includes('NaN') ? '' : times}`;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
