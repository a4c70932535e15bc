/**
 * Workers of an earlier build and of this one beside each other, and what a newer one has left. The earlier one is built from the
 * repository's history: without it (a shallow clone) its test is skipped.
 */
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { crc32 } from 'node:zlib';
import { connect, type Mill } from 'millrace';
import { connect as connectNats } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { Command } from '../support/cli.ts';
import { until } from '../support/wait.ts';

/** Before messages between workers named a protocol: it has the tag `protocol-1`. The first release takes its place. */
const EARLIER = 'dc21d12f7811a4fe074e1fbd0ab440ae88735129';
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const KEYS = Array.from({ length: 12 }, (_, number) => `key-${number}`);
const EACH = 100;
const SETTLE_MS = 60_000;

const FUNCTIONS: Record<string, string> = {
  move: `async handler({ data: { from, to } }, ctx) {
    const state = ctx.state('amounts');
    const [source, target] = await Promise.all([state.get(from), state.get(to)]);
    await state.set(from, source - 1);
    await state.set(to, target + 1);
  }`,
  fill: `async handler({ data: { key } }, ctx) { await ctx.state('amounts').set(key, ${EACH}); }`,
  total: `async handler({ data: { keys } }, ctx) {
    const amounts = await Promise.all(keys.map((key) => ctx.state('amounts').get(key)));
    return amounts.reduce((sum, amount) => sum + amount, 0);
  }`,
  count: `on: 'up.count', key: ({ data }) => data.key, async handler({ data: { key } }, ctx) {
    const counts = ctx.state('counts');
    await counts.set(key, ((await counts.get(key)) ?? 0) + 1);
    await ctx.emit('up.counted', { key });
  }`,
  recount: `on: 'up.counted', async handler({ data: { key } }, ctx) {
    const counts = ctx.state('recounts');
    await counts.set(key, ((await counts.get(key)) ?? 0) + 1);
  }`,
};

function hasHistory(): boolean {
  try {
    execFileSync('git', ['cat-file', '-e', `${EARLIER}^{commit}`], { cwd: ROOT, stdio: 'ignore' });
    return true;
  } catch {
    process.stderr.write(`The upgrade from ${EARLIER} is not tested: the history is not here.\n`);
    return false;
  }
}

let folder: string;
let functions: string;
let broker: TestBroker;
let mill: Mill;
const running = new Set<Command>();
const over = new AbortController();

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-upgrade-'));
  functions = join(folder, 'functions');
  await mkdir(functions);
  for (const [name, options] of Object.entries(FUNCTIONS)) {
    const code = `import { defineFunction } from 'millrace';\nexport default defineFunction({ ${options} });\n`;
    await writeFile(join(functions, `${name}.ts`), code);
  }
  broker = await startTestBroker();
  mill = await connect({ servers: broker.url });
});

afterAll(async () => {
  over.abort();
  await Promise.all([...running].map(async (worker) => worker.end('SIGKILL')));
  await mill.close();
  await broker.stop();
  await rm(folder, { recursive: true, force: true });
});

async function start(main?: string): Promise<Command> {
  const words = ['worker', '--server', broker.url, '--functions', functions];
  const worker = new Command(words, main === undefined ? {} : { main, cwd: folder });
  running.add(worker);
  await until(
    'a worker is ready',
    () => worker.stdout.includes('is ready') || worker.ended,
    SETTLE_MS,
  ).catch((error: Error) => {
    throw new Error(`${error.message}: ${worker.stdout}${worker.stderr}`);
  });
  expect(worker.stdout).toContain('is ready');
  return worker;
}

async function stop(worker: Command): Promise<void> {
  running.delete(worker);
  const { status, stdout, stderr } = await worker.end();
  expect({ status, said: `${stdout}${stderr}` }).toMatchObject({ status: 0 });
  expect(`${stdout}${stderr}`).not.toMatch(/NEWER_VERSION|corrupt/);
}

async function build(commit: string): Promise<string> {
  const there = join(folder, 'earlier');
  await mkdir(there);
  const archive = execFileSync('git', ['archive', commit], { cwd: ROOT, maxBuffer: 2 ** 28 });
  execFileSync('tar', ['-x', '-C', there], { input: archive });
  await symlink(join(ROOT, 'node_modules'), join(there, 'node_modules'));
  execFileSync(join(there, 'node_modules/.bin/tsc'), ['-p', 'tsconfig.build.json'], { cwd: there });
  return join(there, 'dist/cli/main.js');
}

describe('an upgrade', () => {
  it.skipIf(!hasHistory())(
    'from the earlier version, worker by worker, and one back, loses nothing and does nothing twice',
    async () => {
      const earlier = await build(EARLIER);
      const { connect: connectEarlier } = (await import(join(folder, 'earlier/dist/index.js'))) as {
        connect: typeof connect;
      };
      const old = await connectEarlier({ servers: broker.url });
      const before = [await start(earlier), await start(earlier)];
      for (const key of KEYS) await mill.invoke('fill', { key });

      let published = 0;
      // Callers of both versions.
      const load = [mill, old].map(async (client, which) => {
        for (let step = which; !over.signal.aborted; step += 1) {
          const [from, to] = [KEYS[step % KEYS.length], KEYS[(step * 5 + 1) % KEYS.length]];
          if (from !== to) await client.invoke('move', { from, to });
          await client.publish('up.count', { key: from }, { id: `${which}-${step}` });
          published += 1;
          await delay(5);
        }
      });
      const more = async (): Promise<void> => {
        const from = published;
        await until('it goes on', () => published > from + 50, SETTLE_MS);
      };
      await more();
      const after: Command[] = [];
      for (const worker of before) {
        after.push(await start());
        await more();
        await stop(worker);
      }
      const back = await start(earlier);
      await stop(after.pop() as Command);
      await more();
      over.abort();
      await Promise.all(load);
      await old.close();

      const counted = async (collection: string): Promise<number> => {
        const { items } = await mill.inspect.list<number>(collection);
        return items.reduce((sum, { value }) => sum + value, 0);
      };
      await until(
        'all is counted',
        async () => (await counted('recounts').catch(() => 0)) >= published,
        SETTLE_MS,
      );
      expect(await counted('counts')).toBe(published);
      expect(await counted('recounts')).toBe(published);
      expect(await mill.invoke('total', { keys: KEYS })).toBe(KEYS.length * EACH);
      for (const worker of [...after, back]) await stop(worker);
    },
    240_000,
  );

  it('undone after a newer version has written: its partition is not served, the word is clear, nothing is changed', async () => {
    const first = await start();
    for (const key of KEYS) await mill.invoke('fill', { key });
    const [one = ''] = KEYS;
    const { partition } = await mill.inspect.state('amounts', one);
    await stop(first);

    const nats = await connectNats({ servers: broker.url });
    const { streams } = await nats.jetstreamManager();
    const subject = `millrace.log.claims-${partition}`;
    const stream = await streams.find(subject);
    const last = async (): Promise<{ seq: number; data: Uint8Array }> =>
      streams.getMessage(stream, { last_by_subj: subject });
    const claim = Buffer.from((await last()).data);
    const version = claim.readUInt8(0) + 1;
    claim.writeUInt8(version, 0);
    claim.writeUInt32BE(crc32(claim.subarray(0, -4)), claim.length - 4);
    const { seq } = await nats.jetstream().publish(subject, claim);

    const second = await start();
    await second.says('[NEWER_VERSION]');
    expect(second.stdout + second.stderr).toContain(
      `partition ${partition} is not served: The claim of a partition is of format ${version}, written by a newer version of millrace`,
    );
    const others: unknown[] = [];
    for (const key of KEYS.slice(1)) {
      others.push((await mill.inspect.state('amounts', key).catch(() => undefined))?.value);
    }
    expect(others).toContain(EACH);
    await second.end();
    running.delete(second);
    expect(await last()).toMatchObject({ seq, data: Uint8Array.from(claim) });

    // The table keeps a worker from starting at all.
    const table = await nats.jetstream().views.kv('millrace-assignment');
    const format = Buffer.from(JSON.stringify({ format: 2, owners: [] }));
    const revision = await table.put('assignment', format);
    const third = new Command(['worker', '--server', broker.url, '--functions', functions]);
    expect(await third.finished).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(
        /^.*The table of partitions is of format 2, .*\[NEWER_VERSION\]\n$/,
      ),
    });
    expect((await table.get('assignment'))?.revision).toBe(revision);
    await nats.close();
  }, 120_000);
});
