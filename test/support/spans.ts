/** Traces that a test can read: kept in memory instead of sent. */
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
  type ReadableSpan,
} from '@opentelemetry/sdk-trace-base';
import { RootSampler } from '../../src/telemetry/sampler.ts';
import { Tracing } from '../../src/telemetry/tracing.ts';

export interface TestTracing {
  tracing: Tracing;
  spans(): ReadableSpan[];
  reset(): void;
}

export function testTracing(ratio = 1): TestTracing {
  const exporter = new InMemorySpanExporter();
  const spanProcessors = [new SimpleSpanProcessor(exporter)];
  const provider = new BasicTracerProvider({ spanProcessors });
  const sampler = new RootSampler({
    ratio,
    maxPerSecond: 1_000_000,
    now: () => performance.now(),
    random: Math.random,
    after: (delayMs, then) => setTimeout(then, delayMs).unref(),
  });
  return {
    tracing: new Tracing({ tracer: provider.getTracer('test'), sampler }),
    spans: () => exporter.getFinishedSpans(),
    reset: () => exporter.reset(),
  };
}
