/** What a worker does, as spans: where traces are on. */
import { SpanKind, type Attributes, type Link, type Span } from '@opentelemetry/api';
import { UNTRACED } from '../bus/frame.ts';
import type { InternalOptions, InvokeOptions } from '../bus/invoke.ts';
import type { PreparedEvent, Publisher } from '../bus/publisher.ts';
import type { MillraceError } from '../core/errors.ts';
import { isOwnFunction } from '../core/names.ts';
import type { Context } from '../function/context.ts';
import type { LoadedFunction } from '../function/load.ts';
import { Attempt } from '../state/attempt.ts';
import { ATTRIBUTES as NAMES, SPAN_EVENTS, SPANS } from '../telemetry/catalog.ts';
import { traceOf } from '../telemetry/propagation.ts';
import { endSpan, endWith, NOT_KEPT, type Trace, type Tracing } from '../telemetry/tracing.ts';
import type { Incoming, Invocation } from './invocation.ts';
import type { RunnerHost } from './runner-host.ts';

/** The run is under way from here on. A durable event has a span before it, from when it was stored until now. */
export function beginRun(
  tracing: Tracing,
  host: RunnerHost,
  { name, version }: LoadedFunction,
  invocation: Invocation,
): void {
  const { incoming } = invocation;
  // What the platform does by itself is no part of anybody's trace.
  if (incoming.untraced === true || isOwnFunction(name)) {
    invocation.trace = NOT_KEPT;
    return;
  }
  let parent = traceOf(incoming.headers);
  invocation.trace = tracing.left(parent);
  if (invocation.trace !== undefined) return;
  const { delivery, subject, eventId, attempt } = incoming;
  const attributes: Attributes = {
    [NAMES.function]: name,
    [NAMES.version]: version,
    [NAMES.worker]: host.workerId,
    [NAMES.invocation]: eventId,
    [NAMES.attempt]: attempt,
  };
  if (delivery === undefined) {
    const kind = SpanKind.SERVER;
    invocation.trace = tracing.start(`${SPANS.run} ${name}`, parent, { kind, attributes });
    return;
  }
  const { stream, sequence, timeMs, key } = delivery;
  const partition = key === undefined ? undefined : host.partitionOf(key);
  if (partition !== undefined) attributes[NAMES.partition] = partition;
  const deliver = tracing.start(`${SPANS.deliver} ${name}`, parent, {
    kind: SpanKind.CONSUMER,
    // The broker's clock may be ahead of this one.
    startTime: Math.min(timeMs, Date.now()),
    attributes: {
      [NAMES.system]: 'nats',
      [NAMES.subject]: subject,
      [NAMES.id]: eventId,
      [NAMES.stream]: stream,
      [NAMES.sequence]: sequence,
      [NAMES.attempt]: attempt,
    },
  });
  if (deliver.span === undefined) {
    invocation.trace = deliver;
    return;
  }
  endSpan(deliver.span);
  parent = deliver.span.spanContext();
  const links = linksOf(incoming);
  if (incoming.batch !== undefined) attributes[NAMES.events] = incoming.batch.length;
  const kind = SpanKind.CONSUMER;
  const run = tracing.begin(`${SPANS.run} ${name}`, parent, { kind, attributes, links });
  invocation.trace = run;
}

/** Of a batch: the first one is what the run continues. */
function linksOf({ batch = [] }: Incoming): Link[] {
  return batch.slice(1).flatMap(({ headers }) => {
    const context = traceOf(headers);
    return context === undefined ? [] : [{ context }];
  });
}

export function endRun({ trace, runs }: Invocation, error: MillraceError | undefined): void {
  if (trace?.span !== undefined) endSpan(trace.span, error?.code, { [NAMES.runs]: runs });
}

/** The transaction of a run; its commit is a span where the run is one. */
export function attemptOf(
  tracing: Tracing | undefined,
  { trace, runs }: Invocation,
  ...given: ConstructorParameters<typeof Attempt>
): Attempt {
  const span = trace?.span;
  if (tracing === undefined || span === undefined) return new Attempt(...given);
  return new TracedAttempt(tracing, span, runs, given);
}

class TracedAttempt extends Attempt {
  readonly #begin: () => Span;

  constructor(
    tracing: Tracing,
    run: Span,
    runs: number,
    given: ConstructorParameters<typeof Attempt>,
  ) {
    super(...given);
    const attributes = {
      [NAMES.transaction]: this.transaction.identity.id,
      [NAMES.runs]: runs,
    };
    this.#begin = () => tracing.within(run, SPANS.commit, { kind: SpanKind.INTERNAL, attributes });
  }

  override commit(emits: readonly Uint8Array[]): Promise<void> {
    const { transaction } = this;
    const span = this.#begin();
    const beganMs = performance.now();
    const committing = super.commit(emits);
    const ended = (code?: string): void => {
      const { preparedAtMs, failure, partitions, size, state } = transaction;
      const lockMs = preparedAtMs === 0 ? undefined : preparedAtMs - beganMs;
      endSpan(span, code, {
        [NAMES.participants]: partitions,
        [NAMES.keys]: size,
        [NAMES.emitted]: emits.length,
        [NAMES.outcome]: failure?.kind === 'refused' ? failure.refusal.why : state,
        ...(lockMs === undefined ? {} : { [NAMES.lockMs]: lockMs }),
        ...(lockMs === undefined ? {} : { [NAMES.decideMs]: performance.now() - preparedAtMs }),
      });
    };
    committing.then(
      () => ended(),
      (error: { code?: string }) => ended(error.code ?? 'TRANSACTION_CONFLICT'),
    );
    return committing;
  }
}

/** Its trace goes with it: in the transaction, to whoever handles it. */
export function tracedEmit(
  tracing: Tracing,
  publisher: Publisher,
  trace: Trace,
  runs: number,
  ...[subject, data, options]: Parameters<Context['emit']>
): PreparedEvent {
  // A handler may say itself what the event continues.
  const named = options?.headers !== undefined && traceOf(options.headers) !== undefined;
  const headers = named ? undefined : tracing.eventHeaders(trace);
  const event = publisher.prepare(subject, data, options, headers);
  trace.span?.addEvent(SPAN_EVENTS.emit, {
    [NAMES.subject]: subject,
    [NAMES.id]: event.id,
    [NAMES.runs]: runs,
  });
  return event;
}

/** A call of a handler's. */
export function tracedCall<Options extends InvokeOptions>(
  tracing: Tracing,
  trace: Trace,
  functionName: string,
  options: Options,
  invoke: (options: Options & InternalOptions) => Promise<unknown>,
): Promise<unknown> {
  if (trace.span === undefined)
    return invoke({ ...options, trace: tracing.callHeaders(trace) ?? UNTRACED });
  const parent = tracing.parentOf(options.headers) ?? trace.span.spanContext();
  const call = tracing.beginCall(functionName, parent);
  const answer = invoke({ ...options, trace: tracing.callHeaders(call) ?? UNTRACED });
  return call.span === undefined ? answer : endWith(call.span, answer);
}
