/** Moleculer's own strategies of the same names, as callers of two workers of its own: beside ours in the same run. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { BenchProcess } from './bench-process.ts';
import { buildChild } from './build-child.ts';
import { installPeers } from './install-peers.ts';
import type { Load, Measured } from './protocol.ts';

/** By the name that ours has. `CpuUsage` is its only one that follows load. */
const STRATEGIES = { random: 'Random', 'round-robin': 'RoundRobin', 'least-loaded': 'CpuUsage' };
const WORKERS = 2;
const REACH_MS = 20_000;
const ASK_MS = 5_000;
const GRACE_MS = 15_000;

export interface PeerSample extends Measured {
  workerCpuMs: number;
}

export class MoleculerStrategies {
  readonly names: readonly string[];
  readonly #workers: readonly BenchProcess[];
  readonly #callers: ReadonlyMap<string, BenchProcess>;

  private constructor(
    workers: readonly BenchProcess[],
    callers: ReadonlyMap<string, BenchProcess>,
  ) {
    this.#workers = workers;
    this.#callers = callers;
    this.names = [...callers.keys()];
  }

  /** Undefined where Moleculer cannot be installed. */
  static async start(url: string): Promise<MoleculerStrategies | undefined> {
    await installPeers();
    const installed = fileURLToPath(
      new URL('./peers/node_modules/moleculer/package.json', import.meta.url),
    );
    if (!existsSync(installed)) return undefined;
    const setup = { childFile: await buildChild(), url, profileDir: undefined };
    const workers: BenchProcess[] = [];
    const callers = new Map<string, BenchProcess>();
    const started = new MoleculerStrategies(workers, callers);
    try {
      for (let count = 0; count < WORKERS; count += 1) {
        workers.push(await BenchProcess.start(setup, 'worker', 'moleculer'));
      }
      for (const [name, strategy] of Object.entries(STRATEGIES)) {
        const env = { MOLECULER_STRATEGY: strategy };
        const caller = await BenchProcess.start({ ...setup, env }, 'caller', 'moleculer');
        callers.set(name, caller);
        await caller.ask('reach', { withinMs: REACH_MS }, REACH_MS + ASK_MS);
      }
    } catch (error) {
      await started.stop();
      throw error;
    }
    return new MoleculerStrategies(workers, callers);
  }

  async measure(name: string, load: Load): Promise<PeerSample> {
    const caller = this.#callers.get(name);
    if (caller === undefined) throw new Error(`Moleculer has no strategy ${name}`);
    const before = await this.#workersCpuMs();
    const measured = await caller.ask('measure', load, load.seconds * 1_000 + GRACE_MS);
    return { ...measured, workerCpuMs: (await this.#workersCpuMs()) - before };
  }

  async stop(): Promise<void> {
    for (const each of [...this.#callers.values(), ...this.#workers]) await each.stop();
  }

  async #workersCpuMs(): Promise<number> {
    let sum = 0;
    for (const worker of this.#workers) sum += (await worker.ask('cpu', null, ASK_MS)).cpuMs;
    return sum;
  }
}
