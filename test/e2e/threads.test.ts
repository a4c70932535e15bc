/** Functions in threads of their own, in a real worker process: what they may do, and whom it concerns. */
import { fileURLToPath } from 'node:url';
import { connect as connectPlain } from 'nats';
import { connect, type Mill } from 'millrace';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { Command } from '../support/cli.ts';
import { until } from '../support/wait.ts';

const FUNCTIONS = fileURLToPath(new URL('../fixtures/threads', import.meta.url));

let broker: TestBroker;
let worker: Command;
let mill: Mill;

beforeAll(async () => {
  broker = await startTestBroker();
  worker = new Command(['worker', '--server', broker.url, '--functions', FUNCTIONS]);
  await worker.says('is ready');
  mill = await connect({ servers: broker.url });
});

afterAll(async () => {
  await mill.close();
  if (!worker.ended) worker.child.kill('SIGTERM');
  await worker.finished;
  await broker.stop();
});

describe('a function in a thread', () => {
  it('computes beside others, as many at once as it has threads', async () => {
    const computing = [0, 1, 2, 3].map(async () => mill.invoke('compute', { forMs: 700 }));
    const startMs = performance.now();
    let quick = 0;
    while (performance.now() - startMs < 500) {
      expect(await mill.invoke('quick', {})).toBe(0);
      quick += 1;
    }
    // Held up by them it would have been one.
    expect(quick).toBeGreaterThan(1);
    const threads = await Promise.all(computing);
    expect(new Set(threads).size).toBe(2);
    expect(threads).not.toContain(0);
  });

  it('has all that handlers are given, in its transaction', async () => {
    const nats = await connectPlain({ servers: broker.url });
    const emitted = nats.subscribe('threads.emitted', { max: 2 });
    const first = await mill.invoke('context', { key: 'a', probe: true }, { id: 'one' });
    expect(first).toMatchObject({
      thread: 0,
      named: 0,
      count: 1,
      id: 'one',
    });
    expect(first).toMatchObject({ run: { function: 'context', attempt: 1 } });
    expect(await mill.inspect.state('counts', 'a')).toMatchObject({ value: 1 });
    expect(await mill.inspect.state('counts', 'code')).toMatchObject({ value: 'UNKNOWN_FUNCTION' });
    await expect(mill.inspect.state('counts', 'gone')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(mill.invoke('context', { key: 'a', fail: true })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: 'not this one',
    });
    expect(await mill.inspect.state('counts', 'a')).toMatchObject({ value: 1 });
    await mill.publish('threads.context', { key: 'a' }, { id: 'two' });
    await until('the event is handled', async () => {
      const { value } = await mill.inspect.state('counts', 'a');
      return value === 2;
    });
    const keys: unknown[] = [];
    for await (const message of emitted) keys.push(message.json());
    expect(keys).toEqual([{ key: 'a' }, { key: 'a' }]);
    await nats.close();
    expect(worker.stdout).toContain('from a thread');
  });

  it('and many at once keep their transactions apart', async () => {
    await Promise.all(Array.from({ length: 40 }, async () => mill.invoke('context', { key: 'b' })));
    expect(await mill.inspect.state('counts', 'b')).toMatchObject({ value: 40 });
  }, 60_000);

  it('that does not end in time is stopped', async () => {
    const forEver = async (): Promise<unknown> =>
      mill.invoke('compute', { forMs: 60_000 }, { timeoutMs: 2_000 });
    await expect(forEver()).rejects.toMatchObject({ code: 'TIMEOUT' });
    // Two of them would have both threads.
    await Promise.allSettled([forEver(), forEver()]);
    await until('there is a thread again', async () =>
      mill.invoke('compute', { forMs: 1 }).then(
        () => true,
        () => false,
      ),
    );
  }, 60_000);

  it('is told by its signal when its caller’s time is over', async () => {
    await expect(
      mill.invoke('context', { key: 'c', wait: true }, { timeoutMs: 500 }),
    ).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(await mill.invoke('context', { key: 'c' })).toMatchObject({ count: 1 });
  });

  it.each([
    ['leak', 'FUNCTION_FAILED', /memory/],
    ['exit', 'FUNCTION_FAILED', /its thread has ended: it ended with status 3/],
    ['crash', 'FUNCTION_FAILED', /out of a timer/],
    ['throw', 'FUNCTION_FAILED', /failed: no/],
    ['unclonable', 'FUNCTION_FAILED', /could not be cloned/],
  ])(
    'loses no more than its thread: %s',
    async (how, code, message) => {
      const [{ id } = { id: '' }] = await mill.inspect.workers();
      await expect(mill.invoke('misbehave', { how }, { timeoutMs: 20_000 })).rejects.toMatchObject({
        code,
        message,
      });
      expect(await mill.invoke('misbehave', { how: 'not' })).toBe('well');
      const [after] = await mill.inspect.workers();
      expect(after?.id).toBe(id);
    },
    40_000,
  );

  it('writes nothing in the transaction of the run behind it', async () => {
    expect(await mill.invoke('misbehave', { how: 'late' })).toBe('early');
    expect(await mill.invoke('misbehave', { how: 'slow' })).toBe('CANCELLED');
    expect((await mill.inspect.list('late')).items.map(({ key }) => key)).toEqual(['other']);
  });

  it('and what it leaves behind does not end the run behind it', async () => {
    expect(await mill.invoke('misbehave', { how: 'stray' })).toBe('early');
    expect(await mill.invoke('misbehave', { how: 'slow' })).toBeTypeOf('string');
    expect(worker.stdout).toContain('unhandled rejection');
  });

  it('keeps what it says of its own errors', async () => {
    await expect(mill.invoke('misbehave', { how: 'throw' })).rejects.toMatchObject({
      retryable: true,
      details: { name: 'TypeError', code: 'E_OWN' },
    });
  });
});

describe('a function that blocks the worker for a short time', () => {
  it('is named, and costs no partition', async () => {
    const before = await mill.inspect.partitions();
    await mill.invoke('block', { forMs: 1_500 });
    await until('it is said', () => worker.stdout.includes('nothing else could run'));
    const line = worker.stdout.split('\n').find((each) => each.includes('nothing else could run'));
    expect(line).toContain('"block"');
    const epochs = (all: typeof before): number[] => all.map(({ epoch }) => epoch);
    expect(epochs(await mill.inspect.partitions())).toEqual(epochs(before));
  });
});

describe('a worker with threads', () => {
  it('ends in order', async () => {
    await mill.invoke('compute', { forMs: 1 });
    worker.child.kill('SIGTERM');
    expect((await worker.finished).status).toBe(0);
  });
});
