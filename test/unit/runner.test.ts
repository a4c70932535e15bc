import * as fc from 'fast-check';
import pino from 'pino';
import { describe, expect, it } from 'vitest';
import { ContentType, type Encoded } from '../../src/core/payload.ts';
import { MillraceError } from '../../src/core/errors.ts';
import { parseSettings, type SettingsInput } from '../../src/core/settings.ts';
import { defineFunction } from '../../src/function/define.ts';
import type { Incoming, Invocation } from '../../src/worker/invocation.ts';
import { LiveInvocations } from '../../src/worker/live.ts';
import type { RunnerHost } from '../../src/worker/runner-host.ts';
import { FunctionRunner } from '../../src/worker/runner.ts';
import { FunctionStats } from '../../src/worker/stats.ts';
import { Secrets } from '../../src/worker/secrets.ts';
import { Streams } from '../../src/worker/streams.ts';
import { FakeBus } from '../support/fake-bus.ts';

interface Rig {
  runner: FunctionRunner;
  stats: FunctionStats;
  live: LiveInvocations;
  /** Makes a request and gives what it is answered with, each answer one entry. */
  request: (data: unknown) => (Encoded | MillraceError)[];
}

function rig(
  handler: (data: unknown) => unknown,
  given: SettingsInput = {},
  writeLog: (line: string) => void = () => {},
): Rig {
  const settings = parseSettings(given);
  const stats = new FunctionStats();
  const live = new LiveInvocations();
  const log = pino({ level: 'debug' }, { write: writeLog });
  const host: RunnerHost = {
    logOf: () => log,
    partitionOf: () => undefined,
    secrets: new Secrets(),
    workerId: 'w',
    streams: new Streams(new FakeBus().asBus(), settings, 'w'),
    transactions: undefined,
    live,
    invoke: () => Promise.reject(new Error('not here')),
    prepareEvent: () => {
      throw new Error('not here');
    },
    wrong: () => undefined,
    past: async () => new Set(),
    publishAll: () => Promise.resolve(),
  };
  const definition = defineFunction({ name: 'f', handler: ({ data }) => handler(data) });
  const loaded = { definition, name: 'f', file: 'f.ts', version: 'v', subjects: [] };
  const runner = new FunctionRunner(loaded, stats, settings, host);
  const request = (data: unknown): (Encoded | MillraceError)[] => {
    const answers: (Encoded | MillraceError)[] = [];
    const incoming: Incoming = {
      caller: '',
      subject: 's',
      type: ContentType.json,
      body: JSON.stringify(data),
      headers: {},
      eventId: 'e',
      attempt: 1,
      repeats: 'never',
      timeoutMs: 10_000,
      answer: (encoded) => answers.push(encoded),
      fail: (error) => answers.push(error),
    };
    runner.accept(incoming);
    return answers;
  };
  return { runner, stats, live, request };
}

function ownError(): MillraceError {
  return new MillraceError('INVALID_INPUT', 'Tea only.');
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('a runner', () => {
  it('answers every invocation once and frees every slot, whatever handlers do and deadlines cut', async () => {
    type Kind = 'value' | 'throw' | 'promise' | 'reject' | 'late' | 'never' | 'unwritable';
    const kind = fc.constantFrom<Kind>(
      'value',
      'throw',
      'promise',
      'reject',
      'late',
      'never',
      'unwritable',
    );
    const step = fc.record({ kind, expire: fc.boolean(), wait: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const pending: (() => void)[] = [];
        const handlers: Record<Kind, () => unknown> = {
          value: () => 1,
          throw: () => {
            throw new Error('thrown');
          },
          promise: async () => 1,
          reject: () => Promise.reject(new Error('rejected')),
          late: () => new Promise((resolve) => pending.push(() => resolve(1))),
          never: () => new Promise(() => {}),
          unwritable: () => 1n,
        };
        const { runner, live, request, stats } = rig((data) => handlers[data as Kind](), {
          concurrency: 2,
          maxQueued: 3,
        });
        const all: (Encoded | MillraceError)[][] = [];
        for (const { kind: wanted, expire, wait } of steps) {
          all.push(request(wanted));
          expect(runner.running).toBeLessThanOrEqual(2);
          expect(runner.queued).toBeLessThanOrEqual(3);
          if (expire) for (const [invocation] of live) runner.expire(invocation);
          if (wait) await settle();
          if (wait && expire) for (const resolve of pending.splice(0)) resolve();
        }
        await settle();
        for (const [invocation] of live) runner.expire(invocation);
        await settle();
        for (const resolve of pending.splice(0)) resolve();
        await settle();
        expect(all.map((answers) => answers.length)).toEqual(all.map(() => 1));
        expect({ running: runner.running, queued: runner.queued, live: live.size }).toEqual({
          running: 0,
          queued: 0,
          live: 0,
        });
        expect(stats.calls + stats.refused).toBe(steps.length);
        expect(stats.abandoned).toBeLessThanOrEqual(
          steps.filter((each) => each.kind === 'never').length,
        );
      }),
      { numRuns: 300 },
    );
  });

  it('goes through 10,000 invocations that wait and end at once, without a deep stack', async () => {
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    const { runner, request } = rig((data) => (data === 'gate' ? gate : 1), {
      concurrency: 1,
      maxQueued: 10_000,
    });
    request('gate');
    const answers = Array.from({ length: 10_000 }, () => request(1));
    expect(runner.queued).toBe(10_000);
    open();
    await settle();
    expect(answers.every(([answer]) => !(answer instanceof MillraceError))).toBe(true);
    expect(runner.running).toBe(0);
  });

  it('lets a new invocation wait in the place of one whose deadline has come', () => {
    const { runner, live, request } = rig(() => new Promise(() => {}), {
      concurrency: 1,
      maxQueued: 1,
    });
    request('runs');
    const waits = request('waits');
    expect(request('one too many')[0]).toMatchObject({ code: 'UNAVAILABLE' });
    const waiting = [...live][1]?.[0];
    runner.expire(waiting as Invocation);
    expect(waits).toMatchObject([{ code: 'TIMEOUT' }]);
    expect(request('waits now')).toEqual([]);
  });

  it('counts a call that expires while it waits as an error, not as one that was served in no time', async () => {
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    const { runner, stats, live, request } = rig(() => gate, { concurrency: 1 });
    request('runs');
    request('waits');
    const waiting = [...live][1]?.[0];
    runner.expire(waiting as Invocation);
    expect([stats.calls, stats.errors, stats.latency.count]).toEqual([1, 1, 0]);
    open();
    await settle();
    expect([stats.calls, stats.errors, stats.latency.count]).toEqual([2, 1, 1]);
  });

  it('refuses a function too many of whose handlers never ended', () => {
    const { runner, live, request } = rig(() => new Promise(() => {}), { maxAbandoned: 2 });
    request(1);
    request(2);
    for (const [invocation] of live) runner.expire(invocation);
    expect(request(3)).toMatchObject([{ code: 'UNAVAILABLE' }]);
  });

  it('survives what is thrown with getters that throw, and thenables that call back twice', async () => {
    const hostile = {
      get name(): string {
        throw new Error('from the getter');
      },
      get message(): string {
        throw new Error('from the getter');
      },
    };
    const twice = {
      // oxlint-disable-next-line unicorn/no-thenable -- a bad thenable is what is tested
      then: (resolve: (value: number) => void) => {
        resolve(1);
        resolve(2);
        throw new Error('and then this');
      },
    };
    const { runner, request } = rig((data) => {
      if (data === 'twice') return twice;
      throw hostile;
    });
    expect(request('hostile')).toMatchObject([{ code: 'FUNCTION_FAILED' }]);
    const answers = request('twice');
    await settle();
    expect(answers).toMatchObject([{ body: '1' }]);
    expect(runner.running).toBe(0);
  });

  const hostile: [string, () => unknown][] = [
    [
      'a proxy',
      () =>
        new Proxy(
          {},
          {
            getPrototypeOf: () => {
              throw new Error('no');
            },
          },
        ),
    ],
    [
      'a stack',
      () =>
        Object.defineProperty(new Error('e'), 'stack', {
          get: () => {
            throw new Error('no');
          },
        }),
    ],
    [
      'a getter',
      () =>
        Object.defineProperty(new Error('e'), 'x', {
          enumerable: true,
          get: () => {
            throw new Error('no');
          },
        }),
    ],
    ['a symbol as its message', () => Object.assign(new Error('e'), { message: Symbol('s') })],
  ];
  it.each(hostile)(
    'answers once and frees the slot for %s that throws when it is looked at',
    async (_, make) => {
      const { runner, request } = rig((data) => {
        if (data === 'sync') throw make();
        return Promise.reject(make());
      });
      const answers = [request('sync'), request('async')];
      await settle();
      await settle();
      expect(answers.map((list) => list.map((each) => (each as MillraceError).code))).toEqual([
        ['FUNCTION_FAILED'],
        ['FUNCTION_FAILED'],
      ]);
      expect(runner.running).toBe(0);
    },
  );

  it('frees each slot once where nothing can be logged', async () => {
    const kinds: Record<string, () => unknown> = {
      throws: () => {
        throw new Error('thrown');
      },
      rejects: () => Promise.reject(new Error('rejected')),
    };
    const { runner, request } = rig(
      (data) => kinds[data as string]?.(),
      { concurrency: 2 },
      () => {
        throw new Error('the disk is full');
      },
    );
    const answers = [request('throws'), request('rejects'), request('throws')];
    await settle();
    expect(answers.map((list) => list.map((each) => (each as MillraceError).code))).toEqual(
      answers.map(() => ['FUNCTION_FAILED']),
    );
    expect(runner.running).toBe(0);
  });

  const changed: [string, () => unknown][] = [
    ['a number as its message', () => Object.assign(ownError(), { message: 5 })],
    ['a code that is none', () => Object.assign(ownError(), { code: 'NONE' })],
    ['a status of its own', () => Object.defineProperty(ownError(), 'status', { value: 99 })],
    [
      'a message that throws when it is read',
      () =>
        Object.defineProperty(ownError(), 'message', {
          get: () => {
            throw new Error('no');
          },
        }),
    ],
  ];
  it.each(changed)('answers a coded error of the handler’s with %s', async (_, make) => {
    const { runner, request } = rig((data) => {
      if (data === 'sync') throw make();
      return Promise.reject(make());
    });
    const lists = [request('sync'), request('async')];
    await settle();
    const answers = lists.flat() as MillraceError[];
    expect(answers).toHaveLength(2);
    for (const answer of answers) {
      expect(answer.code).toMatch(/^(FUNCTION_FAILED|INVALID_INPUT)$/);
      expect(typeof answer.message).toBe('string');
      expect([400, 500]).toContain(answer.status);
    }
    expect(runner.running).toBe(0);
  });

  it('that is stopped begins nothing more when what runs is given up', () => {
    let begun = 0;
    const { runner, live, request } = rig(
      () => {
        begun += 1;
        return new Promise(() => {});
      },
      { concurrency: 1 },
    );
    const answers = [request(1), request(2), request(3)];
    runner.stop();
    const stops = new MillraceError('UNAVAILABLE', 'The worker stops.');
    for (const [invocation] of live) runner.giveUp(invocation, stops);
    expect(begun).toBe(1);
    expect(answers).toEqual([[stops], [stops], [stops]]);
  });

  it('frees the slot when the answer cannot be sent', () => {
    const { runner } = rig(() => 1);
    runner.accept({
      caller: '',
      subject: 's',
      type: ContentType.json,
      body: '1',
      headers: {},
      eventId: 'e',
      attempt: 1,
      repeats: 'never',
      timeoutMs: 1_000,
      answer: () => {
        throw new Error('closed');
      },
      fail: () => {
        throw new Error('closed');
      },
    });
    expect(runner.running).toBe(0);
  });
});
