import { createHistogram, performance } from 'node:perf_hooks';
import type { Caller, Load, Measured } from './protocol.ts';
import { operand } from './work.ts';

const NS_PER_MS = 1e6;
/** A peer that only fails must not spin until the deadline. */
const ERRORS_MAX = 1_000;

/**
 * The closed loop, the same for every peer: `concurrency` chains, each sends its next call when it has the answer
 * to the last. A call is in flight at every moment in every chain, so what is reported as latency is
 * concurrency / throughput on average; an open loop would see more of the queueing.
 */
export async function closedLoop(caller: Caller, load: Load): Promise<Measured> {
  const histogram = createHistogram();
  let started = 0;
  let calls = 0;
  let errors = 0;
  let firstError: string | undefined;

  const fail = (reason: string): void => {
    errors += 1;
    firstError ??= reason;
  };

  const cpuBefore = process.cpuUsage();
  const begin = performance.now();
  const deadline = begin + load.seconds * 1_000;

  const chain = async (): Promise<void> => {
    let sentAt = performance.now();
    while (sentAt < deadline) {
      const a = operand(started);
      const b = operand(started * 7);
      started += 1;
      let sum: number;
      try {
        sum = await caller.call(a, b);
      } catch (error) {
        fail(String(error));
        if (errors >= ERRORS_MAX) return;
        sentAt = performance.now();
        continue;
      }
      const now = performance.now();
      if (sum === a + b) {
        histogram.record(Math.max(1, Math.round((now - sentAt) * NS_PER_MS)));
        calls += 1;
      } else {
        fail(`${a} + ${b} came back as ${sum}`);
      }
      sentAt = now;
    }
  };
  await Promise.all(Array.from({ length: load.concurrency }, chain));

  const elapsedMs = performance.now() - begin;
  const cpu = process.cpuUsage(cpuBefore);
  return {
    calls,
    errors,
    elapsedMs,
    p50Ms: histogram.percentile(50) / NS_PER_MS,
    p99Ms: histogram.percentile(99) / NS_PER_MS,
    cpuMs: (cpu.user + cpu.system) / 1_000,
    ...(firstError === undefined ? {} : { firstError }),
  };
}
