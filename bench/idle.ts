import { spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { startBenchBroker } from './broker.ts';
import { Cleanup } from './cleanup.ts';
import { print } from './print.ts';
import { processCpuMs, processRssMib } from './proc.ts';
import { stopProcess } from './stop-process.ts';

export const IDLE_COMMAND = 'node dist/cli/main.js worker --server {url} --functions functions';

export interface IdleOptions {
  /** Split at blanks; `{url}` stands for the broker's address. */
  readonly command: string;
  readonly settleSeconds: number;
  readonly seconds: number;
}

/** What a worker (or any command) costs while nothing happens: its own process only, not its children. */
export async function benchIdle(options: IdleOptions): Promise<void> {
  const cleanup = new Cleanup();
  try {
    const broker = await startBenchBroker();
    cleanup.add(() => broker.stop());
    const [program = '', ...parameters] = options.command
      .replaceAll('{url}', broker.url)
      .split(' ');
    const child = spawn(program === 'node' ? process.execPath : program, parameters, {
      cwd: fileURLToPath(new URL('..', import.meta.url)),
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    cleanup.add(() => stopProcess(child));
    await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject));
    const pid = child.pid ?? 0;

    await delay(options.settleSeconds * 1_000);
    const [cpuBefore, brokerBefore] = [cpuOf(pid), cpuOf(broker.pid)];
    const begin = performance.now();
    await delay(options.seconds * 1_000);
    const elapsedMs = performance.now() - begin;
    const percent = (before: number, after: number): string =>
      `${(((after - before) * 100) / elapsedMs).toFixed(2)} %`;

    print(`${options.command}: idle for ${options.seconds} s`);
    print(`CPU ${percent(cpuBefore, cpuOf(pid))} of a core, RSS ${rssOf(pid)} MiB`);
    print(`broker: CPU ${percent(brokerBefore, cpuOf(broker.pid))}, RSS ${rssOf(broker.pid)} MiB`);
  } finally {
    await cleanup.run();
  }
}

function cpuOf(pid: number): number {
  const cpuMs = processCpuMs(pid);
  if (cpuMs === undefined) throw new Error('the command has ended, or there is no /proc here');
  return cpuMs;
}

function rssOf(pid: number): string {
  return processRssMib(pid)?.toFixed(1) ?? '?';
}
