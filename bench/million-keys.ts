/**
 * A million keys in one collection: how long a page of it takes, and what the worker's memory is. One worker in this process, a broker
 * of its own. `tsx bench/million-keys.ts [keys]`; it does not measure writing, nor what callers do meanwhile.
 */
import { connect, defineFunction } from '../src/index.ts';
import { startTestBroker } from '../test/support/broker.ts';
import { startTestWorker } from '../test/support/worker.ts';
import { print } from './print.ts';

const KEYS = Number(process.argv[2] ?? 1_000_000);
const KEYS_EACH = 2_000;
const AT_ONCE = 4;
const PAGES = 10;

const fill = defineFunction({
  name: 'fill',
  handler: async ({ data }, ctx) => {
    const items = ctx.state('items');
    const from = data as number;
    for (let index = from; index < from + KEYS_EACH; index += 1) {
      await items.set(`key-${String(index).padStart(8, '0')}`, { index });
    }
  },
});

const megabytes = (): number => Math.round(process.memoryUsage().rss / 2 ** 20);

async function timed(what: string, work: () => Promise<unknown>): Promise<void> {
  const times: number[] = [];
  for (let page = 0; page < PAGES; page += 1) {
    const startMs = performance.now();
    await work();
    times.push(performance.now() - startMs);
  }
  times.sort((left, right) => left - right);
  const [median, most] = [times[PAGES >> 1], times.at(-1)].map((ms) => Math.round(ms ?? 0));
  print(`${what}: median ${median} ms, at most ${most} ms`);
}

const broker = await startTestBroker();
const worker = await startTestWorker(broker.url, [fill]);
worker.logs.push = () => 0;
const mill = await connect({ servers: broker.url });
const before = megabytes();
const startMs = performance.now();
let next = 0;
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    while (next < KEYS) {
      const from = next;
      next += KEYS_EACH;
      await mill.invoke('fill', from, { timeoutMs: 120_000 });
    }
  }),
);
const seconds = (performance.now() - startMs) / 1_000;
print(`${KEYS} keys in ${seconds.toFixed(1)} s; ${before} MB before, ${megabytes()} MB now`);
let cursor: string | null = null;
await timed('a page of 100', async () => {
  ({ cursor } = await mill.inspect.list('items', cursor === null ? {} : { cursor }));
});
await timed('a page of 1,000', async () => {
  const options = { limit: 1_000, ...(cursor === null ? {} : { cursor }) };
  ({ cursor } = await mill.inspect.list('items', options));
});
await timed('the last of a prefix', async () =>
  mill.inspect.list('items', { prefix: 'key-00099' }),
);
await timed('one key', async () => mill.inspect.state('items', 'key-00000500'));
print(`${megabytes()} MB at the end`);
await mill.close();
await worker.stop();
await broker.stop();
