/** W3C Trace Context: how a trace travels in the headers of calls and events. */
import { createTraceState, type SpanContext } from '@opentelemetry/api';

export const TRACEPARENT = 'traceparent';
export const TRACESTATE = 'tracestate';

type Headers = Readonly<Record<string, string>>;

/** Version, trace id, parent id, flags; later versions may have more behind it. */
const PARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const NO_TRACE = '0'.repeat(32);
const NO_SPAN = '0'.repeat(16);
const SAMPLED = 1;
/** Printable ASCII; the W3C allows 512 characters. */
const STATE = /^[\x20-\x7e]{1,512}$/;

/** The trace that headers name; undefined where they name none, or what they say is no trace: it comes from outside. */
export function traceOf(headers: Headers): SpanContext | undefined {
  const text = headers[TRACEPARENT];
  if (text === undefined) return undefined;
  const [, version, traceId = '', spanId = '', flags = '', more] = PARENT.exec(text) ?? [];
  const legal =
    version !== undefined && version !== 'ff' && (version !== '00' || more === undefined);
  if (!legal || traceId === NO_TRACE || spanId === NO_SPAN) return undefined;
  const state = headers[TRACESTATE];
  return {
    traceId,
    spanId,
    traceFlags: Number.parseInt(flags, 16) & SAMPLED,
    isRemote: true,
    ...(state !== undefined && STATE.test(state) ? { traceState: createTraceState(state) } : {}),
  };
}

export function isSampled({ traceFlags }: SpanContext): boolean {
  return (traceFlags & SAMPLED) !== 0;
}

export function headersOf({ traceId, spanId, traceFlags, traceState }: SpanContext): Headers {
  const flags = (traceFlags & SAMPLED).toString(16).padStart(2, '0');
  const state = traceState?.serialize() ?? '';
  return {
    [TRACEPARENT]: `00-${traceId}-${spanId}-${flags}`,
    ...(state === '' ? {} : { [TRACESTATE]: state }),
  };
}
