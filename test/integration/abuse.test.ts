/**
 * What a client that may publish everywhere can do with messages that are none: random bytes, changed recordings, repetitions,
 * on every subject that somebody of the platform's own listens on. docs/abuse.md has what was tried at length.
 * ABUSE_SECONDS makes it longer, ABUSE_SEED repeats one.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { connect as connectPlain, type NatsConnection } from 'nats';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { z } from 'zod';
import { Bus } from '../../src/bus/connection.ts';
import { connect, type Mill } from '../../src/client/client.ts';
import { MillraceError } from '../../src/core/errors.ts';
import { defineFunction } from '../../src/function/define.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import {
  hostileBytes,
  hostileHeaders,
  hostileReply,
  mutated,
  recorded,
  type Recorded,
} from '../support/hostile.ts';
import { Random } from '../support/random.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const SECONDS = Number(process.env['ABUSE_SECONDS'] ?? 4);
const SEED = Number(process.env['ABUSE_SEED'] ?? Date.now() % 1e9);
const ACCOUNTS = Array.from({ length: 24 }, (_, index) => `account-${index}`);
const START_BALANCE = 1_000;
const COUNTERS = ['a', 'b', 'c'];
const HEALTHY_AT_ONCE = 8;
const ATTACKS_A_TURN = 100;
const MAX_RECORDED = 20_000;
const MAX_GROWTH_BYTES = 96 * 1024 * 1024;

interface Account {
  balance: number;
}

const transfer = defineFunction({
  name: 'transfer',
  input: z.strictObject({ from: z.string(), to: z.string(), amount: z.number().int() }),
  handler: async ({ data: { from, to, amount } }, ctx) => {
    const accounts = ctx.state<Account>('accounts');
    const source = await accounts.get(from);
    const target = await accounts.get(to);
    if (source === undefined || target === undefined || from === to) throw new Error('no account');
    await accounts.set(from, { balance: source.balance - amount });
    await accounts.set(to, { balance: target.balance + amount });
  },
});

const total = defineFunction({
  name: 'total',
  handler: async (_, ctx) => {
    const accounts = ctx.state<Account>('accounts');
    const all = await Promise.all(ACCOUNTS.map(async (name) => accounts.get(name)));
    return all.reduce((sum, account) => sum + (account?.balance ?? 0), 0);
  },
});

const open = defineFunction({
  name: 'open',
  handler: async (_, ctx) => {
    const accounts = ctx.state<Account>('accounts');
    for (const name of ACCOUNTS) await accounts.set(name, { balance: START_BALANCE });
  },
});

const count = defineFunction({
  name: 'count',
  on: 'abuse.count',
  key: ({ data }) => (data as { key: string }).key,
  input: z.strictObject({ key: z.string(), n: z.number().int() }),
  handler: async ({ data: { key } }, ctx) => {
    const counters = ctx.state<number>('counters');
    await counters.set(key, ((await counters.get(key)) ?? 0) + 1);
    await ctx.emit('abuse.counted', { key });
  },
});

const tally = defineFunction({
  name: 'tally',
  on: 'abuse.counted',
  handler: async ({ data }, ctx) => {
    const { key } = data as { key: string };
    const tallies = ctx.state<number>('tallies');
    await tallies.set(key, ((await tallies.get(key)) ?? 0) + 1);
  },
});

const counts = defineFunction({
  name: 'counts',
  handler: async ({ data }, ctx) => {
    const values = ctx.state<number>(data as string);
    return Promise.all(COUNTERS.map(async (key) => (await values.get(key)) ?? 0));
  },
});

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

describe('abuse', () => {
  let broker: TestBroker;
  let workers: TestWorker[];
  let mill: Mill;
  let attacker: NatsConnection;
  const listened = new Set<string>();

  beforeAll(async () => {
    const { subscribe } = Bus.prototype;
    vi.spyOn(Bus.prototype, 'subscribe').mockImplementation(function (this: Bus, ...of) {
      listened.add(of[0]);
      return subscribe.apply(this, of);
    });
    broker = await startTestBroker();
    const functions = [transfer, total, open, count, tally, counts];
    workers = [
      await startTestWorker(broker.url, functions),
      await startTestWorker(broker.url, functions),
    ];
    mill = await connect({ servers: broker.url });
    attacker = await connectPlain({ servers: broker.url });
    await mill.invoke('open', null);
  });

  afterAll(async () => {
    vi.restoreAllMocks();
    await attacker.close();
    await mill.close();
    for (const worker of workers) await worker.stop();
    await broker.stop();
  });

  it(
    `no message makes a worker crash, or breaks a promise: seed ${SEED}`,
    async () => {
      const random = new Random(SEED);
      const traffic: Recorded[] = [];
      const listener = attacker.subscribe('millrace.>', {
        callback: (_, message) => {
          if (traffic.length < MAX_RECORDED && !isStored(message.subject)) {
            traffic.push(recorded(message));
          }
        },
      });
      const counted = new Map(COUNTERS.map((key) => [key, 0]));
      const uncoded: unknown[] = [];
      let order = 0;
      const work = async (stop: () => boolean): Promise<void> => {
        const healthy = async (): Promise<void> => {
          const key = random.pick(COUNTERS);
          order += 1;
          const id = `order-${order}`;
          await mill.publish('abuse.count', { key, n: order }, { id });
          counted.set(key, (counted.get(key) ?? 0) + 1);
          const [from, to] = [random.pick(ACCOUNTS), random.pick(ACCOUNTS)];
          if (from !== to) await mill.invoke('transfer', { from, to, amount: random.below(50) });
          const sum = await mill.invoke('total', null);
          if (sum !== ACCOUNTS.length * START_BALANCE) uncoded.push(`the sum is ${String(sum)}`);
        };
        const one = async (): Promise<void> => {
          while (!stop()) {
            await healthy().catch((error: unknown) => {
              if (!(error instanceof MillraceError)) uncoded.push(error);
            });
          }
        };
        await Promise.all(Array.from({ length: HEALTHY_AT_ONCE }, one));
      };

      await work(() => traffic.length >= 500);
      await until('all is counted', async () => settled(mill, counted));
      /** Of transactions and calls that have all ended. */
      const ended = traffic.slice();
      collectGarbage();
      const before = process.memoryUsage().heapUsed;
      const subjects = [...listened];
      const untilMs = performance.now() + SECONDS * 1_000;
      const over = (): boolean => performance.now() >= untilMs;
      const working = work(over);
      let attacks = 0;
      while (!over()) {
        for (let left = ATTACKS_A_TURN; left > 0; left -= 1) {
          attack(attacker, subjects, ended, traffic, random);
          attacks += 1;
        }
        await attacker.flush();
      }
      await working;
      listener.unsubscribe();
      expect(uncoded).toEqual([]);
      await until('all is counted', async () => settled(mill, counted), 60_000);
      expect(await mill.invoke('total', null)).toBe(ACCOUNTS.length * START_BALANCE);
      const seen = await mill.inspect.workers();
      expect(seen.filter(({ state }) => state === 'running')).toHaveLength(workers.length);
      await until('nothing is in doubt', async () => {
        const { active } = await mill.inspect.transactions();
        return active.length === 0;
      });
      expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
      expect(Object.keys(Object.prototype)).toEqual([]);
      for (const { logs } of workers) {
        if (process.env['ABUSE_LOGS'])
          console.log(logs.filter(({ level }) => (level as number) >= 40).map(({ level, msg, err }) => [level, msg, (err as any)?.message].join(' ')).reduce((m: Map<string, number>, l) => m.set(l.replace(/[A-Z0-9]{22}/g, 'ID').slice(0, 160), (m.get(l.replace(/[A-Z0-9]{22}/g, 'ID').slice(0, 160)) ?? 0) + 1), new Map()));
        expect.soft(logs.filter(isUnhandled)).toEqual([]);
      }
      collectGarbage();
      const grownBytes = process.memoryUsage().heapUsed - before;
      console.log(`${attacks} messages on ${subjects.length} subjects, seed ${SEED}, ${order} orders, heap ${Math.round(grownBytes / 1024)} KiB more`);
      expect(grownBytes).toBeLessThan(MAX_GROWTH_BYTES);
    },
    (SECONDS + 100) * 1_000,
  );
});

/** What a stream stores is another matter: who writes there writes to the disk. */
function isStored(subject: string): boolean {
  return /^millrace\.(log|snapshot|dead|replay|later|due)\./.test(subject);
}

function isUnhandled({ msg = '' }: Record<string, unknown>): boolean {
  return /was not handled|unhandled/i.test(msg as string);
}

async function settled(mill: Mill, counted: ReadonlyMap<string, number>): Promise<boolean> {
  const wanted = COUNTERS.map((key) => counted.get(key));
  const [counters, tallies] = await Promise.all([
    mill.invoke('counts', 'counters'),
    mill.invoke('counts', 'tallies'),
  ]);
  return String(counters) === String(wanted) && String(tallies) === String(wanted);
}

function attack(
  attacker: NatsConnection,
  subjects: readonly string[],
  ended: readonly Recorded[],
  traffic: readonly Recorded[],
  random: Random,
): void {
  const dice = random.next();
  if (dice < 0.4) {
    const subject = filled(random.pick(subjects), random);
    publish(attacker, subject, hostileBytes(random), hostileReply(random), random);
  } else if (dice < 0.7) {
    const { subject, data, reply } = random.pick(ended);
    if (/"Millrace-Delivery"/.test(Buffer.from(data).toString('latin1'))) return;
    const changed = mutated(data, random.pick(ended).data, random);
    // Its answer is nobody's: a caller does as it is told by who knows its calls.
    const nobody = reply.replace(/^_INBOX\.\w+/, '_INBOX.nobody');
    publish(attacker, subject, changed, nobody, random);
  } else {
    const { subject, data, reply, headers } = random.pick(traffic);
    attacker.publish(subject, data, { reply, ...(headers === undefined ? {} : { headers }) });
  }
}

function publish(
  attacker: NatsConnection,
  subject: string,
  data: Uint8Array,
  reply: string,
  random: Random,
): void {
  const headers = hostileHeaders(random);
  attacker.publish(subject, data, {
    ...(reply === '' ? {} : { reply }),
    ...(headers === undefined ? {} : { headers }),
  });
}

const TOKENS = ['1', '0', '-1', '1e999', '__proto__', 'constructor', 'transfer', 'nobody', 'lock'];

function filled(subject: string, random: Random): string {
  return subject
    .split('.')
    .map((token) => (token === '*' || token === '>' ? random.pick(TOKENS) : token))
    .join('.');
}
