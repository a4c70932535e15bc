/** What travels and what is written, without a broker; and that the documentation has the same names as the code. */
import { readFile } from 'node:fs/promises';
import { ROOT_CONTEXT, SpanKind, trace } from '@opentelemetry/api';
import { describe, expect, it } from 'vitest';
import { MillraceError } from '../../src/core/errors.ts';
import { parseSettings } from '../../src/core/settings.ts';
import { ATTRIBUTES, SPANS } from '../../src/telemetry/catalog.ts';
import { metricsText, type MetricCatalog } from '../../src/telemetry/metrics.ts';
import { openTracing, type TelemetryOptions } from '../../src/telemetry/open.ts';
import { headersOf, traceOf } from '../../src/telemetry/propagation.ts';
import { RootSampler } from '../../src/telemetry/sampler.ts';
import { WORKER_METRICS } from '../../src/worker/metrics.ts';
import { bounded, isWanted, KeptLines, MAX_KEPT_BYTES } from '../../src/worker/logs/kept-lines.ts';
import { testTracing } from '../support/spans.ts';

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN_ID = '00f067aa0ba902b7';
const KEPT = `00-${TRACE_ID}-${SPAN_ID}-01`;

describe('traceparent', () => {
  it('is read and written as it was', () => {
    const headers = { traceparent: KEPT, tracestate: 'one=1,two=2' };
    const found = traceOf(headers);
    expect(found).toMatchObject({ traceId: TRACE_ID, spanId: SPAN_ID, traceFlags: 1 });
    expect(found && headersOf(found)).toEqual(headers);
  });

  it.each([
    ['a later version with more behind it', `cc-${TRACE_ID}-${SPAN_ID}-01-what`, 1],
    ['flags that nobody knows yet', `00-${TRACE_ID}-${SPAN_ID}-fe`, 0],
  ])('is read of %s', (_, traceparent, traceFlags) => {
    expect(traceOf({ traceparent })).toMatchObject({ traceId: TRACE_ID, traceFlags });
  });

  it.each([
    ['nothing', ''],
    ['a trace id of zeros', `00-${'0'.repeat(32)}-${SPAN_ID}-01`],
    ['a span id of zeros', `00-${TRACE_ID}-${'0'.repeat(16)}-01`],
    ['the version ff', `ff-${TRACE_ID}-${SPAN_ID}-01`],
    ['capitals', KEPT.toUpperCase()],
    ['more behind version 00', `${KEPT}-00`],
    ['one digit less', KEPT.slice(0, -1)],
    ['a line behind it', `${KEPT}\n`],
  ])('with %s is none', (_, traceparent) => {
    expect(traceOf({ traceparent })).toBeUndefined();
  });

  it('goes without a tracestate that is none', () => {
    const found = traceOf({ traceparent: KEPT, tracestate: 'x'.repeat(513) });
    expect(found && headersOf(found)).toEqual({ traceparent: KEPT });
  });
});

describe('which traces are kept', () => {
  const sampler = (ratio: number, maxPerSecond: number) => {
    const state = { now: 0, random: 0 };
    const timers: { atMs: number; ring: () => void }[] = [];
    const own = new RootSampler({
      ratio,
      maxPerSecond,
      now: () => state.now,
      random: () => state.random,
      after: (delayMs, ring) => void timers.push({ atMs: state.now + delayMs, ring }),
    });
    const passMs = (ms: number): void => {
      state.now += ms;
      const due = timers.filter(({ atMs }) => atMs <= state.now);
      for (const timer of due) timers.splice(timers.indexOf(timer), 1);
      for (const { ring } of due) ring();
    };
    const keeps = (times: number) => Array.from({ length: times }, () => own.keeps());
    return { state, timers, passMs, keeps };
  };
  const count = (kept: boolean[]): number => kept.filter(Boolean).length;

  it('is a share', () => {
    const { state, keeps } = sampler(0.25, 1_000);
    state.random = 0.2499;
    expect(keeps(1)).toEqual([true]);
    state.random = 0.25;
    expect(keeps(1)).toEqual([false]);
  });

  it('is never more in a second than may be, and what was not used is not saved up', () => {
    const { timers, passMs, keeps } = sampler(1, 100);
    passMs(60_000);
    expect(count(keeps(1_000))).toBe(100);
    passMs(500);
    expect(count(keeps(1_000))).toBe(50);
    passMs(60_000);
    expect(count(keeps(1_000))).toBe(100);
    passMs(9);
    // A timer may come a little early.
    timers.shift()?.ring();
    expect([count(keeps(1_000)), timers.length]).toEqual([0, 1]);
    passMs(10);
    expect([count(keeps(1_000)), timers.length]).toEqual([1, 1]);
  });

  it('is decided where a trace begins and nowhere else', () => {
    const never = testTracing(0).tracing;
    const parent = traceOf({ traceparent: KEPT });
    expect(never.begin('run f', parent, { kind: SpanKind.SERVER }).span).toBeDefined();
    const always = testTracing(1).tracing;
    const refused = traceOf({ traceparent: KEPT.replace(/01$/, '00') });
    const left = always.begin('run f', refused, { kind: SpanKind.SERVER });
    expect(left.span).toBeUndefined();
    expect(always.eventHeaders(left)).toEqual({ traceparent: KEPT.replace(/01$/, '00') });
  });

  it('says on in an event that one is not kept, with ids that are legal', () => {
    const { tracing } = testTracing(0);
    const headers = tracing.eventHeaders(tracing.begin('publish', undefined, { kind: 0 }));
    expect(traceOf(headers)).toMatchObject({ traceFlags: 0 });
    expect(tracing.callHeaders(tracing.begin('invoke f', undefined, { kind: 0 }))).toBeUndefined();
  });
});

describe('traces', () => {
  const open = async (
    options: TelemetryOptions | undefined,
    settings: object = {},
    environment: Record<string, string> = {},
  ) =>
    openTracing({
      options,
      settings: parseSettings(settings),
      environment,
      service: 'test',
      global: false,
    });

  it('are off unless somebody wants them', async () => {
    expect(await open(undefined)).toBeUndefined();
    expect(await open({}, {}, { OTEL_EXPORTER_OTLP_ENDPOINT: ' ' })).toBeUndefined();
  });

  it.each([
    ['an option', { traces: { endpoint: 'http://127.0.0.1:9' } }, {}, {}],
    ['a setting', {}, { tracesEndpoint: 'http://127.0.0.1:9' }, {}],
    ['the environment', {}, {}, { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' }],
    ['the environment, for traces', {}, {}, { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://a.b/c' }],
    ['a provider of the program’s own', { traces: true }, {}, {}],
  ])('are turned on by %s', async (_, options, settings, environment) => {
    const tracing = await open(options, settings, environment);
    expect(tracing).toBeDefined();
    await tracing?.close();
  });

  it.each([
    ['the option', { traces: false }, {}],
    ['the environment', {}, { OTEL_SDK_DISABLED: 'true' }],
  ])('are turned off by %s, whatever else says', async (_, options, environment) => {
    const on = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9', ...environment };
    expect(await open(options, { tracesEndpoint: 'http://127.0.0.1:9' }, on)).toBeUndefined();
  });

  it('are refused an endpoint that is no URL, without saying it', async () => {
    const refused = await open({ traces: { endpoint: 'ftp://user:secret@host' } }).then(
      () => undefined,
      (error: MillraceError) => error,
    );
    expect(refused).toBeInstanceOf(MillraceError);
    expect(refused?.code).toBe('USAGE');
    expect(refused?.message).not.toContain('secret');
  });

  it('of a provider that keeps nothing cost no span, and say so on', async () => {
    // None is registered: the API's own spans record nothing.
    const tracing = await open({ traces: true });
    const begun = tracing?.begin('invoke f', undefined, { kind: SpanKind.CLIENT });
    expect(begun?.span).toBeUndefined();
    expect(trace.getSpan(ROOT_CONTEXT)).toBeUndefined();
  });
});

describe('metrics', () => {
  it('are written as Prometheus reads them', async () => {
    const catalog = {
      calls_total: { type: 'counter', help: 'Calls,\nall \\ of them.', labels: ['function'] },
      wait_seconds: { type: 'histogram', help: 'Waits.', labels: [] },
      unused: { type: 'gauge', help: 'Nothing says it.', labels: [] },
    } satisfies MetricCatalog;
    const text = await metricsText(catalog, (add) => {
      add('wait_seconds', { buckets: [[0.5, 1]], sum: 2.5, count: 3 });
      add('calls_total', 3, { function: 'a"b\\c\nd' });
    });
    expect(text).toBe(
      [
        '# HELP calls_total Calls,\\nall \\\\ of them.',
        '# TYPE calls_total counter',
        'calls_total{function="a\\"b\\\\c\\nd"} 3',
        '# HELP wait_seconds Waits.',
        '# TYPE wait_seconds histogram',
        'wait_seconds_bucket{le="0.5"} 1',
        'wait_seconds_bucket{le="+Inf"} 3',
        'wait_seconds_sum 2.5',
        'wait_seconds_count 3',
        '',
      ].join('\n'),
    );
  });

  it.each(Object.entries(WORKER_METRICS))('%s is named as its type wants it', (name, { type }) => {
    expect(name).toMatch(/^[a-z][a-z0-9_]*$/);
    expect(name.endsWith('_total')).toBe(type === 'counter');
    expect(type !== 'histogram' || /_(seconds|bytes)$/.test(name)).toBe(true);
  });
});

describe('lines that are kept', () => {
  const line = (level: number, invocation: string, msg = ''): string =>
    JSON.stringify({ level, time: 1, invocation, msg });

  it('are the last ones, within their bytes', () => {
    const kept = new KeptLines();
    const lines = Array.from({ length: 1_000 }, (_, index) =>
      line(30, `i-${index}`, 'x'.repeat(1_000)),
    );
    for (const each of lines) kept.add(each);
    const all = kept.last(10_000, {}, Infinity);
    expect(all.join('').length).toBeLessThanOrEqual(MAX_KEPT_BYTES);
    expect(all.join('').length).toBeGreaterThan(MAX_KEPT_BYTES - 2_000);
    expect(all).toEqual(lines.slice(-all.length));
    expect(kept.last(2, {}, Infinity)).toEqual(lines.slice(-2));
    expect(kept.last(10, {}, 2_500)).toEqual(lines.slice(-2));
  });

  it('are wanted by level and invocation', () => {
    expect(isWanted(line(30, 'a'), { level: 'warn' })).toBe(false);
    expect(isWanted(line(40, 'a'), { level: 'warn' })).toBe(true);
    expect(isWanted(line(30, 'a"b'), { invocation: 'a"b' })).toBe(true);
    expect(isWanted(line(30, 'ab'), { invocation: 'a' })).toBe(false);
  });

  it('lose what is beside their message where they are too long', () => {
    const long = bounded(
      JSON.stringify({
        level: 50,
        function: 'f',
        invocation: 'i',
        data: 'x'.repeat(9_000),
        msg: 'm',
      }),
    );
    expect(JSON.parse(long)).toEqual({
      level: 50,
      function: 'f',
      invocation: 'i',
      msg: 'm',
      truncatedBytes: expect.any(Number) as number,
    });
    expect(bounded(`${line(30, 'a')}\n`)).toBe(line(30, 'a'));
    expect(bounded('x'.repeat(9_000)).length).toBeLessThan(200);
  });
});

describe('docs/telemetry.md', () => {
  const doc = async (): Promise<string> =>
    readFile(new URL('../../docs/telemetry.md', import.meta.url), 'utf8');

  it('has all metrics with their types and labels, and no others', async () => {
    const rows = [
      ...(await doc()).matchAll(/^\| `(\w+)`\s*\| (counter|gauge|histogram)\s*\| (.*?)\s*\|/gm),
    ];
    const written = rows.map(([, name = '', type = '', labels = '']) => [
      name,
      { type, labels: [...labels.matchAll(/`(\w+)`/g)].map(([, label]) => label) },
    ]);
    const wanted = Object.entries(WORKER_METRICS).map(([name, { type, labels }]) => [
      name,
      { type, labels },
    ]);
    expect(written).toHaveLength(wanted.length);
    expect(Object.fromEntries(written)).toEqual(Object.fromEntries(wanted));
  });

  it('has all spans and attributes, and no others', async () => {
    const text = await doc();
    const spans = [
      ...text.matchAll(
        /^\| `([a-z]+)(?: <function>)?`\s*\| (?:producer|client|server|consumer|internal)/gm,
      ),
    ];
    expect(new Set(spans.map(([, name]) => name))).toEqual(new Set(Object.values(SPANS)));
    expect(spans).toHaveLength(Object.keys(SPANS).length);
    const part = text.slice(text.indexOf('### Attributes'), text.indexOf('## Metrics'));
    const attributes = [...part.matchAll(/^\| `([a-z_.]+)`/gm)].map(([, name]) => name);
    expect(new Set(attributes)).toEqual(new Set(Object.values(ATTRIBUTES)));
    expect(attributes).toHaveLength(Object.keys(ATTRIBUTES).length);
  });
});

describe('docs/grafana.json', () => {
  it('asks for documented metrics only, and for nearly all of them', async () => {
    const text = await readFile(new URL('../../docs/grafana.json', import.meta.url), 'utf8');
    const board = JSON.parse(text) as {
      panels: { id: number; targets?: { expr: string }[] }[];
      templating: { list: { query: string }[] };
    };
    const asked = [
      ...board.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)),
      ...board.templating.list.map(({ query }) => query),
    ];
    const catalog: MetricCatalog = WORKER_METRICS;
    const named = (name: string): string =>
      catalog[name] === undefined ? name.replace(/_(bucket|sum|count)$/, '') : name;
    const used = new Set(
      asked.flatMap((expr) =>
        [...expr.matchAll(/\b(?:millrace|process|nodejs)_\w+/g)].map(([name]) => named(name)),
      ),
    );
    expect([...used].filter((name) => catalog[name] === undefined)).toEqual([]);
    const unused = Object.keys(catalog).filter((name) => !used.has(name));
    expect(unused.length).toBeLessThan(6);
    const ids = board.panels.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
  });
});
