/** `millrace cluster` and `millrace doctor` as processes, from the build. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { freePort } from '../../src/broker/port.ts';
import { Command, millrace } from '../support/cli.ts';
import { Random } from '../support/random.ts';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'millrace-three-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** A port below those that systems give to connections, with what the command takes beside it. */
async function firstPort(random: Random): Promise<number> {
  for (;;) {
    const port = 20_000 + random.below(6_000);
    const all = [0, 2_000, 4_000].flatMap((above) => [0, 1, 2].map((next) => port + above + next));
    const free = await Promise.all(all.map(async (each) => freePort(each).catch(() => undefined)));
    if (!free.includes(undefined)) return port;
  }
}

it('three servers are started, found fit, and end with their command', async () => {
  const port = await firstPort(new Random(process.pid));
  const cluster = new Command(['cluster', '--port', `${port}`], { cwd: directory });
  try {
    await cluster.says('three servers are one cluster');
    const servers = [0, 1, 2].map((next) => `nats://127.0.0.1:${port + next}`).join(',');
    const monitor = `http://127.0.0.1:${port + 4_000}`;
    const told = await millrace(
      'doctor',
      '--server',
      servers,
      '--replicas',
      '3',
      '--monitor',
      monitor,
      '--json',
    );
    expect(told.status).toBe(0);
    const { ok, checks } = JSON.parse(told.stdout) as { ok: boolean; checks: { name: string }[] };
    expect(ok).toBe(true);
    expect(checks.map(({ name }) => name)).toContain('sync of millrace-1');
    const five = await millrace(
      'doctor',
      '--server',
      servers,
      '--replicas',
      '5',
      '--monitor',
      monitor,
    );
    expect(five.status).toBe(1);
    expect(five.stdout).toContain('3 servers, too few for 5 replicas');
  } finally {
    const { status } = await cluster.end();
    expect(status).toBe(0);
  }
  expect((await millrace('doctor', '--server', `nats://127.0.0.1:${port}`)).status).toBe(1);
});
