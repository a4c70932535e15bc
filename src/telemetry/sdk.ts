/** OpenTelemetry's SDK: loaded where traces are on, and nowhere else. */
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import {
  defaultResource,
  detectResources,
  envDetector,
  resourceFromAttributes,
} from '@opentelemetry/resources';
import {
  AlwaysOnSampler,
  BasicTracerProvider,
  BatchSpanProcessor,
  ParentBasedSampler,
} from '@opentelemetry/sdk-trace-base';

/** Spans that wait to be sent, at most: what is more is dropped, so that a collector that is away costs no memory. */
const MAX_QUEUED_SPANS = 8_192;
const MAX_BATCH_SPANS = 1_024;
const SEND_EVERY_MS = 1_000;
const SEND_TIMEOUT_MS = 5_000;

/** `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` are read by the SDK itself. */
export function startProvider(url: string, service: string): BasicTracerProvider {
  const named = resourceFromAttributes({ 'service.name': service });
  const resource = defaultResource()
    .merge(named)
    .merge(detectResources({ detectors: [envDetector] }));
  const exporter = new OTLPTraceExporter({ url, timeoutMillis: SEND_TIMEOUT_MS });
  const processor = new BatchSpanProcessor(exporter, {
    maxQueueSize: MAX_QUEUED_SPANS,
    maxExportBatchSize: MAX_BATCH_SPANS,
    scheduledDelayMillis: SEND_EVERY_MS,
    exportTimeoutMillis: SEND_TIMEOUT_MS,
  });
  // What begins here was decided for already (T1); functions' own spans continue it, or begin a trace that their author wants.
  const sampler = new ParentBasedSampler({ root: new AlwaysOnSampler() });
  return new BasicTracerProvider({ resource, sampler, spanProcessors: [processor] });
}
