/** Metrics over HTTP with exactly known counts, and functions' logs over NATS from two workers. */
import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Mill } from '../../src/client/client.ts';
import type { LogNews } from '../../src/client/logs.ts';
import { defineFunction } from '../../src/function/define.ts';
import { MetricsServer } from '../../src/telemetry/metrics-server.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const add = defineFunction({
  name: 'add',
  handler: async ({ data }, ctx) => {
    const { key } = data as { key: string };
    if (key === '') throw new Error('no key');
    const sums = ctx.state<number>('sums');
    await sums.set(key, ((await sums.get(key)) ?? 0) + 1);
  },
});
const count = defineFunction({
  name: 'count',
  on: 'count.it',
  retries: { maxAttempts: 2, minDelayMs: 10, maxDelayMs: 10 },
  handler: ({ data }) => {
    if (data === 'bad') throw new Error('bad');
  },
});
const look = defineFunction({
  name: 'look',
  cache: { ttlMs: 60_000 },
  handler: async (_, ctx) => (await ctx.invoke('add', { key: 'looked' })) ?? 1,
});
const talk = defineFunction({
  name: 'talk',
  handler: ({ data }, ctx) => {
    const {
      say,
      level = 'info',
      times = 1,
    } = data as {
      say: string;
      level?: 'info' | 'error';
      times?: number;
    };
    for (let time = 0; time < times; time += 1) ctx.log[level]({ time_: time }, say);
    return ctx.invocation.worker;
  },
});
const plain = defineFunction({ name: 'plain', handler: ({ data }) => data });

let broker: TestBroker;
let worker: TestWorker;
let mill: Mill;

beforeAll(async () => {
  broker = await startTestBroker();
  worker = await startTestWorker(broker.url, [add, count, look, plain, talk]);
  mill = await connect({ servers: broker.url });
});

afterAll(async () => {
  await mill.close();
  await worker.stop();
  await broker.stop();
});

const COMMENT = /^# (?:HELP \w+ \S.*|TYPE \w+ (?:counter|gauge|histogram))$/;
const SAMPLE = /^(\w+)(\{(?:\w+="(?:[^"\\\n]|\\.)*",?)*\})? (\S+)$/;

/** By name and labels as they are written; every line must be one that Prometheus reads. */
function read(text: string): Map<string, number> {
  const lines = text.trimEnd().split('\n');
  const wrong = lines.filter((line) => !(line.startsWith('#') ? COMMENT : SAMPLE).test(line));
  expect(wrong).toEqual([]);
  const samples = lines.flatMap((line) => {
    const [, name = '', labels = '', value = ''] = SAMPLE.exec(line) ?? [];
    return name === '' ? [] : [[name + labels, Number(value)] as const];
  });
  const values = new Map(samples);
  expect(values.size).toBe(samples.length);
  return values;
}

describe('metrics', () => {
  it('have exactly what has happened', async () => {
    for (let call = 0; call < 3; call += 1) await mill.invoke('add', { key: `k${call}` });
    await expect(mill.invoke('add', { key: '' })).rejects.toThrow('no key');
    await Promise.all([mill.publish('count.it', 1), mill.publish('count.it', 2)]);
    await mill.publish('count.it', 'bad');
    const metrics = await MetricsServer.open({
      port: 0,
      text: async () => worker.worker.metricsText(),
    });
    const scrape = async (): Promise<Map<string, number>> => {
      const response = await fetch(metrics.url);
      expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
      return read(await response.text());
    };
    try {
      const values = await until('the bad one is dead', async () => {
        const now = await scrape();
        return now.get('millrace_dead_letters{function="count"}') === 1 && now;
      });
      const expected = {
        'millrace_invocations_total{function="add",outcome="ok"}': 3,
        'millrace_invocations_total{function="add",outcome="error"}': 1,
        'millrace_invocations_total{function="plain",outcome="ok"}': 0,
        'millrace_invocations_refused_total{function="add"}': 0,
        'millrace_invocation_duration_seconds_count{function="add"}': 4,
        'millrace_invocation_duration_seconds_bucket{function="add",le="+Inf"}': 4,
        'millrace_invocation_duration_seconds_bucket{function="add",le="33.554432"}': 4,
        'millrace_invocations_running{function="add"}': 0,
        millrace_invocations_in_flight: 0,
        'millrace_events_handled_total{function="count"}': 2,
        'millrace_events_failed_total{function="count"}': 2,
        millrace_partitions_owned: 8,
        'millrace_transactions_total{outcome="aborted"}': 0,
        millrace_transaction_conflicts_total: 0,
        millrace_nats_connected: 1,
        millrace_nats_reconnects_total: 0,
        millrace_worker_draining: 0,
      };
      for (const [name, value] of Object.entries(expected))
        expect(values.get(name), name).toBe(value);
      expect(
        values.get(
          `millrace_worker_info{worker="${worker.id}",namespace="millrace",version="0.0.0"}`,
        ),
      ).toBe(1);
      // Three runs of add; the one that failed had touched nothing.
      const committed = values.get('millrace_transactions_total{outcome="committed"}') ?? 0;
      expect(committed).toBeGreaterThanOrEqual(3);
      expect(values.get('millrace_journal_appends_total')).toBeGreaterThan(2);
      expect(values.get('millrace_journal_bytes_total')).toBeGreaterThan(100);
      const buckets = [...values]
        .filter(([name]) =>
          name.startsWith('millrace_invocation_duration_seconds_bucket{function="add"'),
        )
        .map(([, value]) => value);
      expect(buckets).toEqual(buckets.toSorted((one, other) => one - other));

      await mill.invoke('add', { key: 'one more' });
      const after = await scrape();
      expect(after.get('millrace_invocations_total{function="add",outcome="ok"}')).toBe(4);
      expect(after.get('millrace_transactions_total{outcome="committed"}')).toBe(committed + 1);
    } finally {
      await metrics.close();
    }
  });

  it('are served on /metrics, to GET, once for all that ask at once', async () => {
    let asked = 0;
    const text = async (): Promise<string> => {
      asked += 1;
      await new Promise((resolve) => setTimeout(resolve, 20));
      if (asked > 1) throw new Error('a secret');
      return 'up 1\n';
    };
    const metrics = await MetricsServer.open({ port: 0, text });
    const status = async (path: string, method = 'GET'): Promise<number | undefined> =>
      new Promise((resolve, reject) => {
        const url = new URL(path, metrics.url);
        request(url, { method, agent: false }, (response) => {
          response.resume();
          resolve(response.statusCode);
        })
          .once('error', reject)
          .end();
      });
    expect(await Promise.all([status('/metrics'), status('/metrics?a=1')])).toEqual([200, 200]);
    expect(asked).toBe(1);
    expect(await status('/')).toBe(404);
    expect(await status('/metrics', 'POST')).toBe(405);
    const failed = await fetch(metrics.url);
    expect([failed.status, await failed.text()]).toEqual([
      500,
      'The metrics could not be put together.\n',
    ]);
    const { port } = new URL(metrics.url);
    await expect(MetricsServer.open({ port: Number(port), text })).rejects.toMatchObject({
      code: 'USAGE',
    });
    await metrics.close();
  });
});

describe('logs of a function', () => {
  let second: TestWorker;
  beforeAll(async () => {
    second = await startTestWorker(broker.url, [talk]);
    await until('both are known', async () => (await mill.inspect.workers()).length === 2);
  });
  afterAll(async () => {
    await second.stop();
  });

  const both = async (say: string, more: object = {}): Promise<void> => {
    const told = new Set<unknown>();
    await until('both have talked', async () => {
      told.add(await mill.invoke('talk', { say, ...more }));
      return told.size === 2;
    });
  };
  const following = async (
    name: string,
    options: Parameters<Mill['logs']['follow']>[1] = {},
  ): Promise<{ news: LogNews[]; stop: () => Promise<void> }> => {
    const ended = new AbortController();
    const news: LogNews[] = [];
    const reading = (async () => {
      const all = mill.logs.follow(name, { ...options, signal: ended.signal });
      for await (const each of all) news.push(each);
    })();
    return {
      news,
      stop: async () => {
        ended.abort();
        await reading;
      },
    };
  };
  const messages = (news: readonly LogNews[]): unknown[] =>
    news.flatMap((each) => ('line' in each ? [each.line['msg']] : []));

  it('are the last ones of all workers, by time, with their ids', async () => {
    await both('tailed');
    const { id } = { id: 'order-17' };
    await mill.invoke('talk', { say: 'mine', level: 'error' }, { id });
    const { lines, silent } = await mill.logs.tail('talk');
    expect(silent).toEqual([]);
    expect(new Set(lines.map(({ worker: of }) => of))).toEqual(new Set([worker.id, second.id]));
    expect(lines.map(({ time }) => Number(time))).toEqual(
      lines.map(({ time }) => Number(time)).toSorted((one, other) => one - other),
    );
    const [mine] = (await mill.logs.tail('talk', { invocation: id })).lines;
    expect(mine).toMatchObject({ msg: 'mine', function: 'talk', invocation: id, level: 50 });
    expect((await mill.logs.tail('talk', { level: 'error' })).lines).toHaveLength(1);
    expect((await mill.logs.tail('talk', { lines: 1 })).lines).toEqual([mine]);
  });

  it('have what the platform says of a run that failed', async () => {
    await expect(mill.invoke('add', { key: '' }, { id: 'failed-1' })).rejects.toThrow('no key');
    const { lines } = await mill.logs.tail('add', { invocation: 'failed-1' });
    expect(lines).toMatchObject([
      { level: 50, code: 'FUNCTION_FAILED', err: { message: 'no key' } },
    ]);
  });

  it('are followed on both workers, from then on, and nothing is published when nobody does', async () => {
    let published = '';
    const spy = worker.bus.subscribe('millrace.logs.>', ({ data }) => {
      published += Buffer.from(data).toString();
    });
    await both('unheard');
    const heard = async (say: string): Promise<void> => {
      const { news, stop } = await following('talk', { level: 'info' });
      await until('both are heard', async () => {
        await both(say);
        return new Set(news.map((each) => each.worker)).size === 2;
      });
      expect(messages(news)).toContain(say);
      await stop();
    };
    await heard('heard');
    await both('unheard');
    // What was written before would have come before.
    await heard('heard again');
    await worker.bus.flush();
    expect(published).toContain('heard again');
    expect(published).not.toContain('unheard');
    spy.unsubscribe();
  });

  it('are followed by level and invocation', async () => {
    const { news, stop } = await following('talk', { level: 'error', invocation: 'wanted' });
    await until('it is heard', async () => {
      await mill.invoke('talk', { say: 'other', level: 'error' });
      await mill.invoke('talk', { say: 'wanted', level: 'info' }, { id: 'wanted-not' });
      await mill.invoke('talk', { say: 'wanted', level: 'error' }, { id: 'wanted', cache: false });
      return news.length > 0;
    });
    expect(new Set(messages(news))).toEqual(new Set(['wanted']));
    expect(news.every((each) => 'line' in each && each.line['level'] === 50)).toBe(true);
    await stop();
  });

  it('that are too many are counted, and said', async () => {
    const { news, stop } = await following('talk');
    await until('it is heard', async () => {
      await both('first');
      return news.length > 1;
    });
    await mill.invoke('talk', { say: 'much', times: 2_000 });
    const dropped = (): number =>
      news.reduce((sum, each) => sum + ('dropped' in each ? each.dropped : 0), 0);
    const much = (): number => messages(news).filter((msg) => msg === 'much').length;
    await until('all are accounted for', () => much() + dropped() === 2_000);
    expect(dropped()).toBeGreaterThanOrEqual(1_500);
    expect(much()).toBeGreaterThan(0);
    await stop();
    const all = [await worker.worker.metricsText(), await second.worker.metricsText()];
    const counted = all.map((text) => read(text).get('millrace_log_lines_dropped_total') ?? 0);
    expect(counted.reduce((sum, each) => sum + each, 0)).toBe(dropped());
  });

  it('are heard of a worker that comes later', async () => {
    const { news, stop } = await following('late');
    const late = await startTestWorker(broker.url, [
      defineFunction({ name: 'late', handler: (_, ctx) => ctx.log.info('here') }),
    ]);
    await until('it is heard', async () => {
      await mill.invoke('late');
      return messages(news).includes('here');
    });
    expect(news[0]?.worker).toBe(late.id);
    await stop();
    await late.stop();
  });

  it('of one that is not there, or has no legal name, are refused', async () => {
    await expect(mill.logs.tail('nobody')).rejects.toMatchObject({ code: 'UNKNOWN_FUNCTION' });
    await expect(mill.logs.tail('a.b')).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    await expect(mill.logs.tail('talk', { lines: 0 })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
    });
    await expect(mill.logs.follow('a b').next()).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  });
});
