/**
 * Traces, as the rest of the platform sees them. Who has no `Tracing` pays a comparison with undefined; who has one and meets a
 * trace that is not kept makes no span.
 *
 * - T1  Whether a trace is kept is decided where it begins, and travels with it: nobody behind decides again.
 * - T2  No payload, no key and no header's value goes into a span, nor what was thrown: an error is its code.
 */
import {
  context,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  type Attributes,
  type Context,
  type Link,
  type Span,
  type SpanContext,
  type TimeInput,
  type Tracer,
} from '@opentelemetry/api';
import { ATTRIBUTES, SPANS } from './catalog.ts';
import { headersOf, isSampled, traceOf } from './propagation.ts';
import type { RootSampler } from './sampler.ts';

type Headers = Readonly<Record<string, string>>;

/** What a run, a call or an event belongs to. */
export interface Trace {
  /** Of what is under way here; undefined where the trace is not kept. */
  readonly span: Span | undefined;
  /** What it continues; undefined where it began here. */
  readonly parent: SpanContext | undefined;
}

/** One that began here or at our own client and is not kept. */
export const NOT_KEPT: Trace = Object.freeze({ span: undefined, parent: undefined });

export interface SpanOptions {
  kind: SpanKind;
  attributes?: Attributes;
  startTime?: TimeInput;
  links?: Link[];
}

export interface TracingOptions {
  tracer: Tracer;
  /** Undefined where the tracer's provider decides itself. */
  sampler?: RootSampler | undefined;
  random?: () => number;
  /** Sends what is left. */
  close?: () => Promise<void>;
}

export class Tracing {
  readonly #tracer: Tracer;
  readonly #sampler: RootSampler | undefined;
  readonly #random: () => number;
  readonly #close: () => Promise<void>;

  constructor({ tracer, sampler, random = Math.random, close = async () => {} }: TracingOptions) {
    this.#tracer = tracer;
    this.#sampler = sampler;
    this.#random = random;
    this.#close = close;
  }

  /**
   * T1: where the trace is not kept, what is said of it; undefined where it is. Asked before anything is built that says more: most
   * calls under load end here.
   */
  left(parent: SpanContext | undefined): Trace | undefined {
    if (this.#sampler === undefined) return undefined;
    if (parent === undefined) return this.#sampler.keeps() ? undefined : NOT_KEPT;
    return isSampled(parent) ? undefined : { span: undefined, parent };
  }

  /** Begins what continues `parent`, or a trace of its own. */
  begin(name: string, parent: SpanContext | undefined, options: SpanOptions): Trace {
    return this.left(parent) ?? this.start(name, parent, options);
  }

  /** What `left` has let through. */
  start(name: string, parent: SpanContext | undefined, options: SpanOptions): Trace {
    const span = this.#tracer.startSpan(name, options, contextOf(parent));
    if (span.isRecording()) return { span, parent };
    // A provider of the program's own has decided against it; what it has made says so on.
    return { span: undefined, parent: span.spanContext() };
  }

  /** A call of a function. */
  beginCall(functionName: string, parent: SpanContext | undefined): Trace {
    const left = this.left(parent);
    if (left !== undefined) return left;
    const attributes = { [ATTRIBUTES.function]: functionName };
    const kind = SpanKind.CLIENT;
    return this.start(`${SPANS.invoke} ${functionName}`, parent, { kind, attributes });
  }

  /** A part of `span`. */
  within(span: Span, name: string, options: SpanOptions): Span {
    return this.#tracer.startSpan(name, options, contextOf(span.spanContext()));
  }

  /** What headers name; else what the program is in, where it has OpenTelemetry of its own. */
  parentOf(headers: Headers | undefined): SpanContext | undefined {
    const named = headers === undefined ? undefined : traceOf(headers);
    if (named !== undefined || this.#sampler !== undefined) return named;
    return trace.getSpanContext(context.active());
  }

  /** For a call; undefined where it is to be said that its trace is not kept (T1). */
  callHeaders({ span, parent }: Trace): Headers | undefined {
    const continued = span?.spanContext() ?? parent;
    return continued === undefined ? undefined : headersOf(continued);
  }

  /** For an event: whoever gets it, in whatever language, knows that its trace is not kept (T1). */
  eventHeaders({ span, parent }: Trace): Headers {
    const continued = span?.spanContext() ?? parent;
    return headersOf(continued ?? { traceId: this.#hex(4), spanId: this.#hex(2), traceFlags: 0 });
  }

  /** Sends what was not sent yet. Never rejects. */
  async close(): Promise<void> {
    await this.#close().catch(() => {});
  }

  #hex(words: number): string {
    let text = '';
    for (let word = 0; word < words; word += 1) {
      // Never 0, which no id may be.
      const bits = 1 + Math.floor(this.#random() * 0xffff_fffe);
      text += bits.toString(16).padStart(8, '0');
    }
    return text;
  }
}

/** Runs `run` with the span as what the program is in: its own instrumentation, if it has any, continues the trace. */
export function inSpan<Result>(span: Span, run: () => Result): Result {
  return context.with(trace.setSpan(context.active(), span), run);
}

/** T2: `code` is all that is said of an error. */
export function endSpan(span: Span, code?: string, attributes?: Attributes): void {
  if (attributes !== undefined) span.setAttributes(attributes);
  if (code !== undefined) {
    span.setAttribute('error.type', code);
    span.setStatus({ code: SpanStatusCode.ERROR, message: code });
  }
  span.end();
}

/** The span ends with the promise, which is given back as it is. */
export function endWith<Value>(
  span: Span,
  promise: Promise<Value>,
  attributesOf?: (value: Value) => Attributes,
): Promise<Value> {
  promise.then(
    (value) => endSpan(span, undefined, attributesOf?.(value)),
    (error: unknown) => endSpan(span, codeOf(error)),
  );
  return promise;
}

function codeOf(error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === 'string' ? code : 'FAILED';
}

function contextOf(parent: SpanContext | undefined): Context {
  return parent === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, parent);
}
