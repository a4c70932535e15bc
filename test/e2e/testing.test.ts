/** The testing kit, as it is built. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type * as Testing from '../../src/testing/index.ts';
import { until } from '../support/wait.ts';

const DAY_MS = 86_400_000;

let folder: string;
let mill: Testing.TestMill;
let startTestMill: typeof Testing.startTestMill;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-testing-test-'));
  const write = async (name: string, options: string): Promise<void> =>
    writeFile(
      join(folder, name),
      `import { defineFunction } from 'millrace';\nexport default defineFunction({ ${options} });\n`,
    );
  await write(
    'count.ts',
    `on: 'kit.count', handler: async ({ data }, ctx) => {
      const state = ctx.state('counts');
      if (data.slow) await new Promise((done) => setTimeout(done, 300));
      await state.set('all', ((await state.get('all')) ?? 0) + 1);
      await ctx.emit('kit.counted', { n: data.n });
    }`,
  );
  await write(
    'remind.ts',
    `on: 'kit.remind', handler: async (_, ctx) => ctx.emit('kit.count', { n: 9 }, { delayMs: ${2 * DAY_MS} })`,
  );
  await write(
    'fails.ts',
    "on: 'kit.fails', retries: { maxAttempts: 2, minDelayMs: 10 }, handler: () => { throw new Error('no'); }",
  );
  await write('stuck.ts', "on: 'kit.stuck', handler: () => new Promise(() => {})");
  ({ startTestMill } = (await import(
    String(new URL('../../dist/testing/index.js', import.meta.url))
  )) as typeof Testing);
  mill = await startTestMill({ functions: folder, workers: 2 });
}, 60_000);

afterAll(async () => {
  await mill.close();
  await rm(folder, { recursive: true, force: true });
});

describe('the testing kit', () => {
  it('waits until all is settled, though a worker is killed in the midst of it', async () => {
    const counted = mill.record('kit.counted');
    for (let n = 0; n < 20; n += 1) await mill.publish('kit.count', { n, slow: n % 5 === 0 });
    const [oldest] = mill.workers;
    expect(await mill.killWorker()).toBe(oldest);
    expect(mill.workers).not.toContain(oldest);
    await mill.startWorker();
    await mill.settled();
    expect(await mill.state('counts', 'all')).toBe(20);
    expect(new Set(counted.map(({ data }) => (data as { n: number }).n)).size).toBe(20);
    expect(await mill.state('counts', 'other')).toBeUndefined();
    await expect(mill.killWorker('nobody')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  }, 60_000);

  it('lets time pass for events that are to come later', async () => {
    const counted = mill.record('kit.counted');
    await mill.publish('kit.remind', {});
    await mill.publish('kit.count', { n: 7 }, { delayMs: DAY_MS });
    await mill.settled();
    expect(counted).toEqual([]);
    expect(await mill.skip(DAY_MS)).toBe(1);
    await until('it is counted', () => counted.length === 1);
    expect(counted[0]?.data).toEqual({ n: 7 });
    expect(await mill.skip(DAY_MS / 2)).toBe(0);
    expect(await mill.skip(DAY_MS)).toBe(1);
    await until('it is counted', () => counted.length === 2);
    await mill.settled();
    expect(counted.map(({ data }) => data)).toEqual([{ n: 7 }, { n: 9 }]);
  }, 60_000);

  it('shows what was given up', async () => {
    await mill.publish('kit.fails', { why: 1 });
    await mill.settled();
    expect(await mill.deadLetters()).toMatchObject([{ function: 'fails', attempts: 2 }]);
  }, 60_000);

  it('says what does not settle, and refuses what cannot be', async () => {
    await mill.publish('kit.stuck', {});
    await expect(mill.settled(1_000)).rejects.toMatchObject({
      code: 'TIMEOUT',
      message: 'Not settled within 1000 ms: 1 of stuck.',
    });
    await expect(startTestMill({ functions: folder, workers: 0 })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
    });
    await expect(startTestMill({ functions: join(folder, 'none') })).rejects.toMatchObject({
      code: 'UNAVAILABLE',
    });
  }, 60_000);
});
