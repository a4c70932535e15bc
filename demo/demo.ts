/**
 * The main job on real input, checked: 329 webhook payloads of GitHub's are published as events, functions on two
 * worker processes sort and count them, one of the workers is killed half-way, and the tally must be what was sent. Then the
 * calculator answers, orders survive a payment provider that is away, and 10,000 transfers a worker that is killed. Ends with status 0 when all is as it should be; 1 otherwise.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type Mill } from '../src/index.ts';
import { transferMoney } from './bank.ts';
import { takeOrders } from './orders.ts';
import { asked, answering, startSystem } from './system.ts';

interface Webhook {
  event: string;
  action: string;
  payload: unknown;
}

/** A package of JSON; its own types name an ESM default that Node does not give it. */
const examples = createRequire(import.meta.url)('@octokit/webhooks-examples') as {
  name: string;
  examples: object[];
}[];

const print = (line: string): void => void process.stdout.write(`${line}\n`);

/** `event.action` → how many. */
type Tally = Map<string, number>;

const webhooks: Webhook[] = examples.flatMap(({ name: event, examples: payloads }) =>
  payloads.map((payload) => ({
    event,
    action: 'action' in payload ? String(payload.action) : 'done',
    payload,
  })),
);

const store = await mkdtemp(join(tmpdir(), 'millrace-demo-'));
print('Starting a broker and two workers …');
const system = await startSystem({ store, workers: 2, onProgress: print });
try {
  await using mill = await connect({ servers: system.url });
  print(`They listen at ${system.url}.\n`);
  await tallyWebhooks(mill);
  await calculate(mill);
  await takeOrders(mill);
  await transferMoney(mill, system);
  print('All as expected.');
} finally {
  await system.stop();
  await rm(store, { recursive: true, force: true });
}

async function tallyWebhooks(mill: Mill): Promise<void> {
  print(`Publishing ${webhooks.length} webhooks of GitHub's on github.<event> …`);
  const startedMs = performance.now();
  const half = Math.floor(webhooks.length / 2);
  const publish = async (some: readonly Webhook[]): Promise<void> => {
    await Promise.all(some.map(({ event, payload }) => mill.publish(`github.${event}`, payload)));
  };
  await publish(webhooks.slice(0, half));
  const [victim] = await answering(mill);
  process.kill(victim.pid, 'SIGKILL');
  print(`  half of them are published: kill -9 ${victim.pid}, one of the workers`);
  const replaced = system.addWorker();
  await publish(webhooks.slice(half));
  await replaced;
  const counted = await waitForTally(mill, webhooks.length);
  print(`Published and counted in ${Math.round(performance.now() - startedMs)} ms.\n`);

  const sent = tallyOf(webhooks);
  const events = new Map<string, { sent: number; counted: number }>();
  for (const [key, number] of sent) add(events, key, 'sent', number);
  for (const [key, number] of counted) add(events, key, 'counted', number);
  print(`${'EVENT'.padEnd(34)}${'SENT'.padStart(6)}${'COUNTED'.padStart(9)}`);
  const byCount = [...events].sort(([, a], [, b]) => b.sent - a.sent);
  for (const [event, row] of byCount.slice(0, 10)) {
    print(`${event.padEnd(34)}${String(row.sent).padStart(6)}${String(row.counted).padStart(9)}`);
  }
  print(`… and ${byCount.length - 10} more events; ${sent.size} kinds of event and action.`);
  const same = sent.size === counted.size && [...sent].every(([key, n]) => counted.get(key) === n);
  if (!same) throw new Error('The tally is not what was sent.');
  print('The tally is what was sent.\n');
}

function add(
  events: Map<string, { sent: number; counted: number }>,
  key: string,
  column: 'sent' | 'counted',
  number: number,
): void {
  const [event = ''] = key.split('.');
  const row = events.get(event) ?? { sent: 0, counted: 0 };
  row[column] += number;
  events.set(event, row);
}

function tallyOf(sent: readonly Webhook[]): Tally {
  const tally: Tally = new Map();
  for (const { event, action } of sent) {
    const key = `${event}.${action}`;
    tally.set(key, (tally.get(key) ?? 0) + 1);
  }
  return tally;
}

/** Asks for the state until as many were counted as were sent. */
async function waitForTally(mill: Mill, wanted: number): Promise<Tally> {
  const deadlineMs = performance.now() + 60_000;
  for (;;) {
    const tally = await inspectedTally(mill).catch(() => new Map<string, number>());
    const total = [...tally.values()].reduce((sum, count) => sum + count, 0);
    if (total >= wanted) return tally;
    if (performance.now() > deadlineMs) throw new Error(`Only ${total} of ${wanted} were counted.`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function inspectedTally(mill: Mill): Promise<Tally> {
  const { items } = await asked(() => mill.inspect.list<number>('tally', { limit: 1_000 }));
  return new Map(items.map(({ key, value }) => [key, value]));
}

async function calculate(mill: Mill): Promise<void> {
  print('Asking the calculator, which calls the function sum:');
  const answer = (await mill.invoke('calculator', { left: 19, right: 23 })) as { text: string };
  print(`  ${answer.text}`);
  if (answer.text !== '19 + 23 = 42') throw new Error('The calculator is wrong.');
}
