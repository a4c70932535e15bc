/** A server that has no space left: what is refused, what is kept, and that it goes on when there is space again. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectNats } from 'nats';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { findBroker, startBroker, type Broker } from '../../src/broker/index.ts';
import { connect, defineFunction, MillraceError } from '../../src/index.ts';
import { notePid } from '../support/processes.ts';
import { until } from '../support/wait.ts';
import { startTestWorker } from '../support/worker.ts';

const CONFIG = new URL('../../config/nats-server.conf', import.meta.url);
const VALUE = 'x'.repeat(200_000);
const FILL_BYTES = 256 * 1024;

let directory: string;
let broker: Broker;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'millrace-full-'));
  const configFile = join(directory, 'small.conf');
  const config = await readFile(CONFIG, 'utf8');
  await writeFile(configFile, config.replace('sync_interval: always', '$&\n  max_file_store: 8MB'));
  const binary = await findBroker({});
  const storeDir = join(directory, 'store');
  broker = await startBroker({ binary, port: 0, storeDir, configFile });
  notePid(broker.pid);
});
afterAll(async () => {
  await broker.stop();
  await rm(directory, { recursive: true, force: true });
});

const count = defineFunction({
  name: 'count',
  async handler(_, ctx) {
    const state = ctx.state<{ count: number; text: string }>('counts');
    const before = (await state.get('it'))?.count ?? 0;
    await state.set('it', { count: before + 1, text: VALUE });
    return before + 1;
  },
});

it(
  'writes are refused with a code while there is no space, and nothing is lost or done twice',
  { timeout: 90_000 },
  async () => {
    const worker = await startTestWorker(broker.url, [count]);
    const mill = await connect({ servers: broker.url });
    const nats = await connectNats({ servers: broker.url });
    const manager = await nats.jetstreamManager();
    try {
      await manager.streams.add({ name: 'filler', subjects: ['filler'] });
      expect(await mill.invoke('count', undefined, { id: 'first' })).toBe(1);
      await until('there is no space', async () =>
        nats
          .jetstream()
          .publish('filler', new Uint8Array(FILL_BYTES))
          .then(
            () => false,
            () => true,
          ),
      );
      await expect(
        mill.invoke('count', undefined, { id: 'second', timeoutMs: 3_000 }),
      ).rejects.toBeInstanceOf(MillraceError);
      await manager.streams.purge('filler');
      const second = await until(
        'it goes on',
        async () =>
          mill
            .invoke('count', undefined, { id: 'second', timeoutMs: 3_000 })
            .catch((error: unknown) => {
              if (error instanceof MillraceError) return undefined;
              throw error;
            }),
        60_000,
      );
      expect(second).toBe(2);
      expect(await mill.invoke('count', undefined, { id: 'first' })).toBe(1);
      expect(await mill.invoke('count')).toBe(3);
    } finally {
      await nats.close();
      await mill.close();
      await worker.stop();
    }
  },
);
