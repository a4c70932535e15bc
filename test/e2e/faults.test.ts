/**
 * The kit's faults, and the samples under them. FAULT_SECONDS is how long each sample is under faults (default 3), FAULT_SEED
 * what they are drawn from (default: new ones).
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type * as Testing from '../../src/testing/index.ts';
import { until } from '../support/wait.ts';

const SECONDS = Number(process.env['FAULT_SECONDS'] ?? 3);
const SEED = process.env['FAULT_SEED'];
const drawn = SEED === undefined ? {} : { seed: Number(SEED) };

const ACCOUNTS = Array.from({ length: 16 }, (_, number) => `account-${number}`);
const BALANCE = 1_000;
const PATIENCE_MS = 30_000;
const SUM = ACCOUNTS.length * BALANCE;

const { startTestMill } = (await import(
  String(new URL('../../dist/testing/index.js', import.meta.url))
)) as typeof Testing;
let mill: Testing.TestMill;

beforeAll(async () => {
  mill = await startTestMill({ workers: 2, faults: true, logLevel: 'error' });
  for (const account of ACCOUNTS) await mill.invoke('open', { account, balance: BALANCE });
}, 60_000);

afterAll(async () => mill.close());

const transfers =
  (by: Testing.TestMill) =>
  async (step: number): Promise<unknown> => {
    const from = ACCOUNTS[step % ACCOUNTS.length];
    const to = ACCOUNTS[(step * 7 + 3) % ACCOUNTS.length];
    return from === to ? undefined : by.invoke('transfer', { from, to, amount: 1 });
  };
const transfer = async (step: number): Promise<unknown> => transfers(mill)(step);
const total = async (): Promise<unknown> => mill.invoke('total', { accounts: ACCOUNTS });

/** Transfers, while a fault waits for what it is to befall. */
async function transferUntil<Value>(over: Promise<Value>): Promise<Value> {
  const waiting = new AbortController();
  const stop = (): void => waiting.abort();
  void over.then(stop, stop);
  for (let step = 0; !waiting.signal.aborted; step += 1) await transfer(step);
  return over;
}

describe('the kit', () => {
  it('kills a coordinator between prepare and commit, and the transfer is made once', async () => {
    const before = mill.workers;
    const { worker, transaction } = await transferUntil(
      mill.faults.killCoordinator({ collection: 'accounts' }),
    );
    expect(before).toContain(worker);
    expect(mill.workers).not.toContain(worker);
    expect(transaction.startsWith(`${worker}-`)).toBe(true);
    await mill.startWorker();
    await mill.settled();
    expect(await total()).toBe(SUM);
  }, 60_000);

  it('drops votes: transfers are committed all the same', async () => {
    await transferUntil(mill.faults.dropVote({ times: 3 }));
    expect(await total()).toBe(SUM);
  }, 60_000);

  it('delays appends', async () => {
    const over = mill.faults.delayAppends(400, { forMs: 500 });
    const startMs = performance.now();
    await mill.invoke('transfer', { from: ACCOUNTS[0], to: ACCOUNTS[1], amount: 1 });
    expect(performance.now() - startMs).toBeGreaterThanOrEqual(390);
    await over;
  }, 60_000);

  it.each(['pauseWorker', 'cutOff'] as const)(
    '%s takes a worker its partitions, and it comes back',
    async (fault) => {
      const [worker = ''] = mill.workers;
      const ended = new AbortController();
      const owners = async (): Promise<unknown[]> =>
        (await mill.inspect.partitions()).map(({ owner }) => owner);
      const owns = async (): Promise<boolean> =>
        (await owners().catch((): unknown[] => [])).includes(worker);
      await until('it owns some', owns, PATIENCE_MS);
      const over = mill.faults[fault](25_000, { worker, signal: ended.signal });
      await until(
        'others own all',
        async () => {
          const now = await owners().catch((): unknown[] => [null]);
          return !now.includes(null) && !now.includes(worker);
        },
        PATIENCE_MS,
      );
      // A call may still have gone to the worker that says nothing.
      const sum = async (): Promise<unknown> => total().catch(() => 0);
      expect(await until('there is a sum', sum, PATIENCE_MS)).toBe(SUM);
      ended.abort();
      await over;
      await until('it owns some again', owns, PATIENCE_MS);
    },
    120_000,
  );

  it('says what cannot be', async () => {
    await expect(mill.faults.dropVote({ timeoutMs: 10 })).rejects.toMatchObject({
      code: 'TIMEOUT',
      message: 'No more vote messages were sent within 10 ms.',
    });
    await expect(mill.faults.cutOff(10, { worker: 'nobody' })).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    await expect(mill.faults.pauseWorker(-1)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    const never = { during: async () => {}, invariant: async () => {}, faults: [] };
    await expect(mill.checkInvariant(never)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  });

  it('finds an invariant that does not hold, and says under which seed', async () => {
    const wrong = async (): Promise<void> => {
      throw new Error('the load is wrong');
    };
    const check = { invariant: total, seconds: 5, seed: 7, faults: ['drop-vote'] as const };
    await expect(mill.checkInvariant({ ...check, during: wrong })).rejects.toMatchObject({
      code: 'INVARIANT_BROKEN',
      message: expect.stringContaining('Seed 7, after 0 steps'),
    });
    let looks = 0;
    const invariant = async (): Promise<boolean> => {
      looks += 1;
      return (await mill.state('accounts', 'opened')) === undefined;
    };
    const during = async (step: number): Promise<unknown> =>
      step === 3 ? mill.invoke('open', { account: 'opened', balance: 1 }) : transfer(step);
    await expect(mill.checkInvariant({ ...check, during, invariant })).rejects.toMatchObject({
      code: 'INVARIANT_BROKEN',
      message: expect.stringMatching(
        /^Seed 7, after \d+ steps and \d+ ms: the invariant gives false/,
      ),
    });
    expect(looks).toBeGreaterThan(1);
  }, 60_000);
});

describe('the samples under faults', () => {
  it(
    'bank: the sum of all accounts stays',
    async () => {
      const report = await mill.checkInvariant({
        ...drawn,
        seconds: SECONDS,
        during: transfer,
        invariant: async () => expect(await total()).toBe(SUM),
      });
      tell('bank', report);
    },
    SECONDS * 1_000 + 120_000,
  );

  it(
    'travel: no room is given away twice, and none is taken without its trip',
    async () => {
      const ROOMS = 3;
      const NIGHTS = ['Ritz 2027-05-01', 'Ritz 2027-05-02'];
      await mill.invoke('add-hotel', { hotel: 'Ritz', rooms: ROOMS });
      await mill.invoke('add-flight', { flight: 'MR17', seats: 2 });
      const stays = [{ hotel: 'Ritz', inDate: '2027-05-01', outDate: '2027-05-03' }];
      const guestsOf = async (night: string): Promise<string[]> =>
        (await mill.state<string[]>('guests', night)) ?? [];
      const report = await mill.checkInvariant({
        ...drawn,
        seconds: SECONDS,
        async during(step) {
          const trip = `trip-${step}`;
          const flight = step % 3 === 0 ? { flight: 'MR17' } : {};
          await mill.invoke('book-trip', { trip, customer: trip, stays, ...flight });
          await mill.invoke('cancel-trip', { trip });
        },
        async invariant() {
          for (const night of NIGHTS) {
            const guests = await guestsOf(night);
            expect(guests.length).toBeLessThanOrEqual(ROOMS);
            expect(new Set(guests).size).toBe(guests.length);
          }
        },
      });
      tell('travel', report);
      const trips = (await mill.inspect.list('trips')).items.map(({ key }) => key).sort();
      for (const night of NIGHTS) expect((await guestsOf(night)).sort()).toEqual(trips);
    },
    SECONDS * 1_000 + 120_000,
  );
});

it(
  'three servers, of which one after the other is killed: the sum of all accounts stays',
  async () => {
    await using cluster = await startTestMill({
      workers: 2,
      servers: 3,
      faults: true,
      logLevel: 'fatal',
    });
    for (const account of ACCOUNTS) await cluster.invoke('open', { account, balance: BALANCE });
    const report = await cluster.checkInvariant({
      ...drawn,
      seconds: SECONDS,
      faults: ['kill-server'],
      during: transfers(cluster),
      invariant: async () =>
        expect(await cluster.invoke('total', { accounts: ACCOUNTS })).toBe(SUM),
    });
    tell('bank on three servers', report);
  },
  SECONDS * 1_000 + 180_000,
);

it('a server that is killed keeps what was acknowledged', async () => {
  await transferUntil(mill.faults.killServer(200));
  await mill.settled();
  expect(await total()).toBe(SUM);
  await expect(mill.faults.killServer(0, { server: 1 })).rejects.toMatchObject({
    code: 'NOT_FOUND',
  });
}, 60_000);

function tell(sample: string, report: Testing.InvariantReport): void {
  process.stderr.write(`${sample}: ${JSON.stringify(report)}\n`);
  expect(report.steps).toBeGreaterThan(10);
}
