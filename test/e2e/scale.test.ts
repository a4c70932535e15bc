/** Processes that come and go under load: no call fails, no event is lost or handled twice. */
import { fileURLToPath } from 'node:url';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect, type Mill } from 'millrace';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { Command } from '../support/cli.ts';
import { until } from '../support/wait.ts';

const FUNCTIONS = fileURLToPath(new URL('../fixtures/scale', import.meta.url));
const ACCOUNTS = Array.from({ length: 32 }, (_, index) => `account-${index}`);

let broker: TestBroker;
let workers: Command[];
let mill: Mill;

beforeEach(async () => {
  broker = await startTestBroker();
  workers = [];
  mill = await connect({ servers: broker.url });
});

afterEach(async () => {
  await mill.close();
  await Promise.all(workers.map(async (worker) => stop(worker)));
  await broker.stop();
});

async function start(...more: string[]): Promise<Command> {
  const flags = ['--server', broker.url, '--functions', FUNCTIONS, ...more];
  const worker = new Command(['worker', ...flags]);
  workers.push(worker);
  await worker.says('is ready');
  return worker;
}

async function stop(worker: Command): Promise<number | null> {
  if (!worker.ended) worker.child.kill('SIGTERM');
  return (await worker.finished).status;
}

/** Calls and events until it is told to stop; what failed, and what each account must have then. */
class Load {
  readonly failures: unknown[] = [];
  readonly ranOn = new Set<unknown>();
  readonly wanted = new Map<string, number>();
  calls = 0;
  #over = false;
  readonly #running: Promise<void>[];

  constructor() {
    this.#running = ACCOUNTS.flatMap((account) => [this.#call(account), this.#publish(account)]);
  }

  async stop(): Promise<void> {
    this.#over = true;
    await Promise.all(this.#running);
  }

  async #call(account: string): Promise<void> {
    while (!this.#over) {
      try {
        this.ranOn.add(await mill.invoke('deposit', { account }));
        this.calls += 1;
        this.#count(account);
      } catch (error) {
        this.failures.push(error);
      }
      await delay(5);
    }
  }

  async #publish(account: string): Promise<void> {
    while (!this.#over) {
      try {
        await mill.publish('scale.deposit', { account });
        this.#count(account);
      } catch (error) {
        this.failures.push(error);
      }
      await delay(25);
    }
  }

  #count(account: string): void {
    this.wanted.set(account, (this.wanted.get(account) ?? 0) + 1);
  }
}

const balances = async (): Promise<Map<string, unknown>> => {
  const { items } = await mill.inspect.list('accounts', { limit: 100 });
  return new Map(items.map(({ key, value }) => [key, value]));
};
const settled = async (load: Load): Promise<void> => {
  await load.stop();
  await until(
    'all events are handled',
    async () => (await mill.inspect.functions()).every(({ pending }) => pending === 0),
    30_000,
  );
  // Events that are settled count as pending until their cursor says so: values tell.
  await until(
    'all is there',
    async () => {
      const now = await balances();
      return ACCOUNTS.every((account) => now.get(account) === load.wanted.get(account));
    },
    20_000,
  ).catch(() => {});
  expect(await balances()).toEqual(load.wanted);
};

describe('under load', () => {
  it('a worker that comes takes keys and calls, and one that goes hands over; nothing fails', async () => {
    const first = await start();
    const load = new Load();
    await until('there is load', () => load.calls > 200);
    await start();
    await until(
      'it has keys and runs calls',
      async () => {
        const all = await mill.inspect.workers();
        return (
          all.length === 2 &&
          load.ranOn.size === 2 &&
          all.every(({ partitions }) => partitions.length > 0)
        );
      },
      10_000,
    );
    expect(await stop(first)).toBe(0);
    const before = load.calls;
    await until('calls go on', () => load.calls > before + 200, 10_000);
    await settled(load);
    expect(load.failures).toEqual([]);
  }, 90_000);

  it('all workers are replaced, one after the other; nothing fails', async () => {
    for (let index = 0; index < 3; index += 1) await start();
    const load = new Load();
    await until('there is load', () => load.calls > 200);
    for (const old of workers.splice(0, 3)) {
      await start();
      expect(await stop(old)).toBe(0);
    }
    await settled(load);
    expect(load.failures).toEqual([]);
    expect(load.calls).toBeGreaterThan(200);
  }, 120_000);
});

describe('functions', () => {
  it('scale apart from each other, and inspect says how many processes the load wants', async () => {
    const all = await start('--concurrency', '4');
    await start('--concurrency', '4', '--only', 'work', '--capacity', '200');
    await until('both are there', async () => (await mill.inspect.workers()).length === 2);
    const capacities = (await mill.inspect.workers()).map(({ capacity }) => capacity);
    expect(capacities.sort((left, right) => left - right)).toEqual([100, 200]);
    const phase = { over: false };
    const calling = Array.from({ length: 24 }, async () => {
      while (!phase.over) await mill.invoke('work', {}).catch(async () => delay(10));
    });
    await until(
      'they are busy',
      async () => (await mill.inspect.scale('work'))[0]?.wanted === 3,
      15_000,
    );
    const [deposit, work] = await mill.inspect.scale();
    expect(deposit).toMatchObject({ function: 'deposit', workers: 1, slots: 4, waiting: 0 });
    expect(work).toMatchObject({ function: 'work', workers: 2, slots: 8 });
    expect(work?.utilization).toBeGreaterThan(0.7);
    phase.over = true;
    await Promise.all(calling);
    expect(await stop(all)).toBe(0);
    await expect(
      mill.invoke('deposit', { account: 'x' }, { timeoutMs: 500 }),
    ).rejects.toMatchObject({
      code: expect.stringMatching(/UNAVAILABLE|TIMEOUT|UNKNOWN_FUNCTION/) as string,
    });
    const flags = ['--server', broker.url, '--functions', FUNCTIONS];
    const wrong = new Command(['worker', ...flags, '--only', 'work,missing']);
    const { status, stderr } = await wrong.finished;
    expect(status).toBe(2);
    expect(stderr).toContain('There is no function missing; there are: deposit, work.');
  }, 60_000);
});
