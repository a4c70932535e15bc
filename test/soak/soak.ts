/**
 * `npm run soak -- --hours N [--seed S] [--no-chaos]` (fractions allowed): rounds, each under a seed of its own, until the time is over. In each
 * one system on three servers that lives as long as the soak is at work under faults of the testing kit, checked as `checkInvariant`
 * does it, and its resources are looked at; then the next file of test/chaos has its turn, on systems of its own. Ends with status 1
 * when something is wrong. bench/results/soak.json has what came of the last run, and of one that goes on, up to its last round.
 */
import { spawn } from 'node:child_process';
import { readdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { connect } from 'nats';
import type * as Testing from '../../src/testing/index.ts';
import { sample, verdicts, type Sample } from './resources.ts';

const { values: options } = parseArgs({
  options: {
    hours: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    'no-chaos': { type: 'boolean', default: false },
  },
});
const HOUR_MS = 3_600_000;
const hours = Number(options.hours);
const firstSeed = Number(options.seed);
if (!(hours > 0) || !Number.isInteger(firstSeed) || firstSeed < 0) {
  process.stderr.write('Usage: npm run soak -- --hours N [--seed S] [--no-chaos]\n');
  process.exit(2);
}

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const RESULT = fileURLToPath(new URL('../../bench/results/soak.json', import.meta.url));
/** Of faults in each round; those of test/chaos come beside. */
const ROUND_SECONDS = Math.min(30, Math.max(5, (hours * 3_600) / 12));
const ACCOUNTS = Array.from({ length: 64 }, (_, number) => `account-${number}`);
const BALANCE = 1_000;
const WORKERS = 3;
const SERVERS = 3;

const { startTestMill } = (await import(
  String(new URL('../../dist/testing/index.js', import.meta.url))
)) as typeof Testing;
const startedAt = new Date();
/** What workers say while servers are away is no news. */
const logLevel = 'fatal';
const mill = await startTestMill({ workers: WORKERS, servers: SERVERS, faults: true, logLevel });
const nats = await connect({ servers: mill.url.split(','), maxReconnectAttempts: -1 });
const { streams } = await nats.jetstreamManager();

const samples: Sample[] = [];
const problems: string[] = [];
let rounds = 0;
let steps = 0;
let held = 0;
let ordered = 0;
const faults: Record<string, number> = {};
/** By file. */
const chaosRuns: Record<string, number> = {};
const chaosFiles = (await readdir(`${ROOT}test/chaos`)).filter((name) => name.endsWith('.test.ts'));

try {
  for (const account of ACCOUNTS) await mill.invoke('open', { account, balance: BALANCE });
  const endMs = performance.now() + hours * HOUR_MS;
  while (performance.now() < endMs && problems.length === 0) {
    await round(firstSeed + rounds);
    rounds += 1;
    const now = await sample(streams);
    samples.push(now);
    tell(`round ${rounds}: ${steps} steps, ${held} looks, ${JSON.stringify(now)}`);
    await save();
    if (options['no-chaos'] || performance.now() >= endMs) continue;
    await chaos(chaosFiles[(rounds - 1) % chaosFiles.length] as string, firstSeed + rounds - 1);
  }
} catch (error) {
  problems.push(String(error));
} finally {
  await nats.close();
  await mill.close();
}

for (const [name, { first, last, flat }] of Object.entries(verdicts(samples) ?? {})) {
  if (!flat) problems.push(`${name} grew from ${first} to ${last}`);
}
await save();
tell(problems.length === 0 ? 'nothing is wrong' : problems.join('\n'));
process.exitCode = problems.length === 0 ? 0 : 1;

async function save(): Promise<void> {
  const summary = {
    at: startedAt.toISOString(),
    hours: Number(((Date.now() - startedAt.getTime()) / HOUR_MS).toFixed(3)),
    seeds: [firstSeed, firstSeed + rounds - 1],
    workers: WORKERS,
    servers: SERVERS,
    rounds,
    steps,
    ordered,
    held,
    faults,
    chaos: options['no-chaos'] ? 'left out' : chaosRuns,
    resources: verdicts(samples) ?? 'too few rounds to tell',
    problems,
  };
  await writeFile(RESULT, `${JSON.stringify(summary, undefined, 2)}\n`);
}

/** Transfers, and orders of which each is shipped once. */
async function round(seed: number): Promise<void> {
  const orders = new Set<string>();
  const report = await mill.checkInvariant({
    seed,
    seconds: ROUND_SECONDS,
    async during(step) {
      const [from, to] = [step, step * 7 + 3].map((each) => ACCOUNTS[each % ACCOUNTS.length]);
      if (from !== to) await mill.invoke('transfer', { from, to, amount: 1 });
      if (step % 10 !== 0) return;
      const order = `${seed}-${step}`;
      await mill.publish('orders.placed', { order, amount: 10 }, { id: order });
      orders.add(order);
    },
    async invariant() {
      const sum = await mill.invoke('total', { accounts: ACCOUNTS });
      if (sum !== ACCOUNTS.length * BALANCE) throw new Error(`the accounts have ${String(sum)}`);
    },
  });
  for (const order of orders) {
    const parcels = (await mill.state<number>('parcels', order)) ?? 0;
    if (parcels !== 1) problems.push(`seed ${seed}: order ${order} has ${parcels} parcels`);
  }
  const dead = await mill.deadLetters();
  if (dead.length > 0) problems.push(`seed ${seed}: ${dead.length} dead letters`);
  ordered += orders.size;
  steps += report.steps;
  held += report.held;
  for (const { fault, missed } of report.faults) {
    const name = missed === undefined ? fault : `${fault}, missed`;
    faults[name] = (faults[name] ?? 0) + 1;
  }
}

/** All scenarios of a file, with its checkers. */
async function chaos(file: string, seed: number): Promise<void> {
  const env = {
    ...process.env,
    TESTS: 'chaos',
    CHAOS_SEED: `${seed}`,
    CHAOS_SECONDS: `${ROUND_SECONDS}`,
  };
  const child = spawn('npx', ['vitest', 'run', `test/chaos/${file}`], {
    cwd: ROOT,
    env,
    stdio: ['ignore', 2, 2],
  });
  const status = await new Promise<number | null>((resolve) => child.once('close', resolve));
  chaosRuns[file] = (chaosRuns[file] ?? 0) + 1;
  if (status !== 0) problems.push(`seed ${seed}: ${file} ended with status ${status}`);
}

function tell(line: string): void {
  process.stderr.write(`${line}\n`);
}
