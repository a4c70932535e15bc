/**
 * 10,000 transfers among accounts on all partitions. In the middle a worker that is just committing is killed; another
 * takes its partitions over. Every transfer must have happened exactly once: the balance of each account is checked
 * against what was asked for, and the total against what was there.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { MillraceError, type InspectedPage, type Mill } from '../src/index.ts';
import { answering, asked, type System } from './system.ts';

const ACCOUNTS = 1_000;
const OPENING_BALANCE = 1_000;
const TRANSFERS = 10_000;
const IN_FLIGHT = 128;
const KILL_AFTER = 4_000;
const TIMEOUT_MS = 60_000;

const print = (line: string): void => void process.stdout.write(`${line}\n`);
const account = (index: number): string => `account-${index}`;

export async function transferMoney(mill: Mill, system: System): Promise<void> {
  print(`Opening ${ACCOUNTS} accounts with ${OPENING_BALANCE} each …`);
  await inParallel(ACCOUNTS, async (index) => {
    await mill.invoke('open', { account: account(index), balance: OPENING_BALANCE });
  });
  const expected = new Map<string, number>();
  for (let index = 0; index < ACCOUNTS; index += 1) expected.set(account(index), OPENING_BALANCE);

  print(`${TRANSFERS} transfers, ${IN_FLIGHT} at once …`);
  const startedMs = performance.now();
  let done = 0;
  let killed: Promise<void> | undefined;
  await inParallel(TRANSFERS, async (index) => {
    const from = account((index * 7_919) % ACCOUNTS);
    const to = account((index * 104_729 + 1 + (index % 13)) % ACCOUNTS);
    if (from === to) return;
    const amount = 1 + (index % 3);
    if (await transferred(mill, index, { from, to, amount })) {
      expected.set(from, (expected.get(from) ?? 0) - amount);
      expected.set(to, (expected.get(to) ?? 0) + amount);
    }
    done += 1;
    if (done === KILL_AFTER) killed = killCommitting(mill, system);
    if (done % 2_000 === 0) print(`  ${done} done`);
  });
  await killed;
  const seconds = (performance.now() - startedMs) / 1_000;
  print(`${TRANSFERS} transfers in ${seconds.toFixed(1)} s.`);
  await check(mill, expected);
}

/** False when the account had too little. Every transfer has an id of its own: asked for again, it is not made again. */
async function transferred(mill: Mill, index: number, transfer: object): Promise<boolean> {
  for (;;) {
    try {
      await mill.invoke('transfer', transfer, { id: `transfer-${index}`, timeoutMs: TIMEOUT_MS });
      return true;
    } catch (error) {
      if (error instanceof MillraceError && error.code === 'INVALID_INPUT') return false;
      if (!(error instanceof MillraceError) || !error.retryable) throw error;
    }
  }
}

/** Kills -9 a worker that coordinates a transaction whose prepare messages are out, and starts another one. */
async function killCommitting(mill: Mill, system: System): Promise<void> {
  const workers = await answering(mill);
  let coordinator: string | undefined;
  while (coordinator === undefined) {
    const { active } = await mill.inspect.transactions();
    coordinator = active.find(
      ({ state, participants }) => state === 'preparing' && participants.length > 1,
    )?.coordinator;
  }
  const victim = workers.find(({ id }) => id === coordinator);
  if (victim === undefined) throw new Error('The coordinator is no worker.');
  process.kill(victim.pid, 'SIGKILL');
  const killedMs = performance.now();
  print(
    `  kill -9 ${victim.pid}: a worker in the middle of a commit, owner of ${victim.partitions.length} partitions`,
  );
  await system.addWorker();
  for (;;) {
    const partitions = await mill.inspect.partitions().catch(() => []);
    const owned = partitions.filter(
      ({ owner, state }) => owner !== victim.id && state === 'serving',
    );
    if (partitions.length > 0 && owned.length === partitions.length) break;
    await delay(20);
  }
  print(
    `  all partitions have an owner again after ${Math.round(performance.now() - killedMs)} ms`,
  );
}

async function check(mill: Mill, expected: ReadonlyMap<string, number>): Promise<void> {
  const total = await mill.invoke('total', { accounts: [...expected.keys()] });
  print(`The total is ${String(total)}, as before: ${ACCOUNTS} × ${OPENING_BALANCE}.`);
  if (total !== ACCOUNTS * OPENING_BALANCE) throw new Error('The total has changed.');
  let wrong = 0;
  let cursor: string | null = null;
  do {
    const from = cursor === null ? {} : { cursor };
    const page: InspectedPage<number> = await asked(() =>
      mill.inspect.list<number>('accounts', { limit: 500, ...from }),
    );
    for (const { key, value } of page.items) if (value !== expected.get(key)) wrong += 1;
    cursor = page.cursor;
  } while (cursor !== null);
  const { counters, active } = await asked(() => mill.inspect.transactions());
  print(
    `${counters.recovered} unfinished transactions were found in the logs and brought to their end; ${active.length} are open now.`,
  );
  if (wrong > 0) throw new Error(`${wrong} balances are not what was asked for.`);
  print('Every balance is what was asked for: each transfer happened exactly once.\n');
}

async function inParallel(count: number, run: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const loop = async (): Promise<void> => {
    while (next < count) {
      const index = next;
      next += 1;
      await run(index);
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, loop));
}
