/** What the gateway keeps for those who look: shared answers, and the last traces. */
import { describe, expect, it, vi } from 'vitest';
import type { Run } from '../../src/bus/run-traces.ts';
import { MillraceError } from '../../src/core/errors.ts';
import { Shared } from '../../src/gateway/shared.ts';
import { TraceStore } from '../../src/gateway/trace-store.ts';

describe('a shared answer', () => {
  it('is asked for once, however many want it, and again when it is old or forgotten', async () => {
    let asked = 0;
    const shared = new Shared(60_000, async () => (asked += 1));
    const all = await Promise.all([shared.get(), shared.get(), shared.get()]);
    expect(all.map((each) => 'value' in each && each.value)).toEqual([1, 1, 1]);
    await shared.get();
    expect(asked).toBe(1);
    shared.forget();
    await shared.get();
    expect(asked).toBe(2);
    const fresh = new Shared(0, async () => (asked += 1));
    await fresh.get();
    await fresh.get();
    expect(asked).toBe(4);
  });

  it('is an error with its code where asking fails, and nothing of what is unknown is told', async () => {
    const failing = (error: Error) =>
      new Shared(0, async () => {
        throw error;
      }).get();
    expect(await failing(new MillraceError('UNAVAILABLE', 'no worker'))).toMatchObject({
      error: { code: 'UNAVAILABLE', message: 'no worker' },
    });
    expect(JSON.stringify(await failing(new Error('a secret')))).not.toContain('secret');
  });
});

describe('the last traces', () => {
  const run = (trace: string, id: string, more: Partial<Run> = {}): Run => ({
    trace,
    run: id,
    function: `f-${id}`,
    version: 'v',
    worker: 'w',
    invocation: id,
    subject: 's',
    attempt: 1,
    runs: 1,
    startedAtMs: 1_000,
    handlerMs: 1,
    durationMs: 2,
    emitted: [],
    calls: [],
    more: 0,
    ...more,
  });

  it('are collected from the first question on, and no more after a while without one', async () => {
    vi.useFakeTimers();
    let [begun, ended] = [0, 0];
    const store = new TraceStore(() => {
      begun += 1;
      return () => (ended += 1);
    }, 1_000);
    expect(store.isFollowing).toBe(false);
    store.list();
    vi.advanceTimersByTime(900);
    store.list();
    vi.advanceTimersByTime(900);
    expect([store.isFollowing, begun, ended]).toEqual([true, 1, 0]);
    vi.advanceTimersByTime(200);
    expect([store.isFollowing, ended]).toEqual([false, 1]);
    vi.useRealTimers();
  });

  it('are bounded in number and in runs, and named by the run that began them', () => {
    let add: (runs: Run[], dropped: number) => void = () => {};
    const store = new TraceStore((onRuns) => {
      add = onRuns;
      return () => {};
    });
    store.list();
    add(
      [
        run('t0', 'late', {
          parent: 'first',
          startedAtMs: 900,
          durationMs: 500,
          error: 'FUNCTION_FAILED',
        }),
        run('t0', 'first', { storedAtMs: 800 }),
      ],
      3,
    );
    expect(store.list()).toEqual([
      {
        id: 't0',
        function: 'f-first',
        subject: 's',
        startedAtMs: 800,
        durationMs: 600,
        runs: 2,
        errors: 1,
      },
    ]);
    expect(store.get('t0')?.runs.map(({ run: id }) => id)).toEqual(['late', 'first']);
    add(
      Array.from({ length: 250 }, (_, at) => run('t0', `${at}`)),
      0,
    );
    expect(store.get('t0')).toMatchObject({ more: 52 });
    expect(store.get('t0')?.runs).toHaveLength(200);
    add(
      Array.from({ length: 200 }, (_, at) => run(`t${at + 1}`, 'only')),
      0,
    );
    expect(store.list()).toHaveLength(200);
    expect(store.get('t0')).toBeUndefined();
    expect(store.dropped).toBe(3);
    store.close();
  });
});
