/** What runners need of their worker, and how handlers emit and call. */
import type { Caller } from '../bus/caller.ts';
import type { Bus } from '../bus/connection.ts';
import { invokeThrough, type InternalOptions, type InvokeOptions } from '../bus/invoke.ts';
import type { Publisher } from '../bus/publisher.ts';
import type { CachedCalls } from '../cache/calls.ts';
import { collectionsOf, invalidationEvent } from '../cache/invalidations.ts';
import type { Settings } from '../core/settings.ts';
import type { Deliveries } from '../delivery/deliveries.ts';
import { keyOf } from '../function/key-of.ts';
import { nameOf } from '../function/reference.ts';
import type { StateService } from '../state/service.ts';
import { invokeJoined } from './invoke-joined.ts';
import type { Tracing } from '../telemetry/tracing.ts';
import type { RunLogs } from './logs/run-logs.ts';
import type { RunnerHost } from './runner-host.ts';
import { Streams } from './streams.ts';
import { traced } from './trace.ts';
import { tracedCall, tracedEmit } from './traced.ts';

export interface HostOptions {
  bus: Bus;
  settings: Settings;
  logs: RunLogs;
  tracing: Tracing | undefined;
  workerId: string;
  caller: Caller;
  cached: CachedCalls;
  publisher: Publisher;
  live: RunnerHost['live'];
  /** Undefined where there is none. */
  readonly state: () => { service: StateService; deliveries: Deliveries } | undefined;
}

export function makeHost(options: HostOptions): RunnerHost {
  const { settings, logs, tracing, workerId, caller, cached, publisher, live, state } = options;
  return {
    streams: new Streams(options.bus, settings, workerId),
    logOf: (name) => logs.of(name),
    workerId,
    live,
    tracing,
    partitionOf: (key) => state()?.service.partitionOf(key),
    get transactions() {
      return state()?.service.transactions;
    },
    prepareEvent: (invocation, subject, data, emit = {}) => {
      const { trace, runs } = invocation;
      if (tracing === undefined || trace === undefined) {
        return publisher.prepare(subject, data, traced(invocation, emit));
      }
      return tracedEmit(tracing, publisher, trace, runs, subject, data, emit);
    },
    past: async (name, deliveries) =>
      (await state()?.deliveries.past(name, deliveries)) ?? new Set(),
    wrong: (written, functions) => {
      const watched = caller.members.directory.watchedCollections();
      const collections = watched.size === 0 ? [] : collectionsOf(written, watched);
      if (functions.length === 0 && collections.length === 0) return undefined;
      return invalidationEvent(settings.namespace, { functions, collections });
    },
    publishAll: async (events) => {
      await Promise.all(events.map((event) => publisher.send(event)));
    },
    invoke: (invocation, transaction, target, data, given = {}) => {
      const leftMs = Math.max(1, invocation.deadlineMs - performance.now());
      const timeoutMs = Math.min(given.timeoutMs ?? settings.callTimeoutMs, leftMs);
      const key = given.key ?? keyOf(target, data, given);
      const name = nameOf(target);
      const invoke = (call: InvokeOptions & InternalOptions & { timeoutMs: number }) => {
        if (given.cache === true) return cached.invoke(name, target, data, call);
        // After the first part there is no transaction that it could take part in.
        const { gaveParts, sender } = invocation;
        const alone = state() === undefined || (gaveParts && sender !== undefined);
        if (alone) return invokeThrough(caller, settings, name, data, call);
        return invokeJoined(caller, settings, transaction(), name, data, call);
      };
      const call = { ...given, timeoutMs, ...(key && { key }) };
      const { trace } = invocation;
      return tracing === undefined || trace === undefined
        ? invoke(traced(invocation, call))
        : tracedCall(tracing, trace, name, call, invoke);
    },
  };
}
