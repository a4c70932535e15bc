/**
 * What a client that may publish everywhere can do with messages that are none: random bytes, changed recordings, repetitions,
 * on every subject that somebody of the platform's own listens on. docs/abuse.md has what was tried at length.
 * ABUSE_SECONDS makes it longer, ABUSE_SEED repeats one.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Packr } from 'msgpackr';
import { connect as connectPlain, headers, type NatsConnection } from 'nats';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { z } from 'zod';
import { Bus } from '../../src/bus/connection.ts';
import { connect, type Mill } from '../../src/client/client.ts';
import { MillraceError } from '../../src/core/errors.ts';
import { subjectsOf } from '../../src/core/subjects.ts';
import type { CoordinatorMessage, PartitionMessage } from '../../src/core/state/messages.ts';
import { decodeEnvelopes, encodeEnvelopes, type Envelope } from '../../src/core/state/wire.ts';
import { defineFunction } from '../../src/function/define.ts';
import type { FunctionDefinition } from '../../src/function/definition.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import {
  hostileBytes,
  hostileHeaders,
  hostileReply,
  mutated,
  recorded,
  type Recorded,
} from '../support/hostile.ts';
import { isLong } from '../support/long.ts';
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

const MAX_FORGED = 20_000;

const NAMES: [what: string, name: string][] = [
  ['*', '*'],
  ['>', '>'],
  ['a wildcard within', 'abuse.*.x'],
  ['a space', 'a b'],
  ['a line break', 'a\r\nPUB evil 0\r\n\r\n'],
  ['NUL', 'a\u0000b'],
  ['a control character', 'a\u0007b'],
  ['DEL', 'a\u007fb'],
  ['a lone surrogate', 'a\ud800b'],
  ['a look-alike', 'acc\u03bfunts'],
  ['the Kelvin sign', '\u212a'],
  ['a zero-width space', 'a\u200bb'],
  ['right to left', '\u202etxt'],
  ['two forms of one letter', 'e\u0301'],
  ['__proto__', '__proto__'],
  ['constructor', 'constructor'],
  ['nothing', ''],
  ['dots', '..'],
  ['a path', '../../etc/passwd'],
  ['a dollar', '$JS.API.STREAM.LIST'],
  ["the platform's own", 'millrace.log.x'],
  ['1,024 bytes', 'x'.repeat(1_024)],
  ['64 KB', 'x'.repeat(64 * 1024)],
];

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

const keep = defineFunction({
  name: 'keep',
  handler: async ({ data }, ctx) => {
    const { collection, key, value } = data as { collection: string; key: string; value: unknown };
    const values = ctx.state(collection);
    await values.set(key, value);
    return values.get(key);
  },
});

const say = defineFunction({
  name: 'say',
  handler: async ({ data }, ctx) => {
    const { subject, id, name, value } = data as Record<string, string>;
    await ctx.emit(subject as string, 'said', {
      ...(id === undefined ? {} : { id }),
      ...(name === undefined ? {} : { headers: { [name]: value as string } }),
    });
  },
});

const call = defineFunction({
  name: 'call',
  handler: async ({ data }, ctx) => ctx.invoke(data as string, null),
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
    // oxlint-disable-next-line typescript/unbound-method -- called with its own `this` below
    const { subscribe } = Bus.prototype;
    vi.spyOn(Bus.prototype, 'subscribe').mockImplementation(function (this: Bus, ...of) {
      listened.add(of[0]);
      return subscribe.apply(this, of);
    });
    broker = await startTestBroker();
    const functions = [transfer, total, open, count, tally, counts, keep, say, call];
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

  it.runIf(isLong)(
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
      // Calls that were repeated run, too, and come to their end.
      let active: unknown[] = [];
      await until(
        'no transaction is left',
        async () => {
          ({ active } = await mill.inspect.transactions());
          return active.length === 0;
        },
        60_000,
      ).catch(() => {});
      expect(active).toEqual([]);
      expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
      expect(Object.keys(Object.prototype)).toEqual([]);
      for (const { logs } of workers) {
        expect(logs.filter(isUnhandled)).toEqual([]);
      }
      // What the test itself keeps is not the workers'.
      traffic.length = 0;
      ended.length = 0;
      for (const { logs } of workers) logs.length = 0;
      collectGarbage();
      const grownBytes = process.memoryUsage().heapUsed - before;
      process.stdout.write(
        `${attacks} messages on ${subjects.length} subjects, seed ${SEED}, ${order} orders, heap ${Math.round(grownBytes / 1024)} KiB more\n`,
      );
      expect(grownBytes).toBeLessThan(MAX_GROWTH_BYTES);
    },
    (SECONDS + 180) * 1_000,
  );
  it('forged messages of transactions change nothing: of old epochs, other grants, unknown ones, and repeated', async () => {
    const subjects = subjectsOf('millrace');
    let forged = 0;
    const forge = (subject: string, envelopes: readonly Envelope[]): void => {
      forged += envelopes.length;
      attacker.publish(subject, encodeEnvelopes(envelopes));
    };
    const listener = attacker.subscribe('millrace.tx.*.*', {
      callback: (_, { subject, data }) => {
        if (forged >= MAX_FORGED) return;
        const { envelopes } = decodeEnvelopes(data);
        for (const envelope of envelopes) forge(subject, forgeriesOf(envelope));
      },
    });
    const refused: unknown[] = [];
    const transfers = Array.from({ length: 200 }, async (_, index) => {
      const from = ACCOUNTS[index % ACCOUNTS.length];
      const to = ACCOUNTS[(index * 7 + 1) % ACCOUNTS.length];
      if (from === to) return;
      await mill
        .invoke('transfer', { from, to, amount: 3 })
        .catch((error: unknown) => refused.push(error));
    });
    const totals = Array.from({ length: 20 }, async () => mill.invoke('total', null));
    await Promise.all(transfers);
    const sums = (await Promise.allSettled(totals)).flatMap((outcome) =>
      outcome.status === 'fulfilled' ? [outcome.value] : [],
    );
    expect(new Set(sums)).toEqual(new Set([ACCOUNTS.length * START_BALANCE]));
    listener.unsubscribe();
    expect(forged).toBeGreaterThan(1_000);
    expect(refused.every((error) => error instanceof MillraceError)).toBe(true);
    expect(refused.length).toBeLessThan(200);
    // Of nobody, and held for as long as anything may be.
    const partitions = Array.from({ length: 8 }, (_, partition) => partition);
    for (const { id } of workers) {
      forge(
        subjects.tx('access', id),
        ACCOUNTS.flatMap((name) => partitions.map((partition) => lockOf(name, partition))),
      );
    }
    await attacker.flush();
    await mill.invoke('open', null);
    expect(await mill.invoke('total', null)).toBe(ACCOUNTS.length * START_BALANCE);
    for (const { logs } of workers) expect(logs.filter(isUnhandled)).toEqual([]);
  });

  it('no message makes a worker say to the broker what it does not mean', async () => {
    const heard: string[] = [];
    const listener = attacker.subscribe('evil.>', {
      callback: (_, { subject }) => void heard.push(subject),
    });
    await attacker.flush();
    const epochs = workers.map(({ bus }) => bus.epoch);
    const packr = new Packr({ useRecords: false });
    for (const coordinator of ['x y', 'x\r\nPUB evil.one 0\r\n\r\n', 'a.b', '*', '>', '']) {
      for (const { id } of workers) {
        for (let partition = 0; partition < 8; partition += 1) {
          const lock = [partition, 'lock', 'T-1', 1, 'T-1', coordinator, 'accounts/x', 1, 1_000];
          attacker.publish(`millrace.tx.access.${id}`, packr.pack([lock]));
        }
      }
    }
    await attacker.flush();
    expect(await mill.invoke('total', null)).toBe(ACCOUNTS.length * START_BALANCE);
    await until('both have answered', async () => (await mill.inspect.workers()).length === 2);
    expect(heard).toEqual([]);
    expect(workers.map(({ bus }) => bus.epoch)).toEqual(epochs);
    listener.unsubscribe();
  });

  it.each(NAMES)('as any name, %s is refused with a code or works exactly', async (_, name) => {
    const outcomes = await Promise.allSettled([
      mill.publish(name, 'x'),
      mill.publish('abuse.any', 'x', { id: name }),
      mill.publish('abuse.any', 'x', { headers: { [name]: 'x' } }),
      mill.publish('abuse.any', 'x', { headers: { 'X-Any': name } }),
      mill.invoke(name, null),
      mill.invoke('call', name),
      mill.invoke('say', { subject: name }),
      mill.invoke('say', { subject: 'abuse.said', id: name }),
      mill.invoke('say', { subject: 'abuse.said', name, value: 'x' }),
      mill.invoke('say', { subject: 'abuse.said', name: 'X-Any', value: name }),
      mill.inspect.state(name, 'x'),
      mill.inspect.state('names', name),
      mill.inspect.key(name, name),
      (async () => defineFunction({ name, handler: () => null }))(),
      (async () => defineFunction({ name: 'f', on: name, handler: () => null }))(),
    ]);
    for (const outcome of outcomes) {
      if (outcome.status === 'fulfilled') continue;
      expect(outcome.reason).toBeInstanceOf(MillraceError);
      expect((outcome.reason as MillraceError).code).not.toBe('TIMEOUT');
    }
    // As a key: what was written is there, under that key and no other; or it was refused.
    const value = { [`k${name.length}`]: name.toWellFormed() };
    const kept: unknown = await mill
      .invoke('keep', { collection: 'names', key: name, value })
      .catch((error: MillraceError) => error.code);
    expect(kept).toEqual(legalKey(name) ? value : 'INVALID_INPUT');
    const shown: unknown = await mill.inspect.state('names', name).then(
      (found) => [found.key, found.value],
      (error: MillraceError) => error.code,
    );
    expect(shown).toEqual(legalKey(name) ? [name, value] : 'INVALID_INPUT');
    const listed = await mill.inspect.list('names', { limit: 1_000 });
    expect(listed.items.some(({ key }) => key === name)).toBe(legalKey(name));
    const other = await mill.invoke('keep', { collection: name, key: 'x', value: 1 }).then(
      () => undefined,
      (error: MillraceError) => error.code,
    );
    expect(other).toBe(/^[A-Za-z0-9_-]{1,64}$/.test(name) ? undefined : 'INVALID_INPUT');
    expect(Object.keys(Object.prototype)).toEqual([]);
  });

  it('with a clock that is set back by an hour, nothing is lost, double, or waits', async () => {
    const before = await mill.invoke('counts', 'counters');
    const { now } = Date;
    const tallies = await mill.invoke('counts', 'tallies');
    const publish = async (from: number): Promise<unknown> =>
      Promise.all(
        Array.from({ length: 20 }, async (_, index) =>
          mill.publish('abuse.count', { key: 'a', n: index }, { id: `clock-${from + index}` }),
        ),
      );
    await publish(0);
    const clock = vi.spyOn(Date, 'now').mockImplementation(() => now() - 3_600_000);
    try {
      await publish(20);
      // What was published before comes again.
      await publish(0);
      await mill.invoke('transfer', { from: ACCOUNTS[0], to: ACCOUNTS[1], amount: 5 });
      const more = (values: unknown): number => (values as number[])[0] ?? 0;
      for (const [name, counted] of [
        ['counters', before],
        ['tallies', tallies],
      ] as const) {
        const wanted = more(counted) + 40;
        await until(
          'all is counted',
          async () => more(await mill.invoke('counts', name)) >= wanted,
        );
        expect(more(await mill.invoke('counts', name))).toBe(wanted);
      }
      expect(await mill.invoke('total', null)).toBe(ACCOUNTS.length * START_BALANCE);
    } finally {
      clock.mockRestore();
    }
    expect(await mill.invoke('total', null)).toBe(ACCOUNTS.length * START_BALANCE);
  });

  it('a flood beyond what a function takes is refused with codes, holds bounded memory, and is over when it ends', async () => {
    const released = new Set<() => void>();
    let held = true;
    const slow = defineFunction({
      name: 'slow',
      delivery: 'ephemeral',
      handler: async () => {
        if (held) await new Promise<void>((resolve) => released.add(resolve));
        return 'done';
      },
    });
    const settings = { concurrency: 8, maxQueued: 64, namespace: 'flood' };
    const worker = await startTestWorker(broker.url, [slow], settings);
    const client = await connect({ servers: broker.url, settings: { namespace: 'flood' } });
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    const codes = new Map<string, number>();
    const heard = (code: string): void => void codes.set(code, (codes.get(code) ?? 0) + 1);
    const calls = Array.from({ length: 20_000 }, async () =>
      client.invoke('slow', 'x'.repeat(100)).then(
        () => heard('ok'),
        (error: MillraceError) => heard(error.code),
      ),
    );
    // A client that asks and never reads its answers.
    const mute = await connectPlain({ servers: broker.url });
    for (let index = 0; index < 20_000; index += 1) {
      mute.publish('flood.fn.slow', 'null', { reply: '_INBOX.mute' });
    }
    await mute.flush();
    await until('it runs', () => released.size > 0);
    await until('the rest is refused', async () => {
      // Not answered while it is busy with refusing.
      const [report] = await client.inspect.functions().catch(() => []);
      return (report?.refused ?? 0) > 20_000;
    });
    held = false;
    for (const release of released) release();
    await Promise.all(calls);
    expect([...codes.keys()].sort()).toEqual(['UNAVAILABLE', 'ok']);
    expect(await client.invoke('slow', null)).toBe('done');
    collectGarbage();
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(MAX_GROWTH_BYTES);
    await mute.close();
    await client.close();
    await worker.stop();
  });

  it('a thousand functions are announced and reported; more than fit into a message are refused', async () => {
    const many = (length: number): FunctionDefinition[] =>
      Array.from({ length }, (_, index) =>
        defineFunction({ name: `f-${index}`, delivery: 'ephemeral', handler: () => index }),
      );
    const settings = { namespace: 'many' };
    const worker = await startTestWorker(broker.url, many(1_000), settings);
    const client = await connect({ servers: broker.url, settings });
    expect(await client.invoke('f-999', null)).toBe(999);
    expect(await client.inspect.functions()).toHaveLength(1_000);
    await expect(worker.offer(many(20_000))).rejects.toMatchObject({ code: 'USAGE' });
    expect(await client.invoke('f-999', null)).toBe(999);
    await client.close();
    await worker.stop();
  });

  it('requests with plain NATS are answered with a code, whatever their subjects and headers are', async () => {
    const tokens = ['__proto__', 'constructor', 'nobody', '\u212a', 'a\u0000b', 'x'.repeat(2_000)];
    for (const token of tokens) {
      for (const what of ['fn', 'inspect']) {
        const answer = await attacker.request(`millrace.${what}.${token}`, '{}', {
          timeout: 5_000,
        });
        // 503: changed announcements above may have named it.
        expect(['404', '503']).toContain(answer.headers?.get('Nats-Service-Error-Code'));
      }
    }
    const many = headers();
    for (let index = 0; index < 2_000; index += 1) many.append(`H-${index}`, 'x'.repeat(100));
    const answer = await attacker.request('millrace.fn.total', '', {
      headers: many,
      timeout: 5_000,
    });
    expect(answer.json()).toBe(ACCOUNTS.length * START_BALANCE);
  });
});

function legalKey(key: string): boolean {
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  const control = /[\u0000-\u001f\u007f]/.test(key);
  return key !== '' && key.isWellFormed() && !control && Buffer.byteLength(key) <= 1_024;
}

function lockOf(name: string, partition: number): Envelope {
  const tx = `FORGED-${name}-${partition}`;
  return {
    partition,
    message: {
      kind: 'lock',
      tx,
      // Older than all others: it waits for nobody.
      age: { startMs: 0, first: tx },
      coordinator: 'NOBODY',
      key: `accounts/${name}`,
      mode: 'exclusive',
      ttlMs: 86_400_000,
    },
  };
}

/** What a message of a transaction would be of an earlier epoch, another grant, another transaction; never one that would be true. */
function forgeriesOf({ partition, message }: Envelope): Envelope[] {
  const to = (forged: PartitionMessage): Envelope => ({
    partition: partition ?? 0,
    message: forged,
  });
  const back = (forged: CoordinatorMessage): Envelope => ({
    partition: undefined,
    message: forged,
  });
  const { tx } = message;
  const unknown = `${tx}-forged`;
  if (message.kind === 'prepare') {
    const writes = message.writes.map(([key]): [string, string] => [key, '{"balance":1000000}']);
    const { epoch, grant } = message;
    return [
      to({ ...message, writes, epoch: Math.max(0, epoch - 1) }),
      to({ ...message, writes, epoch: epoch + 1 }),
      to({ ...message, writes, grant: grant + 1_000 }),
      to({ ...message, writes, tx: unknown }),
      // The same again, with other writes: it has prepared already.
      to({ ...message, writes }),
    ].slice(message.writes.length > 0 ? 0 : 3);
  }
  if (message.kind === 'vote') {
    return [
      to({ ...message, tx: unknown, yes: true }),
      to({ kind: 'commit', tx: unknown, home: message.from }),
      to({ kind: 'abort', tx: unknown }),
      to({ kind: 'resolve', tx: unknown, coordinator: 'NOBODY' }),
      to({ kind: 'ended', tx: unknown, from: message.from }),
    ];
  }
  // It is decided: nothing takes it back.
  if (message.kind === 'commit') return [to(message), to({ kind: 'abort', tx: unknown })];
  if (message.kind === 'granted') {
    const value = '{"balance":1000000}';
    return [
      back({ ...message, value, tx: unknown }),
      back({ ...message, value, epoch: Math.max(0, message.epoch - 1) }),
      back({
        kind: 'lost',
        tx,
        epoch: message.epoch,
        grant: message.grant + 1_000,
        refusal: { why: 'lost', partition: message.partition },
      }),
    ];
  }
  if (message.kind === 'outcome') return [back({ kind: 'outcome', tx: unknown })];
  return [{ partition, message } as Envelope];
}

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
