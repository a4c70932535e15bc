import type { Command } from 'commander';
import { connect, type Mill } from '../client/client.ts';
import { Histogram } from '../core/histogram.ts';
import {
  connectOptions,
  readData,
  wholeNumber,
  withConnection,
  withJson,
  type ConnectionFlags,
  type OutputFlags,
} from './options.ts';
import { print, printJson } from './output.ts';

interface BenchFlags extends ConnectionFlags, OutputFlags {
  concurrency: number;
  seconds: number;
}

interface BenchResult {
  function: string;
  concurrency: number;
  seconds: number;
  calls: number;
  errors: number;
  callsPerSecond: number;
  p50Ms: number;
  p99Ms: number;
}

export function benchCommand(program: Command): void {
  withJson(withConnection(program.command('bench')))
    .summary('measure how fast a function answers')
    .description(
      'Calls a function again and again and measures it, as seen by one client process. It measures that client and the machine’s other load too.',
    )
    .argument('<function>', 'the function’s name')
    .argument('[json]', 'its input; - reads standard input')
    .option('--concurrency <n>', 'calls in flight', wholeNumber(1, 10_000), 64)
    .option('--seconds <n>', 'how long', wholeNumber(1, 3_600), 5)
    .action(async (name: string, json: string | undefined, flags: BenchFlags) => {
      const data = await readData(json);
      await using mill = await connect(await connectOptions(flags));
      // A function that does not answer at all is told at once, not counted for seconds.
      await mill.invoke(name, data);
      const result = await measure(mill, name, data, flags);
      if (flags.json) printJson(result);
      else print(sentence(result));
    });
}

async function measure(
  mill: Mill,
  name: string,
  data: unknown,
  { concurrency, seconds }: BenchFlags,
): Promise<BenchResult> {
  const latency = new Histogram();
  let errors = 0;
  const startedMs = performance.now();
  const endMs = startedMs + seconds * 1_000;
  const loop = async (): Promise<void> => {
    for (let now = performance.now(); now < endMs;) {
      await mill.invoke(name, data).catch(() => {
        errors += 1;
      });
      const then = now;
      now = performance.now();
      latency.recordMs(now - then);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, loop));
  const elapsedSeconds = (performance.now() - startedMs) / 1_000;
  return {
    function: name,
    concurrency,
    seconds,
    calls: latency.count,
    errors,
    callsPerSecond: Math.round(latency.count / elapsedSeconds),
    p50Ms: round(latency.percentileMs(0.5)),
    p99Ms: round(latency.percentileMs(0.99)),
  };
}

function sentence(result: BenchResult): string {
  const { calls, errors, callsPerSecond, p50Ms, p99Ms } = result;
  return `${result.function}: ${callsPerSecond} calls a second with ${result.concurrency} in flight; p50 ${p50Ms} ms, p99 ${p99Ms} ms; ${calls} calls, ${errors} failed`;
}

function round(milliseconds: number): number {
  return Math.round(milliseconds * 1_000) / 1_000;
}
