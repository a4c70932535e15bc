/** Answers in parts of workers that are processes, and die. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type * as Testing from '../../src/testing/index.ts';
import { Command } from '../support/cli.ts';

let folder: string;
let mill: Testing.TestMill;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-streaming-test-'));
  const write = async (name: string, options: string): Promise<void> =>
    writeFile(
      join(folder, name),
      `import { defineFunction } from 'millrace';\nexport default defineFunction({ ${options} });\n`,
    );
  await write(
    'ticks.ts',
    `async *handler({ data }) {
      yield process.pid;
      for (let at = 1; at < data.count; at += 1) yield at;
      if (data.waits) await new Promise(() => {});
    }`,
  );
  await write('apart.ts', "isolation: 'thread', async *handler() { yield 1; }");
  const { startTestMill } = (await import(
    String(new URL('../../dist/testing/index.js', import.meta.url))
  )) as typeof Testing;
  mill = await startTestMill({ functions: folder });
}, 60_000);

afterAll(async () => {
  await mill.close();
  await rm(folder, { recursive: true, force: true });
});

describe('an answer in parts', () => {
  it('ends with UNAVAILABLE when its worker is killed, never as if it were whole', async () => {
    const stream = mill.stream('ticks', { count: 10, waits: true });
    const got: unknown[] = [];
    const read = async (): Promise<void> => {
      for await (const part of stream) {
        got.push(part);
        if (got.length === 10) await mill.killWorker();
      }
    };
    await expect(read()).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      details: { outcome: 'unknown' },
    });
    expect(got).toHaveLength(10);
    await mill.startWorker();
  }, 30_000);

  it('is printed as it comes by the command line', async () => {
    const words = ['invoke', 'ticks', '{"count":3}', '--server', mill.url];
    const streamed = await new Command([...words, '--stream']).finished;
    expect([streamed.stderr, streamed.status]).toEqual(['', 0]);
    expect(streamed.stdout).toMatch(/^\d+\n1\n2\n$/);
    const whole = await new Command(words).finished;
    expect(whole.stdout).toMatch(/^\[\d+,1,2\]\n$/);
    expect((await new Command([...words, '--stream', '--id', 'x']).finished).status).toBe(2);
  });

  it('is refused where the function runs in threads of its own', async () => {
    await expect(mill.invoke('apart')).rejects.toThrow(/cannot answer in parts/);
  });
});
