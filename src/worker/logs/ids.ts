import { traceOf } from '../../telemetry/propagation.ts';
import type { Invocation } from '../invocation.ts';

/** What every line of a run says of it; names with underscores are OpenTelemetry's. */
export function idsOf({ incoming, trace }: Invocation): Record<string, unknown> {
  const { eventId: invocation, attempt, headers } = incoming;
  const { traceId, spanId } = trace?.span?.spanContext() ?? {};
  // With traces off it is the trace of whoever caused the run.
  const trace_id = traceId ?? traceOf(headers)?.traceId;
  return {
    invocation,
    attempt,
    ...(trace_id === undefined ? {} : { trace_id }),
    ...(spanId === undefined ? {} : { span_id: spanId }),
  };
}
