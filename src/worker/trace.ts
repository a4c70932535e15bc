/** A trace that came in goes on. */
import type { Invocation } from './invocation.ts';

/** Printable ASCII; W3C allows 512 characters of trace state. */
const TRACE_VALUE = /^[\x20-\x7e]{1,512}$/;
const TRACE_HEADERS = ['traceparent', 'tracestate'];

/** A trace that came with the event goes on with the calls and events it causes. */
export function traced<Options extends { headers?: Readonly<Record<string, string>> }>(
  invocation: Invocation,
  options: Options,
): Options {
  const { headers } = invocation.incoming;
  // From outside: what is no trace is left behind, it would make every call and event of the handler fail.
  const carried = TRACE_HEADERS.filter((name) => TRACE_VALUE.test(headers[name] ?? ''));
  if (carried.length === 0) return options;
  const trace = Object.fromEntries(carried.map((name) => [name, headers[name] ?? '']));
  return { ...options, headers: { ...trace, ...options.headers } };
}
