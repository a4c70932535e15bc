/** What a runner needs of its worker. */
import type { PreparedEvent } from '../bus/publisher.ts';
import type { Deliveries } from '../delivery/deliveries.ts';
import type { Transactions } from '../state/transactions.ts';
import type { Tracing } from '../telemetry/tracing.ts';
import type { InvocationHost } from './invocation.ts';
import type { LiveInvocations } from './live.ts';
import type { Streams } from './streams.ts';
import type { RunTraces } from './traces/run-traces.ts';

export interface RunnerHost extends InvocationHost {
  /** Of answers in parts. */
  readonly streams: Streams;
  /** Undefined where traces are off. */
  readonly tracing?: Tracing | undefined;
  readonly runTraces?: RunTraces;
  /** Undefined where there is no state. */
  partitionOf(key: string): number | undefined;
  /** Undefined where the broker has no JetStream: then there is no state. */
  readonly transactions: Transactions | undefined;
  /** See Deliveries. */
  past: Deliveries['past'];
  /** An event that says which kept answers are wrong: those that these items are in, and of these functions (null: all). */
  readonly wrong: (
    written: Iterable<string>,
    functions: [name: string, keys: string[] | null][],
  ) => PreparedEvent | undefined;
  publishAll(events: readonly PreparedEvent[]): Promise<void>;
  /** All invocations that are not answered yet; the worker's sweep looks for deadlines here. */
  readonly live: LiveInvocations;
}
