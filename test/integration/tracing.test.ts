/** Traces across processes: what travels, and what spans say. */
import { SpanStatusCode } from '@opentelemetry/api';
import type { ReadableSpan } from '@opentelemetry/sdk-trace-base';
import { connect as connectPlain, headers as newHeaders, type NatsConnection } from 'nats';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connect, Mill, openBus } from '../../src/client/client.ts';
import { defineFunction } from '../../src/function/define.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { testTracing } from '../support/spans.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';
const PARENT_ID = '00f067aa0ba902b7';
const SECRET = 'the secret of the payload';

let seen: Readonly<Record<string, string>>[] = [];
const place = defineFunction({
  name: 'place',
  on: 'orders.placed',
  key: ({ data }) => (data as { order: string }).order,
  handler: async ({ data }, ctx) => {
    const { order } = data as { order: string };
    await ctx.state('orders').set(order, 'placed');
    ctx.log.info('placed');
    await ctx.invoke('check', { order });
    await ctx.emit('orders.to-ship', data);
  },
});
const check = defineFunction({
  name: 'check',
  handler: async (_, ctx) => {
    await ctx.state('checks').set('all', 1);
    return true;
  },
});
const ship = defineFunction({
  name: 'ship',
  on: 'orders.to-ship',
  handler: ({ headers }) => {
    seen.push(headers);
  },
});
const plain = defineFunction({
  name: 'plain',
  on: 'plain.ask',
  delivery: 'ephemeral',
  handler: async ({ headers }, ctx) => {
    seen.push(headers);
    ctx.log.info('asked');
    return ctx.invoke('echo');
  },
});
const echo = defineFunction({ name: 'echo', handler: ({ headers }) => ({ ...headers }) });
const fails = defineFunction({
  name: 'fails',
  handler: () => {
    throw new Error(SECRET);
  },
});
const gather = defineFunction({
  name: 'gather',
  on: 'gather.it',
  batch: { maxSize: 2, waitMs: 5_000 },
  handler: ({ batch }) => {
    seen.push({ count: String(batch?.length) });
  },
});

const kept = testTracing();
let broker: TestBroker;
let workers: TestWorker[];
let mill: Mill;
/** With traces off. */
let silent: Mill;
let nats: NatsConnection;

beforeAll(async () => {
  broker = await startTestBroker();
  workers = [
    await startTestWorker(broker.url, [place, plain, fails, gather], {}, kept.tracing),
    await startTestWorker(broker.url, [check, ship, echo], {}, kept.tracing),
  ];
  const opened = await openBus({ servers: broker.url, telemetry: { traces: false } }, 'traced');
  mill = new Mill(opened.bus, opened.settings, {}, kept.tracing);
  silent = await connect({ servers: broker.url });
  nats = await connectPlain({ servers: broker.url });
});

afterAll(async () => {
  await nats.close();
  await mill.close();
  await silent.close();
  for (const worker of workers) await worker.stop();
  await broker.stop();
});

beforeEach(() => {
  kept.reset();
  seen = [];
});

const named = (name: string): ReadableSpan[] => kept.spans().filter((span) => span.name === name);
const theSpan = async (name: string): Promise<ReadableSpan> =>
  until(`there is a span ${name}`, () => named(name)[0]);
const parentOf = (span: ReadableSpan): string | undefined =>
  kept.spans().find((each) => each.spanContext().spanId === span.parentSpanContext?.spanId)?.name;
/** The spans of an order come to their end in any order. */
const shipped = async (): Promise<void> => {
  await theSpan('run ship');
  await theSpan('run place');
};

describe('a trace', () => {
  it('leads from the publisher through function, call, transaction and emitted event to who handles that, on two workers', async () => {
    const { id } = await mill.publish('orders.placed', { order: 'o-1', note: SECRET });
    await shipped();
    const spans = kept.spans();
    expect(new Set(spans.map((span) => span.spanContext().traceId)).size).toBe(1);
    const tree = spans.map((span) => `${parentOf(span) ?? '-'} > ${span.name}`);
    expect(tree.toSorted()).toEqual([
      '- > publish',
      'deliver place > run place',
      'deliver ship > run ship',
      'invoke check > run check',
      'publish > deliver place',
      'run place > commit',
      'run place > deliver ship',
      'run place > invoke check',
    ]);
    const run = await theSpan('run place');
    expect(run.attributes).toMatchObject({
      'millrace.function': 'place',
      'millrace.version': 'v1',
      'millrace.worker': workers[0]?.id,
      'millrace.invocation': id,
      'millrace.attempt': 1,
      'millrace.runs': 1,
    });
    expect(run.attributes['millrace.partition']).toEqual(expect.any(Number));
    expect(run.status.code).toBe(SpanStatusCode.UNSET);
    const [emitted] = run.events;
    expect(emitted).toMatchObject({
      name: 'emit',
      attributes: { 'messaging.destination.name': 'orders.to-ship' },
    });
    const last = await theSpan('run ship');
    expect(last.attributes['millrace.worker']).toBe(workers[1]?.id);
    expect(last.attributes['millrace.invocation']).toBe(
      emitted?.attributes?.['messaging.message.id'],
    );
  });

  it('says of a commit who took part and how long it took', async () => {
    await mill.publish('orders.placed', { order: 'o-2' });
    await shipped();
    const { attributes } = await theSpan('commit');
    expect(attributes).toMatchObject({
      'millrace.keys': 3,
      'millrace.emitted': 1,
      'millrace.outcome': 'committed',
      'millrace.runs': 1,
    });
    expect(attributes['millrace.participants']).toEqual(
      expect.arrayContaining([expect.any(Number)]),
    );
    for (const name of ['millrace.lock_ms', 'millrace.decide_ms']) {
      expect(attributes[name]).toBeGreaterThanOrEqual(0);
    }
  });

  it('says nothing of payloads and thrown texts', async () => {
    await mill.publish(
      'orders.placed',
      { order: 'o-3', note: SECRET },
      { headers: { note: SECRET } },
    );
    await expect(mill.invoke('fails', { note: SECRET })).rejects.toMatchObject({
      code: 'FUNCTION_FAILED',
    });
    await shipped();
    const run = await theSpan('run fails');
    expect(run.status).toEqual({ code: SpanStatusCode.ERROR, message: 'FUNCTION_FAILED' });
    expect(run.attributes['error.type']).toBe('FUNCTION_FAILED');
    expect((await theSpan('invoke fails')).status.code).toBe(SpanStatusCode.ERROR);
    const said = kept.spans().map(({ name, attributes, events, status }) => {
      return { name, attributes, events, status };
    });
    expect(JSON.stringify(said)).not.toContain(SECRET);
  });

  it('of any NATS client goes on, and out again', async () => {
    const headers = newHeaders();
    headers.set('traceparent', `00-${TRACE_ID}-${PARENT_ID}-01`);
    headers.set('tracestate', 'vendor=1');
    const answer = await nats.request('plain.ask', '1', { headers, timeout: 5_000 });
    const run = await theSpan('run plain');
    expect(run.spanContext().traceId).toBe(TRACE_ID);
    expect(run.parentSpanContext?.spanId).toBe(PARENT_ID);
    const call = await theSpan('invoke echo');
    // What was called has it as its header.
    expect(answer.json()).toMatchObject({
      traceparent: `00-${TRACE_ID}-${call.spanContext().spanId}-01`,
      tracestate: 'vendor=1',
    });
    const line = workers[0]?.logs.find(({ msg }) => msg === 'asked');
    expect(line).toMatchObject({
      function: 'plain',
      trace_id: TRACE_ID,
      span_id: run.spanContext().spanId,
    });
    expect(line?.['invocation']).toBe(run.attributes['millrace.invocation']);
  });

  it('begins at the worker where nobody before has one', async () => {
    await nats.request('plain.ask', '1');
    expect((await theSpan('run plain')).parentSpanContext).toBeUndefined();
    await silent.invoke('echo');
    expect(named('run echo').map((span) => span.parentSpanContext === undefined)).toContain(true);
  });

  it('that its beginner has decided against is not begun again, and says so on', async () => {
    const headers = newHeaders();
    headers.set('traceparent', `00-${TRACE_ID}-${PARENT_ID}-00`);
    const answer = await nats.request('plain.ask', '1', { headers, timeout: 5_000 });
    expect(answer.json()).toMatchObject({ traceparent: `00-${TRACE_ID}-${PARENT_ID}-00` });
    const never = testTracing(0);
    const opened = await openBus({ servers: broker.url }, 'never');
    await using quiet = new Mill(opened.bus, opened.settings, {}, never.tracing);
    expect(await quiet.invoke('plain')).toEqual({});
    expect(await quiet.invoke('plain', 1, { headers: { mine: '1' } })).toEqual({});
    expect(seen.at(-1)).toEqual({ mine: '1' });
    await quiet.publish('orders.placed', { order: 'o-4' });
    await until('it is shipped', () => seen.some((each) => 'Nats-Msg-Id' in each));
    expect(seen.at(-1)?.['traceparent']).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
    expect(kept.spans()).toEqual([]);
    expect(never.spans()).toEqual([]);
  });

  it('that is none is left alone: a new one begins', async () => {
    const headers = newHeaders();
    headers.set('traceparent', 'what is this');
    await nats.request('plain.ask', '1', { headers, timeout: 5_000 });
    expect((await theSpan('run plain')).parentSpanContext).toBeUndefined();
  });

  it('of a call may be named by its caller', async () => {
    const traceparent = `00-${TRACE_ID}-${PARENT_ID}-01`;
    await mill.invoke('echo', 1, { headers: { traceparent } });
    expect((await theSpan('invoke echo')).parentSpanContext?.spanId).toBe(PARENT_ID);
    expect(parentOf(await theSpan('run echo'))).toBe('invoke echo');
  });

  it('leaves the whole room for headers to the caller', async () => {
    const headers = { long: 'x'.repeat(4_080) };
    expect(await mill.invoke('echo', 1, { headers })).toMatchObject(headers);
  });

  it('links a batch to all of its events', async () => {
    await mill.publish('gather.it', 1);
    await mill.publish('gather.it', 2);
    const run = await theSpan('run gather');
    const published = named('publish').map((span) => span.spanContext().spanId);
    expect(run.attributes['millrace.events']).toBe(2);
    expect(run.links.map(({ context }) => context.spanId)).toEqual([published[1]]);
  });
});
