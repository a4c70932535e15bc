/** Turns traces on, where somebody wants them. OpenTelemetry's SDK is loaded only then. */
import { setTimeout as delay } from 'node:timers/promises';
import { trace } from '@opentelemetry/api';
import { MillraceError, messageOf } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import { RootSampler } from './sampler.ts';
import { Tracing } from './tracing.ts';

export interface TelemetryOptions {
  /**
   * `false`: none. `true`: by the provider that the program has registered with `@opentelemetry/api`. `{ endpoint }`: sent to an
   * OpenTelemetry collector by OTLP over HTTP, such as `http://localhost:4318`. Default: the setting `tracesEndpoint`, else the environment's
   * `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT`; there the program's own provider goes first, if it has one.
   */
  traces?: boolean | { endpoint: string };
}

export type TelemetryEnvironment = Readonly<Record<string, string | undefined>>;

interface Wanted {
  options: TelemetryOptions | undefined;
  settings: Settings;
  environment: TelemetryEnvironment;
  /** What says who it is, in the collector. */
  service: string;
  /** The process is ours: functions that use `@opentelemetry/api` find the provider. */
  global: boolean;
}

const INSTRUMENTATION = 'millrace';
/** At the end nobody waits longer for a collector that does not answer. */
const CLOSE_TIMEOUT_MS = 2_000;

/** Undefined where traces are off. Throws USAGE for an endpoint that is no URL. */
export async function openTracing(wanted: Wanted): Promise<Tracing | undefined> {
  const { options, settings, environment } = wanted;
  const { traces } = options ?? {};
  if (traces === false || environment['OTEL_SDK_DISABLED'] === 'true') return undefined;
  if (traces === true) return new Tracing({ tracer: trace.getTracer(INSTRUMENTATION) });
  if (typeof traces === 'object') return ownTracing(tracesUrl(traces.endpoint), wanted);
  const url = urlOf(settings, environment);
  if (url === undefined) return undefined;
  if (hasProvider()) return new Tracing({ tracer: trace.getTracer(INSTRUMENTATION) });
  return ownTracing(url, wanted);
}

function urlOf(settings: Settings, environment: TelemetryEnvironment): string | undefined {
  if (settings.tracesEndpoint !== '') return tracesUrl(settings.tracesEndpoint);
  // As OpenTelemetry has it: the one for traces is taken as it is, the one for all has the path added.
  const own = environment['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT']?.trim() ?? '';
  if (own !== '') return checkedUrl(own);
  const all = environment['OTEL_EXPORTER_OTLP_ENDPOINT']?.trim() ?? '';
  return all === '' ? undefined : tracesUrl(all);
}

function tracesUrl(endpoint: string): string {
  return checkedUrl(`${endpoint.replace(/\/+$/, '')}/v1/traces`);
}

function checkedUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return text;
  // Not the text: it may have a password in it.
  throw new MillraceError('USAGE', 'The endpoint for traces must be an http:// or https:// URL.');
}

/** Has the program registered one? Another copy of the API may have done it: its classes are others. */
function hasProvider(): boolean {
  const provider = trace.getTracerProvider() as {
    getDelegateTracer?: (name: string) => unknown;
  };
  return provider.getDelegateTracer?.(INSTRUMENTATION) !== undefined;
}

async function ownTracing(url: string, wanted: Wanted): Promise<Tracing> {
  const { settings, service, global } = wanted;
  const { startProvider } = await import('./sdk.ts').catch((cause: unknown) => {
    const message = `OpenTelemetry could not be loaded: ${messageOf(cause)}`;
    throw new MillraceError('NOT_SUPPORTED', message, { cause });
  });
  const provider = startProvider(url, service);
  if (global) trace.setGlobalTracerProvider(provider);
  return new Tracing({
    tracer: provider.getTracer(INSTRUMENTATION),
    sampler: new RootSampler({
      ratio: settings.tracesRatio,
      maxPerSecond: settings.maxTracesPerSecond,
      now: () => performance.now(),
      random: Math.random,
      after: (delayMs, then) => setTimeout(then, delayMs).unref(),
    }),
    close: async () => inTime(provider.shutdown()),
  });
}

async function inTime(closing: Promise<void>): Promise<void> {
  const closed = new AbortController();
  const late = delay(CLOSE_TIMEOUT_MS, undefined, { signal: closed.signal }).catch(() => {});
  await Promise.race([closing, late]).finally(() => closed.abort());
}
