/**
 * The main job on real input, checked: 329 webhook payloads of GitHub's are published as events, functions on two
 * worker processes sort and count them, and the tally that inspect gives must be what was sent. Then the calculator
 * answers, and 10,000 transfers survive a worker that is killed. Ends with status 0 when all is as it should be; 1 otherwise.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type InspectedFunction, type Mill } from '../src/index.ts';
import { transferMoney } from './bank.ts';
import { startSystem } from './system.ts';

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
  await transferMoney(mill, system);
  print('All as expected.');
} finally {
  await system.stop();
  await rm(store, { recursive: true, force: true });
}

async function tallyWebhooks(mill: Mill): Promise<void> {
  print(`Publishing ${webhooks.length} webhooks of GitHub's on github.<event> …`);
  const startedMs = performance.now();
  await Promise.all(webhooks.map(({ event, payload }) => mill.publish(`github.${event}`, payload)));
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

/** Asks inspect until as many were counted as were sent. */
async function waitForTally(mill: Mill, wanted: number): Promise<Tally> {
  const deadlineMs = performance.now() + 30_000;
  for (;;) {
    const tally = inspectedTally(await mill.inspect.functions());
    const total = [...tally.values()].reduce((sum, count) => sum + count, 0);
    if (total >= wanted) return tally;
    if (performance.now() > deadlineMs) throw new Error(`Only ${total} of ${wanted} were counted.`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** The calls of github-tally by subject: `tally.issues.opened` is `issues.opened`. */
function inspectedTally(functions: readonly InspectedFunction[]): Tally {
  const counter = functions.find(({ name }) => name === 'github-tally');
  return new Map(
    Object.entries(counter?.subjects ?? {}).map(([subject, calls]) => [
      subject.replace(/^tally\./, ''),
      calls,
    ]),
  );
}

async function calculate(mill: Mill): Promise<void> {
  print('Asking the calculator, which calls the function sum:');
  const answer = (await mill.invoke('calculator', { left: 19, right: 23 })) as { text: string };
  print(`  ${answer.text}`);
  if (answer.text !== '19 + 23 = 42') throw new Error('The calculator is wrong.');
}
