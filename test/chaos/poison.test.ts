/** An event that kills every worker that runs it, again and again: it is given up, and all others are handled once. */
import { fileURLToPath } from 'node:url';
import { connect, type Mill } from 'millrace';
import { expect, it } from 'vitest';
import { startTestBroker } from '../support/broker.ts';
import { Command } from '../support/cli.ts';
import { until } from '../support/wait.ts';

const FUNCTIONS = fileURLToPath(new URL('../fixtures/chaos-poison', import.meta.url));
const WORKERS = 2;
const EVENTS = 200;
const SETTLE_MS = 90_000;
/** Its own deaths, and those of its dispatchers beside it. */
const MAX_DEATHS = 20;

/** Starts another worker for each that ends. */
class Supervisor {
  deaths = 0;
  readonly #url: string;
  readonly #workers = new Set<Command>();
  #over = false;

  constructor(url: string) {
    this.#url = url;
  }

  start(): void {
    const worker = new Command(['worker', '--server', this.#url, '--functions', FUNCTIONS]);
    this.#workers.add(worker);
    void worker.finished.then(() => {
      this.#workers.delete(worker);
      if (this.#over) return;
      this.deaths += 1;
      this.start();
    });
  }

  async stop(): Promise<void> {
    this.#over = true;
    await Promise.all([...this.#workers].map(async (worker) => worker.end('SIGKILL')));
  }
}

async function deadOf(mill: Mill): Promise<readonly { code: string }[]> {
  const letters = await mill.dead.list({ function: 'deadly' }).catch(() => []);
  return letters.flatMap(({ failures }) => failures.slice(-1));
}

it(
  'is a dead letter in the end, and the others are handled once',
  { timeout: 150_000 },
  async () => {
    const broker = await startTestBroker();
    const supervisor = new Supervisor(broker.url);
    for (let count = 0; count < WORKERS; count += 1) supervisor.start();
    const mill = await connect({ servers: broker.url });
    try {
      await until('the function is there', async () => {
        const functions = await mill.inspect.functions().catch(() => []);
        return functions[0]?.workers === WORKERS;
      });
      for (let value = 0; value < EVENTS; value += 1) {
        const kills = value === EVENTS / 2;
        await mill.publish('deadly.it', { value, kills }, { id: `deadly-${value}` });
      }
      await until('it is given up', async () => (await deadOf(mill)).length > 0, SETTLE_MS);
      const counted = async (): Promise<unknown[]> => {
        const page = await mill.inspect
          .list('counts', { limit: 1_000 })
          .catch(() => ({ items: [] }));
        return page.items.map(({ value }) => value);
      };
      await until(
        'all others are handled',
        async () => (await counted()).length === EVENTS - 1,
        SETTLE_MS,
      );
      expect(new Set(await counted())).toEqual(new Set([1]));
      expect(await deadOf(mill)).toMatchObject([{ code: 'UNAVAILABLE' }]);
      expect(supervisor.deaths).toBeLessThanOrEqual(MAX_DEATHS);
      process.stderr.write(`an event that kills: given up after ${supervisor.deaths} workers\n`);
    } finally {
      await mill.close();
      await supervisor.stop();
      await broker.stop();
    }
  },
);
