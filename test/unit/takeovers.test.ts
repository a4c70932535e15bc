/** How often partitions that cannot be taken over are tried: by clock, not by how many there are. */
import pino from 'pino';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { parseSettings } from '../../src/core/settings.ts';
import { Hosting, type HostingOptions } from '../../src/state/hosting.ts';

const PARTITIONS = 8;
const FOR_MS = 3_000;
/** As hosting.ts has it. */
const RETRY_MS = 250;

const layout = { generation: 0, from: PARTITIONS, to: PARTITIONS };
const assignment = {
  owners: Array.from({ length: PARTITIONS }, () => 'me'),
  layout,
  revision: 1,
};

let hosting: Hosting;
let tried: number[];

/** Its log is never read: `fail` says why. */
function hostingWith(
  bus: { up: boolean },
  fail: (partition: number) => Error,
  { owner, table = assignment }: { owner?: string; table?: typeof assignment | Error } = {},
): Hosting {
  const nothing = (): void => {};
  const options = {
    bus: { ...bus, subscribe: () => ({ unsubscribe: nothing }), publish: nothing },
    settings: parseSettings({}),
    log: pino({ level: 'silent' }),
    workerId: 'me',
    store: { read: async () => (table instanceof Error ? Promise.reject(table) : table) },
    streams: {
      claims: (partition: number) => ({
        last: async () => {
          tried.push(partition);
          return Promise.reject(fail(partition));
        },
      }),
      snapshots: () => ({}),
      journal: () => ({}),
    },
    cluster: {
      members: new Map(),
      left: new Set(),
      ownerOf: () => owner,
      hosts: () => [{ id: 'me', capacity: 1 }],
      changed: nothing,
      isGone: async () => Promise.resolve(false),
    },
    places: { layout, adopt: () => false },
    onOwned: nothing,
  };
  return new Hosting(options as unknown as HostingOptions, assignment);
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'setTimeout', 'performance'] });
  tried = [];
});
afterEach(async () => {
  await hosting.close();
  vi.useRealTimers();
});

it.each([
  ['that cannot be read', 'UNAVAILABLE', FOR_MS / RETRY_MS + 1],
  ['that a newer version has written', 'NEWER_VERSION', 1],
])('logs %s are tried again at their time, each for itself', async (_, code, times) => {
  hosting = hostingWith({ up: true }, () => Object.assign(new Error('no'), { code }));
  for (let atMs = 0; atMs < FOR_MS; atMs += 10) {
    if (atMs % 100 === 0) hosting.reconcile();
    await vi.advanceTimersByTimeAsync(10);
  }
  for (let partition = 0; partition < PARTITIONS; partition += 1) {
    const count = tried.filter((each) => each === partition).length;
    expect(count).toBeGreaterThanOrEqual(Math.max(1, times - 2));
    expect(count).toBeLessThanOrEqual(times);
  }
});

it('without a connection none is tried', async () => {
  hosting = hostingWith({ up: false }, () => new Error('no'));
  hosting.reconcile();
  await vi.advanceTimersByTimeAsync(FOR_MS);
  expect(tried).toEqual([]);
});

it('those that another worker has and does not let go hold up no others', async () => {
  hosting = hostingWith({ up: true }, () => new Error('it has not let go'), { owner: 'other' });
  hosting.reconcile();
  await vi.advanceTimersByTimeAsync(RETRY_MS);
  expect(new Set(tried).size).toBe(PARTITIONS);
});

it('where the table cannot be read what it had last counts', async () => {
  const table = Object.assign(new Error('not ours'), { code: 'STREAM_UNUSABLE' });
  hosting = hostingWith({ up: true }, () => new Error('no'), { table });
  hosting.reconcile();
  await vi.advanceTimersByTimeAsync(RETRY_MS);
  expect(new Set(tried).size).toBe(PARTITIONS);
});
