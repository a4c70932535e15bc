/**
 * `npm run test:soak -- --seeds 10000 [--from 1] [--processes N]` runs seeds on all cores, up to the first that fails;
 * `--plan JSON` tells the story of one run. Ends with status 1 when something is wrong.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { planOf, type Plan } from './plan.ts';
import { run } from './run.ts';
import { report, story } from './shrink.ts';

interface Answer {
  seed: number;
  problems: string[];
  committed: number;
}

/** A run takes a fraction of a second: one that takes this long never ends. */
const MAX_RUN_MS = 60_000;
/** Between lines of progress where there is no terminal. */
const PROGRESS_MS = 60_000;

const { values: options } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    from: { type: 'string', default: '1' },
    processes: { type: 'string', default: String(availableParallelism()) },
    plan: { type: 'string' },
    'no-shrink': { type: 'boolean', default: false },
    worker: { type: 'boolean', default: false },
  },
});

if (options.worker) work();
else if (options.plan !== undefined) await tell(JSON.parse(options.plan) as Plan);
else await soak(Number(options.from), Number(options.seeds), Number(options.processes));

/** Runs the seeds that it is sent, one after the other. */
function work(): void {
  process.on('message', (seed: number) => {
    const answer = (problems: string[], committed: number): void => {
      process.send?.({ seed, problems, committed } satisfies Answer);
    };
    run(planOf(seed)).then(
      ({ problems, committed }) => answer(problems, committed),
      (error: Error) => answer([`the run broke: ${error.stack}`], 0),
    );
  });
}

async function tell(plan: Plan): Promise<void> {
  process.stdout.write(`${await story(plan)}\n`);
  process.exitCode = (await run(plan)).problems.length > 0 ? 1 : 0;
}

async function soak(from: number, seeds: number, processes: number): Promise<void> {
  const started = performance.now();
  const end = from + seeds;
  let next = from;
  let committed = 0;
  let done = 0;
  const failed: Answer[] = [];
  const progress = (): string => {
    const seconds = ((performance.now() - started) / 1_000).toFixed(0);
    return `${done} of ${seeds} seeds, ${committed} committed, ${failed.length} failed, ${seconds} s`;
  };
  const take = (): number | undefined => {
    if (failed.length > 0 || next >= end) return undefined;
    next += 1;
    return next - 1;
  };
  const onAnswer = (answer: Answer): void => {
    done += 1;
    committed += answer.committed;
    if (answer.problems.length > 0) failed.push(answer);
    if (process.stdout.isTTY) process.stdout.write(`\r${progress()}`);
  };
  const printing = setInterval(() => {
    if (!process.stdout.isTTY) process.stdout.write(`${progress()}\n`);
  }, PROGRESS_MS);
  await Promise.all(Array.from({ length: processes }, () => employ(take, onAnswer)));
  clearInterval(printing);
  process.stdout.write(`${process.stdout.isTTY ? '\r' : ''}${progress()}\n`);
  const [first] = failed.sort((left, right) => left.seed - right.seed);
  if (first === undefined) return;
  process.exitCode = 1;
  process.stdout.write(`seed ${first.seed}: ${first.problems.slice(0, 3).join(' | ')}\n`);
  if (!options['no-shrink']) process.stdout.write(`${await report(first.seed)}\n`);
}

/** One process, from its first seed to its last. One that ends by itself, or hangs, has failed with its seed. */
function employ(take: () => number | undefined, onAnswer: (answer: Answer) => void): Promise<void> {
  return new Promise((resolve) => {
    const worker: ChildProcess = fork(fileURLToPath(import.meta.url), ['--worker']);
    let seed: number | undefined;
    let watchdog: NodeJS.Timeout | undefined;
    const next = (): void => {
      clearTimeout(watchdog);
      seed = take();
      if (seed === undefined) {
        worker.disconnect();
        return;
      }
      watchdog = setTimeout(() => worker.kill('SIGKILL'), MAX_RUN_MS);
      worker.send(seed);
    };
    worker.on('message', (answer: Answer) => {
      onAnswer(answer);
      next();
    });
    worker.on('exit', (code, signal) => {
      clearTimeout(watchdog);
      if (seed !== undefined) {
        const problems = [`the run ended its process: ${signal ?? `status ${code}`}`];
        onAnswer({ seed, problems, committed: 0 });
      }
      resolve();
    });
    next();
  });
}
