/** What a power cut, or a disk, can leave of the log: half an append at its end, or damage in its middle. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { connect, defineFunction, type Mill } from '../../src/index.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker } from '../support/worker.ts';

const KEYS = 5;
const WRITES = 30;
/** Of the end of the log, that is written a second time, as an append that was cut off. */
const TORN_BYTES = 150;

const add = defineFunction({
  name: 'add',
  async handler({ data }, ctx) {
    const key = `key-${data as number}`;
    await ctx.state('sums').set(key, ((await ctx.state<number>('sums').get(key)) ?? 0) + 1);
  },
});

/** The newest file of the stream of logs. */
async function lastBlock({ storeDir }: TestBroker): Promise<string> {
  const folder = join(storeDir, 'jetstream/$G/streams/millrace-log/msgs');
  const blocks = (await readdir(folder)).filter((name) => name.endsWith('.blk'));
  blocks.sort((left, right) => Number.parseInt(left, 10) - Number.parseInt(right, 10));
  return join(folder, blocks.at(-1) ?? '');
}

async function sum(mill: Mill): Promise<number> {
  const values = await until('the state is served', async () =>
    mill.inspect.list('sums').then(
      ({ items }) => items.map(({ value }) => value as number),
      () => undefined,
    ),
  );
  return values.reduce((total, value) => total + value, 0);
}

const LOST = /the log of the state has lost its end/;

/** Writes, kills the broker, has its file changed, and gives what there is then, and whether a worker says that something is lost. */
async function after(change: (bytes: Buffer) => Buffer): Promise<{ left: number; said: boolean }> {
  const broker = await startTestBroker();
  const before = await startTestWorker(broker.url, [add]);
  const writer = await connect({ servers: broker.url });
  try {
    for (let write = 0; write < WRITES; write += 1) await writer.invoke('add', write % KEYS);
    const bucket = await before.bus.keyValue('millrace-assignment', 1);
    await until('it is noted how far the log goes', async () => {
      const noted = await bucket.get('log-end');
      return (noted?.json<{ sequence: number }>().sequence ?? 0) >= WRITES;
    });
    await broker.kill();
    const block = await lastBlock(broker);
    await writeFile(block, change(await readFile(block)));
    await Promise.all([writer.close(), before.bus.close()]);
    await broker.restart();
    const worker = await startTestWorker(broker.url, [add]);
    const mill = await connect({ servers: broker.url });
    const left = await sum(mill);
    const said = worker.logs.some(({ msg }) => LOST.test(String(msg)));
    await mill.close();
    await worker.bus.close();
    return { left, said };
  } finally {
    await broker.stop();
  }
}

it('half an append at the end of the log costs nothing that was acknowledged', async () => {
  const torn = (bytes: Buffer): Buffer =>
    Buffer.concat([bytes, bytes.subarray(-2 * TORN_BYTES, -TORN_BYTES)]);
  expect(await after(torn)).toEqual({ left: WRITES, said: false });
});

it('damage in the middle of the log is told, because the broker drops what follows in silence', async () => {
  const { left, said } = await after((bytes) => {
    const middle = bytes.length >> 1;
    bytes.writeUInt8(bytes.readUInt8(middle) ^ 0xff, middle);
    return bytes;
  });
  expect(left).toBeLessThan(WRITES);
  expect(said).toBe(true);
});
