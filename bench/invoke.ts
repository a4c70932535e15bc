import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { BenchProcess, type ProcessSetup } from './bench-process.ts';
import { startBenchBroker, type BenchBroker } from './broker.ts';
import { buildChild } from './build-child.ts';
import { Cleanup } from './cleanup.ts';
import { installPeers } from './install-peers.ts';
import { describeMachine, printMachine } from './machine.ts';
import { NOOP, PEERS, type PeerInfo } from './peers/index.ts';
import { note, print } from './print.ts';
import { processCpuMs } from './proc.ts';
import { NOT_MEASURED, printTable } from './report.ts';
import { callsPerSecond, toRow, type Sample } from './results.ts';
import type { Load, Measured } from './protocol.ts';

export interface InvokeOptions {
  readonly seconds: number;
  readonly rounds: number;
  readonly concurrency: readonly number[];
  readonly only: readonly string[] | undefined;
  readonly jsonFile: string | undefined;
  readonly profileDir: string | undefined;
}

interface Pair {
  readonly caller: BenchProcess;
  readonly worker: BenchProcess;
}

const REACH_MS = 20_000;
const ASK_MS = 5_000;
/** How long a measurement may take beyond its seconds: calls in flight at the deadline time out after 10 s. */
const GRACE_MS = 15_000;
const WARM_UP_SECONDS = 1;
const BASELINE: Load = { concurrency: 64, seconds: 1 };

export async function benchInvoke(options: InvokeOptions): Promise<void> {
  const peers = PEERS.filter(({ name }) => options.only?.includes(name) ?? true);
  if (peers.some(({ name }) => name === 'moleculer')) await installPeers();
  const cleanup = new Cleanup();
  try {
    const broker = await startBenchBroker();
    cleanup.add(() => broker.stop());
    const setup = {
      childFile: await buildChild(),
      url: broker.url,
      profileDir: options.profileDir === undefined ? undefined : resolve(options.profileDir),
    };
    const machine = await describeMachine(broker.version);
    const loop = await measureLoop({ ...setup, profileDir: undefined }, cleanup);
    const failures = new Map<string, string>();
    const pairs = await startPeers(peers, setup, failures, cleanup);
    const samples = await measureAll(pairs, broker, options, failures, cleanup);

    const rows = options.concurrency.flatMap((concurrency) =>
      peers.flatMap(({ name }) => toRow(name, concurrency, samples) ?? []),
    );
    printMachine(machine);
    print(
      `${options.rounds} rounds of ${options.seconds} s, interleaved; medians over the rounds.`,
    );
    print(`CPU µs: caller + worker for a call. The loop itself takes ${loop.toFixed(2)} µs of it.`);
    for (const concurrency of options.concurrency) printTable(concurrency, peers, rows, failures);
    print(`\n${NOT_MEASURED}`);
    await writeJson(options.jsonFile, {
      machine,
      seconds: options.seconds,
      rounds: options.rounds,
      loopUsPerCall: loop,
      failures: Object.fromEntries(failures),
      rows,
      samples,
    });
  } finally {
    await cleanup.run();
  }
}

/** What the closed loop costs by itself, in µs a call. */
async function measureLoop(setup: ProcessSetup, cleanup: Cleanup): Promise<number> {
  const caller = await BenchProcess.start(setup, 'caller', NOOP);
  cleanup.add(() => caller.stop());
  await measure(caller, BASELINE);
  const { cpuMs, calls } = await measure(caller, BASELINE);
  await caller.stop();
  return (cpuMs * 1_000) / calls;
}

async function startPeers(
  peers: readonly PeerInfo[],
  setup: ProcessSetup,
  failures: Map<string, string>,
  cleanup: Cleanup,
): Promise<Map<string, Pair>> {
  const pairs = new Map<string, Pair>();
  for (const { name, missing } of peers) {
    const reason = missing?.();
    if (reason !== undefined) {
      failures.set(name, reason);
      continue;
    }
    try {
      const worker = await BenchProcess.start(setup, 'worker', name);
      cleanup.add(() => worker.stop());
      const caller = await BenchProcess.start(setup, 'caller', name);
      cleanup.add(() => caller.stop());
      await caller.ask('reach', { withinMs: REACH_MS }, REACH_MS + ASK_MS);
      pairs.set(name, { caller, worker });
    } catch (error) {
      cleanup.throwIfInterrupted();
      failures.set(name, String(error));
    }
  }
  return pairs;
}

/** Rounds outermost, and in each the order rotated: a drift of the machine falls on every peer alike. */
async function measureAll(
  pairs: Map<string, Pair>,
  broker: BenchBroker,
  options: InvokeOptions,
  failures: Map<string, string>,
  cleanup: Cleanup,
): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (let round = 0; round < options.rounds; round += 1) {
    for (const [at, concurrency] of options.concurrency.entries()) {
      const load = { concurrency, seconds: options.seconds };
      for (const [peer, pair] of rotated([...pairs], round + at)) {
        try {
          const sample = { peer, round, concurrency, ...(await sampleOf(pair, broker, load)) };
          samples.push(sample);
          progress(sample);
        } catch (error) {
          cleanup.throwIfInterrupted();
          failures.set(peer, String(error));
          pairs.delete(peer);
        }
      }
    }
  }
  return samples;
}

async function sampleOf({ caller, worker }: Pair, broker: BenchBroker, load: Load) {
  await measure(caller, { ...load, seconds: WARM_UP_SECONDS });
  const workerBefore = await worker.ask('cpu', null, ASK_MS);
  const brokerBefore = processCpuMs(broker.pid);
  const measured = await measure(caller, load);
  const brokerAfter = processCpuMs(broker.pid);
  const workerAfter = await worker.ask('cpu', null, ASK_MS);
  if (measured.calls === 0) throw new Error(measured.firstError ?? 'not one call was answered');
  return {
    ...measured,
    workerCpuMs: workerAfter.cpuMs - workerBefore.cpuMs,
    brokerCpuMs:
      brokerBefore === undefined || brokerAfter === undefined
        ? undefined
        : brokerAfter - brokerBefore,
  };
}

function measure(caller: BenchProcess, load: Load): Promise<Measured> {
  return caller.ask('measure', load, load.seconds * 1_000 + GRACE_MS);
}

function rotated<T>(items: readonly T[], by: number): T[] {
  const at = items.length === 0 ? 0 : by % items.length;
  return [...items.slice(at), ...items.slice(0, at)];
}

function progress(sample: Sample): void {
  const rate = Math.round(callsPerSecond(sample));
  const errors = sample.errors === 0 ? '' : `, ${sample.errors} errors: ${sample.firstError}`;
  note(
    `round ${sample.round + 1}, ${sample.concurrency} in flight, ${sample.peer}: ${rate}/s${errors}`,
  );
}

async function writeJson(file: string | undefined, value: unknown): Promise<void> {
  if (file === undefined) return;
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, `${JSON.stringify(value, null, 2)}\n`);
  note(`written: ${file}`);
}
