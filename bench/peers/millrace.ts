import { spawn } from 'node:child_process';
import { pathToFileURL } from 'node:url';
import { processCpuMs } from '../proc.ts';
import type { Peer } from '../protocol.ts';
import { stopProcess } from '../stop-process.ts';
import { sumRequest, type SumReply } from '../work.ts';

/** What of the built package is used here; a build is not there where the types are checked. */
interface Millrace {
  connect: (options: { servers: string }) => Promise<{
    invoke(name: string, data: unknown): Promise<unknown>;
    close(): Promise<void>;
  }>;
}

/** The worker is the command itself, a process of its own, as a user runs it. Paths: from the repository's root. */
export default {
  async startWorker(url) {
    const profiling = process.execArgv
      .filter((argument) => argument.startsWith('--cpu-prof'))
      .map((argument) => argument.replace('.cpuprofile', '-command.cpuprofile'));
    const command = ['dist/cli/main.js', 'worker', '--server', url, '--functions'];
    const child = spawn(process.execPath, [...profiling, ...command, 'bench/functions'], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject));
    const { pid } = child;
    return {
      cpuMs: () => (pid === undefined ? 0 : (processCpuMs(pid) ?? 0)),
      close: () => stopProcess(child),
    };
  },
  async startCaller(url) {
    const { connect } = (await import(pathToFileURL('dist/index.js').href)) as Millrace;
    const mill = await connect({ servers: url });
    return {
      call: async (a, b) => ((await mill.invoke('bench-sum', sumRequest(a, b))) as SumReply).sum,
      close: () => mill.close(),
    };
  },
} satisfies Peer;
