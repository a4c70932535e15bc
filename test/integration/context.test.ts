/** What a handler may do with its context, and what becomes of its mistakes there. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { connect, defineFunction, MillraceError, type Context, type Mill } from 'millrace';
import { MAX_EMITTED_BYTES, MAX_EMITTED_EVENTS } from '../../src/worker/invocation.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

let broker: TestBroker;
let mill: Mill;
const workers: TestWorker[] = [];

beforeAll(async () => {
  broker = await startTestBroker();
  mill = await connect({ servers: broker.url });
});

afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop()));
});

afterAll(async () => {
  await mill.close();
  await broker.stop();
});

type Handler = (ctx: Context) => unknown;

/** Runs `handler` as a function of a worker of its own; gives its result or what it failed with. */
async function outcomeOf(handler: Handler, timeoutMs = 5_000): Promise<unknown> {
  const tried = defineFunction({ name: 'tried', timeoutMs, handler: (_, ctx) => handler(ctx) });
  workers.push(await startTestWorker(broker.url, [tried, counted]));
  return mill.invoke('tried').catch((error: unknown) => error);
}

/** The coded error that a promise fails with. */
function failure(promise: Promise<unknown>): Promise<MillraceError> {
  return promise.then(
    () => new MillraceError('USAGE', 'it did not fail'),
    (error: unknown) => error as MillraceError,
  );
}

function withResolvers<Value>(): {
  promise: Promise<Value>;
  resolve: (value: Value | PromiseLike<Value>) => void;
} {
  let resolve: (value: Value | PromiseLike<Value>) => void = () => {};
  const promise = new Promise<Value>((resolved) => (resolve = resolved));
  return { promise, resolve };
}

let events = 0;
const counted = defineFunction({
  name: 'counted',
  on: 'context.counted',
  delivery: 'ephemeral',
  handler: () => {
    events += 1;
  },
});

describe('a handler’s own mistake in the arguments', () => {
  const mistakes: [string, Handler, RegExp][] = [
    ['a subject to emit', (ctx) => ctx.emit('no spaces', 1), /whitespace/],
    ['a reserved subject to emit', (ctx) => ctx.emit('millrace.hello', 1), /reserved/],
    ['data to emit', (ctx) => ctx.emit('context.counted', 1n), /written as JSON/],
    ['an id to emit', (ctx) => ctx.emit('context.counted', 1, { id: 'a\nb' }), /id must be/],
    ['the name of a function', (ctx) => ctx.invoke('no spaces'), /no spaces/],
    ['data to invoke with', (ctx) => ctx.invoke('counted', 1n), /written as JSON/],
    ['a timeout', (ctx) => ctx.invoke('counted', 1, { timeoutMs: Number.NaN }), /timeoutMs/],
  ];
  it.each(mistakes)('is FUNCTION_FAILED to the requester: %s', async (_, handler, reason) => {
    expect(await outcomeOf(handler)).toMatchObject({
      code: 'FUNCTION_FAILED',
      status: 500,
      message: expect.stringMatching(reason) as string,
    });
  });

  it('is INVALID_INPUT to the handler itself', async () => {
    const codes = await outcomeOf(async (ctx) => [
      (await failure(ctx.emit('no spaces', 1))).code,
      (await failure(ctx.invoke('counted', 1n))).code,
    ]);
    expect(codes).toEqual(['INVALID_INPUT', 'INVALID_INPUT']);
  });
});

describe('what a handler emits', () => {
  it('is bounded in number', async () => {
    events = 0;
    const error = await outcomeOf(async (ctx) => {
      for (let n = 0; n <= MAX_EMITTED_EVENTS; n += 1) await ctx.emit('context.counted', n);
    });
    expect(error).toMatchObject({
      code: 'FUNCTION_FAILED',
      message: expect.stringContaining(`${MAX_EMITTED_EVENTS} events`) as string,
      details: { code: 'PAYLOAD_TOO_LARGE' },
    });
    expect(events).toBe(0);
  });

  it('is published up to the bound', async () => {
    events = 0;
    const left = await outcomeOf(async (ctx) => {
      const all = Array.from({ length: MAX_EMITTED_EVENTS }, () => ctx.emit('context.counted', 1));
      await Promise.all(all);
      return (await failure(ctx.emit('context.counted', 1))).details;
    });
    expect(left).toEqual({ limitEvents: MAX_EMITTED_EVENTS });
    await until('all came', () => events === MAX_EMITTED_EVENTS);
  });

  it('is bounded in bytes', async () => {
    const large = 'x'.repeat(1024 * 1024 - 100);
    const fits = Math.floor(MAX_EMITTED_BYTES / (large.length + 2));
    const details = await outcomeOf(async (ctx) => {
      for (let n = 0; n < fits; n += 1) await ctx.emit('context.unheard', large);
      return (await failure(ctx.emit('context.unheard', large))).details;
    });
    expect(details).toEqual({ limitBytes: MAX_EMITTED_BYTES });
  });
});

describe('a context that is used after its handler', () => {
  it('has returned refuses to emit and to invoke', async () => {
    events = 0;
    const late = withResolvers<MillraceError[]>();
    await outcomeOf((ctx) => {
      setTimeout(() => {
        const tries = [ctx.emit('context.counted', 1), ctx.invoke('counted')];
        late.resolve(Promise.all(tries.map(failure)));
      }, 50);
    });
    const errors = await late.promise;
    expect(errors.map(({ code }) => code)).toEqual(['CANCELLED', 'CANCELLED']);
    expect(errors.map(({ message }) => message)).toEqual([
      'emit was called after tried had ended.',
      'invoke was called after tried had ended.',
    ]);
    expect(events).toBe(0);
  });

  it('has run into its timeout refuses to emit', async () => {
    const late = withResolvers<MillraceError>();
    const timedOut = await outcomeOf(async (ctx) => {
      await new Promise((resolve) => setTimeout(resolve, 200));
      late.resolve(failure(ctx.emit('context.counted', 1)));
    }, 50);
    expect(timedOut).toMatchObject({ code: 'TIMEOUT' });
    expect(await late.promise).toMatchObject({ code: 'CANCELLED' });
  });
});
