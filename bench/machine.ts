import { readFile } from 'node:fs/promises';
import { arch, cpus, platform, release, totalmem } from 'node:os';
import { print } from './print.ts';

export interface Machine {
  readonly date: string;
  readonly cores: number;
  readonly cpu: string;
  readonly memoryGib: number;
  readonly system: string;
  readonly node: string;
  readonly natsServer: string;
  readonly packages: Readonly<Record<string, string>>;
}

export async function describeMachine(natsServer: string): Promise<Machine> {
  const cores = cpus();
  return {
    date: new Date().toISOString(),
    cores: cores.length,
    cpu: cores[0]?.model.trim() ?? 'unknown',
    memoryGib: Math.round(totalmem() / 2 ** 30),
    system: `${platform()} ${release()} ${arch()}`,
    node: process.version,
    natsServer,
    packages: await peerVersions(),
  };
}

async function peerVersions(): Promise<Record<string, string>> {
  const file = new URL('./peers/package.json', import.meta.url);
  return (JSON.parse(await readFile(file, 'utf8')) as { dependencies: Record<string, string> })
    .dependencies;
}

export function printMachine(machine: Machine): void {
  const { cores, cpu, memoryGib, node, natsServer, date, packages } = machine;
  const versions = Object.entries(packages).map(([name, version]) => `${name} ${version}`);
  print(`${cores} cores (${cpu}), ${memoryGib} GiB, Node ${node}, nats-server ${natsServer}`);
  print(`${versions.join(', ')}; ${date}`);
}
