/** A worker's functions are swapped as a whole, or not at all. */
import { connect as connectNats, type NatsConnection } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  connect,
  defineFunction,
  MillraceError,
  type FunctionDefinition,
  type Mill,
} from 'millrace';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

let broker: TestBroker;
let mill: Mill;
let nats: NatsConnection;

beforeAll(async () => {
  broker = await startTestBroker();
  mill = await connect({ servers: broker.url });
  nats = await connectNats({ servers: broker.url });
});

afterAll(async () => {
  await mill.close();
  await nats.close();
  await broker.stop();
});

function named(name: string, on: string, result: string): FunctionDefinition {
  return defineFunction({ name, on, delivery: 'ephemeral', handler: () => result });
}

const OLD = [named('kept', 'reload.kept', 'old'), named('removed', 'reload.removed', 'old')];
const NEW = [named('kept', 'reload.moved', 'new'), named('added', 'reload.added', 'new')];

/** What each subject answers: a result, or the status of a refusal. */
async function answers(): Promise<Record<string, string>> {
  const subjects = ['kept', 'removed', 'moved', 'added'];
  const entries = subjects.map(async (subject): Promise<[string, string]> => {
    const answer = nats.request(`reload.${subject}`, '', { timeout: 2_000 });
    return [subject, await answer.then((message) => message.string(), codeOf)];
  });
  return Object.fromEntries(await Promise.all(entries));
}

function codeOf(error: unknown): string {
  return String((error as { code: unknown }).code);
}

const RUNS_OLD = { kept: '"old"', removed: '"old"', moved: '503', added: '503' };
const RUNS_NEW = { kept: '503', removed: '503', moved: '"new"', added: '"new"' };

async function failingReload(worker: TestWorker): Promise<void> {
  const flush = worker.bus.flush.bind(worker.bus);
  worker.bus.flush = () => {
    worker.bus.flush = flush;
    return Promise.reject(new MillraceError('UNAVAILABLE', 'The connection to NATS broke.'));
  };
  await expect(worker.offer(NEW, 'v2')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
}

describe('a reload', () => {
  it('that fails leaves the worker as it was, and the next one succeeds', async () => {
    const worker = await startTestWorker(broker.url, OLD);
    expect(await answers()).toEqual(RUNS_OLD);
    await failingReload(worker);
    expect(await answers()).toEqual(RUNS_OLD);
    expect(await mill.invoke('kept')).toBe('old');
    expect((await mill.inspect.functions()).map(({ name }) => name)).toEqual(['kept', 'removed']);
    await worker.offer(NEW, 'v2');
    expect(await answers()).toEqual(RUNS_NEW);
    expect(await mill.invoke('kept')).toBe('new');
    await worker.stop();
  });

  it('loses no request and answers none with an error while it swaps', async () => {
    const worker = await startTestWorker(broker.url, OLD);
    const state = { stopped: false };
    const lane = async (): Promise<unknown[]> => {
      const seen: unknown[] = [];
      while (!state.stopped) {
        const answer = await nats.request('millrace.fn.kept', '', { timeout: 2_000 });
        seen.push(answer.string());
      }
      return seen;
    };
    const lanes = Array.from({ length: 8 }, lane);
    for (let round = 0; round < 20; round += 1) {
      await worker.offer(round % 2 === 0 ? NEW : OLD, `v${round % 2}`);
    }
    state.stopped = true;
    const seen = new Set((await Promise.all(lanes)).flat());
    expect([...seen].filter((answer) => answer !== '"old"' && answer !== '"new"')).toEqual([]);
    await worker.stop();
  });

  it('serves an added function from its first request on', async () => {
    const worker = await startTestWorker(broker.url, OLD);
    const flush = worker.bus.flush.bind(worker.bus);
    let early: Promise<string> | undefined;
    worker.bus.flush = async () => {
      await flush();
      // The broker knows the subscription from here on.
      early ??= nats.request('reload.added', '', { timeout: 2_000 }).then((each) => each.string());
      await early;
    };
    await worker.offer(NEW, 'v2');
    expect(await early).toBe('"new"');
    await worker.stop();
  });
});
