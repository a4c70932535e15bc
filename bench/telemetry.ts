/**
 * What telemetry costs: the same calls with it off, on as it is by default (traces sent, at most 100 begun a second in each process;
 * metrics read once a second), and on with every trace kept. Each measurement has a broker and a worker of its own, because two processes
 * that do the same differ by a fifth here, as long as they live; ratios are of medians over the rounds. It does not measure the collector, which swallows what it is sent, nor handlers that take their time.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { writeFile } from 'node:fs/promises';
import { connect, type Mill, type SettingsInput } from '../src/index.ts';
import { startBenchBroker } from './broker.ts';
import { closedLoop } from './loop.ts';
import { describeMachine, printMachine } from './machine.ts';
import { note, print } from './print.ts';
import { processCpuMs } from './proc.ts';
import { callsPerSecond, median } from './results.ts';
import { withSystem } from './state-system.ts';
import { sumRequest, type SumReply } from './work.ts';

export interface TelemetryBenchOptions {
  seconds: number;
  rounds: number;
  jsonFile: string | undefined;
}

const PARTITIONS = 8;
const SCRAPE_MS = 1_000;
const WARM_SECONDS = 1;
const KEYS = 10_000;
const ALL_TRACES = 1_000_000;
const FUNCTIONS = 'balance-functions';

/** Reads what it is sent and forgets it, in a process of its own; prints its port. */
const COLLECTOR = `
const server = require('node:http').createServer((request, response) => {
  request.resume().on('end', () => response.end('{}'));
});
server.listen(0, '127.0.0.1', () => process.stdout.write(String(server.address().port)));
process.once('disconnect', () => process.exit());
`;

type Call = (mill: Mill, a: number, b: number) => Promise<number>;
const WORK: readonly { what: string; inFlight: number; call: Call }[] = [
  {
    what: 'calls, 512 in flight',
    inFlight: 512,
    call: async (mill, a, b) => ((await mill.invoke('random', sumRequest(a, b))) as SumReply).sum,
  },
  {
    what: 'transactions of one key, 256 in flight',
    inFlight: 256,
    call: async (mill, a, b) => {
      await mill.invoke('deposit', { key: `k${(a * 7_919) % KEYS}` });
      return a + b;
    },
  },
];

interface Way {
  name: string;
  /** Undefined where telemetry is off. */
  settings?: SettingsInput;
}

interface Measurement {
  perSecond: number;
  cpuUsPerCall: number;
  p99Ms: number;
}

interface Sample extends Measurement {
  name: string;
  what: string;
}

export async function benchTelemetry({
  seconds,
  rounds,
  jsonFile,
}: TelemetryBenchOptions): Promise<void> {
  const broker = await startBenchBroker();
  const machine = await describeMachine(broker.version);
  await broker.stop();
  printMachine(machine);
  const collector = spawn(process.execPath, ['-e', COLLECTOR], {
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  });
  const [port] = (await once(collector.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
  const endpoint = `http://127.0.0.1:${port.toString()}`;
  const ways: readonly Way[] = [
    { name: 'off' },
    { name: 'on', settings: { tracesEndpoint: endpoint } },
    {
      name: 'all traces kept',
      settings: { tracesEndpoint: endpoint, maxTracesPerSecond: ALL_TRACES },
    },
  ];
  const samples: Sample[] = [];
  try {
    for (let round = 0; round < rounds; round += 1) {
      // Another one begins each time.
      for (let turn = 0; turn < ways.length; turn += 1) {
        const way = ways[(round + turn) % ways.length] as Way;
        await sampleAll(way, seconds, samples);
        note(`round ${round + 1}, ${way.name}`);
      }
    }
  } finally {
    collector.disconnect();
  }
  const rows = WORK.flatMap(({ what }) => rowsOf(what, samples));
  if (jsonFile === undefined) return;
  await writeFile(jsonFile, `${JSON.stringify({ machine, seconds, rounds, rows }, null, 2)}\n`);
  note(`written to ${jsonFile}`);
}

async function sampleAll(
  { name, settings }: Way,
  seconds: number,
  samples: Sample[],
): Promise<void> {
  const isOn = settings !== undefined;
  const port = await freePort();
  const run = async (_: Mill, { url }: { url: string }): Promise<void> => {
    const telemetry = isOn ? {} : { traces: false };
    await using mill = await connect({ servers: url, telemetry, settings: settings ?? {} });
    const metrics = isOn ? `http://127.0.0.1:${port}/metrics` : undefined;
    for (const { what, inFlight, call } of WORK) {
      await measured(mill, undefined, call, inFlight, WARM_SECONDS);
      samples.push({ name, what, ...(await measured(mill, metrics, call, inFlight, seconds)) });
    }
  };
  const args = isOn ? ['--metrics-port', String(port)] : [];
  await withSystem(1, PARTITIONS, run, { functions: FUNCTIONS, settings: settings ?? {}, args });
}

function rowsOf(what: string, samples: readonly Sample[]): object[] {
  print(`\n${what}`);
  const medianOf = (name: string, key: keyof Measurement): number =>
    median(
      samples.filter((each) => each.what === what && each.name === name).map((each) => each[key]),
    );
  return [...new Set(samples.map(({ name }) => name))].map((name) => {
    const ratioOf = (key: keyof Measurement): number =>
      rounded(medianOf(name, key) / medianOf('off', key));
    const row = {
      what,
      name,
      perSecond: medianOf(name, 'perSecond'),
      ratio: ratioOf('perSecond'),
      cpuUsPerCall: medianOf(name, 'cpuUsPerCall'),
      cpuRatio: ratioOf('cpuUsPerCall'),
      p99Ms: medianOf(name, 'p99Ms'),
    };
    print(
      `${name.padEnd(16)} ${String(row.perSecond).padStart(7)}/s  ${row.ratio.toFixed(2)} × off  ${row.cpuUsPerCall} µs CPU a call (${row.cpuRatio.toFixed(2)} ×)  p99 ${row.p99Ms} ms`,
    );
    return row;
  });
}

async function measured(
  mill: Mill,
  metrics: string | undefined,
  call: Call,
  concurrency: number,
  seconds: number,
): Promise<Measurement> {
  const pids = (await mill.inspect.workers()).flatMap(({ pid }) => pid ?? []);
  const cpuOf = (): number => pids.reduce((sum, pid) => sum + (processCpuMs(pid) ?? 0), 0);
  const scraping = setInterval(() => {
    if (metrics !== undefined) void fetch(metrics).then((response) => response.text());
  }, SCRAPE_MS);
  const before = cpuOf();
  const peer = { call: (a: number, b: number) => call(mill, a, b), close: async () => {} };
  const result = await closedLoop(peer, { concurrency, seconds });
  clearInterval(scraping);
  if (result.errors > 0) throw new Error(result.firstError);
  return {
    perSecond: Math.round(callsPerSecond(result)),
    cpuUsPerCall: rounded(((result.cpuMs + cpuOf() - before) * 1_000) / result.calls),
    p99Ms: rounded(result.p99Ms),
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
