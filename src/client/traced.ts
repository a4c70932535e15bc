/** What a client does, as spans: where traces are on. */
import { SpanKind } from '@opentelemetry/api';
import { UNTRACED } from '../bus/frame.ts';
import type { InternalOptions, InvokeOptions } from '../bus/invoke.ts';
import type { Publisher, PublishOptions, PublishReceipt } from '../bus/publisher.ts';
import { ATTRIBUTES as NAMES, SPANS } from '../telemetry/catalog.ts';
import { endWith, type Tracing } from '../telemetry/tracing.ts';

const NOT_KEPT: InternalOptions = Object.freeze({ trace: UNTRACED });

/** `options` may be a program's own, with a `traceparent` that the call is to continue. */
export function tracedInvoke(
  tracing: Tracing,
  functionName: string,
  options: InvokeOptions | undefined,
  invoke: (options: InvokeOptions & InternalOptions) => Promise<unknown>,
): Promise<unknown> {
  const trace = tracing.beginCall(functionName, tracing.parentOf(options?.headers));
  const headers = tracing.callHeaders(trace);
  // Most calls, where there are many.
  if (headers === undefined) {
    return invoke(options === undefined ? NOT_KEPT : { ...options, trace: UNTRACED });
  }
  const answer = invoke({ ...options, trace: headers });
  return trace.span === undefined ? answer : endWith(trace.span, answer);
}

/** Throws and rejects as the publisher does. */
export async function tracedPublish(
  tracing: Tracing,
  publisher: Publisher,
  subject: string,
  data: unknown,
  options: PublishOptions | undefined,
): Promise<PublishReceipt> {
  const trace = tracing.begin(SPANS.publish, tracing.parentOf(options?.headers), {
    kind: SpanKind.PRODUCER,
    attributes: { [NAMES.system]: 'nats', [NAMES.subject]: subject },
  });
  const publish = async (): Promise<PublishReceipt> =>
    publisher.send(publisher.prepare(subject, data, options, tracing.eventHeaders(trace)));
  if (trace.span === undefined) return publish();
  return endWith(trace.span, publish(), ({ id, stream, sequence }) => ({
    [NAMES.id]: id,
    ...(stream === undefined ? {} : { [NAMES.stream]: stream }),
    ...(sequence === undefined ? {} : { [NAMES.sequence]: sequence }),
  }));
}
