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
import { RUN_HEADER } from '../bus/run-traces.ts';
import type { Tracing } from '../telemetry/tracing.ts';
import type { RunLogs } from './logs/run-logs.ts';
import type { RunnerHost } from './runner-host.ts';
import type { Secrets } from './secrets.ts';
import { Streams } from './streams.ts';
import { traced } from './trace.ts';
import { tracedCall, tracedEmit } from './traced.ts';
import { RunTraces } from './traces/run-traces.ts';

export interface HostOptions {
  bus: Bus;
  settings: Settings;
  logs: RunLogs;
  secrets: Secrets;
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
  const {
    bus,
    settings,
    logs,
    secrets,
    tracing,
    workerId,
    caller,
    cached,
    publisher,
    live,
    state,
  } = options;
  return {
    streams: new Streams(options.bus, settings, workerId),
    logOf: (name) => logs.of(name),
    workerId,
    secrets,
    live,
    tracing,
    runTraces: new RunTraces({ bus, settings, workerId }),
    partitionOf: (key) => state()?.service.partitionOf(key),
    get transactions() {
      return state()?.service.transactions;
    },
    prepareEvent: (functionName, invocation, subject, data, emit = {}) => {
      const { trace, runs, followed } = invocation;
      const event =
        tracing === undefined || trace === undefined
          ? publisher.prepare(subject, data, traced(invocation, emit))
          : tracedEmit(tracing, publisher, trace, runs, subject, data, emit);
      secrets.assertNotSent('an event', functionName, event.payload, [subject, emit]);
      if (followed !== undefined) {
        event.headers.set(RUN_HEADER, followed.header);
        // Of one that is to come later the subject is another one by now.
        followed.emits({ subject, id: event.id });
      }
      return event;
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
    invoke: (functionName, invocation, transaction, target, data, given = {}) => {
      secrets.assertNotSent('a call', functionName, data, given.headers);
      const leftMs = Math.max(1, invocation.deadlineMs - performance.now());
      const timeoutMs = Math.min(given.timeoutMs ?? settings.callTimeoutMs, leftMs);
      const key = given.key ?? keyOf(target, data, given);
      const name = nameOf(target);
      const { trace, followed } = invocation;
      const invoke = (given: InvokeOptions & InternalOptions & { timeoutMs: number }) => {
        const call =
          followed === undefined
            ? given
            : { ...given, trace: { ...given.trace, [RUN_HEADER]: followed.header } };
        if (given.cache === true) return cached.invoke(name, target, data, call);
        // After the first part there is no transaction that it could take part in.
        const { gaveParts, sender } = invocation;
        const alone = state() === undefined || (gaveParts && sender !== undefined);
        if (alone) return invokeThrough(caller, settings, name, data, call);
        return invokeJoined(caller, settings, transaction(), name, data, call);
      };
      const call = { ...given, timeoutMs, ...(key && { key }) };
      const answer =
        tracing === undefined || trace === undefined
          ? invoke(traced(invocation, call))
          : tracedCall(tracing, trace, name, call, invoke);
      followed?.calls(name, answer);
      return answer;
    },
  };
}
