/**
 * Ten times what a worker can do, for minutes: `tsx bench/overload.ts [seconds] [factor] [concurrency]`, after `npm run build`. One worker, a process, and a
 * broker; calls come at a steady pace, whether those before are answered or not, from this process, which keeps a core of its own
 * busy. First how many a second are answered when no more are asked for than that. It does not measure many callers.
 */
import { spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { connect, type MillraceError } from '../src/index.ts';
import { startBenchBroker } from './broker.ts';
import { Cleanup } from './cleanup.ts';
import { print } from './print.ts';
import { processRssMib } from './proc.ts';
import { stopProcess } from './stop-process.ts';

const SECONDS = Number(process.argv[2] ?? 300);
const FACTOR = Number(process.argv[3] ?? 10);
/** Of the worker; its default is the setting's. */
const CONCURRENCY = process.argv[4];
const CLOSED_SECONDS = 10;
const CLIENTS = 64;
const KEYS = 1_000;
const TICK_MS = 10;
const CALL_TIMEOUT_MS = 5_000;
const REPORT_EVERY_MS = 10_000;
const START_TRIES = 100;
const NORMAL_TRIES_MS = 30_000;

interface Lag {
  p99: number;
  max: number;
}

const cleanup = new Cleanup();
try {
  const broker = await startBenchBroker();
  cleanup.add(() => broker.stop());
  const worker = spawn(
    process.execPath,
    ['dist/cli/main.js', 'worker', '--server', broker.url, '--log-level', 'fatal'].concat([
      '--functions',
      'bench/overload-functions',
      ...(CONCURRENCY === undefined ? [] : ['--concurrency', CONCURRENCY]),
    ]),
    { cwd: fileURLToPath(new URL('..', import.meta.url)), stdio: ['ignore', 'ignore', 'inherit'] },
  );
  cleanup.add(() => stopProcess(worker));
  const pid = worker.pid ?? 0;
  const mill = await connect({ servers: broker.url });
  cleanup.add(() => mill.close());
  const lag = async (): Promise<Lag> =>
    (await mill.invoke('lag', {}, { timeoutMs: 30_000 })) as Lag;
  const memory = (): number => Math.round(processRssMib(pid) ?? Number.NaN);

  let sent = 0;
  const call = async (): Promise<unknown> => {
    sent += 1;
    return mill.invoke('spend', sent % KEYS, { timeoutMs: CALL_TIMEOUT_MS });
  };
  await started(lag);
  const endMs = performance.now() + CLOSED_SECONDS * 1_000;
  let closed = 0;
  await Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      while (performance.now() < endMs) {
        await call();
        closed += 1;
      }
    }),
  );
  const perSecond = closed / CLOSED_SECONDS;
  const before = await lag();
  const beforeMib = memory();
  print(`${CLIENTS} callers: ${Math.round(perSecond)}/s, ${said(before)}, ${beforeMib} MiB`);

  const offered = perSecond * FACTOR;
  const results = new Map<string, number>();
  const note = (what: string): void => void results.set(what, (results.get(what) ?? 0) + 1);
  const told = (): string => [...results].map(([what, count]) => `${what} ${count}`).join(', ');
  const startMs = performance.now();
  let paced = 0;
  let worst: Lag = { p99: 0, max: 0 };
  let mostMib = 0;
  let nextReportMs = REPORT_EVERY_MS;
  let reporting: Promise<void> = Promise.resolve();
  const open = new Set<Promise<void>>();
  for (;;) {
    const elapsedMs = performance.now() - startMs;
    if (elapsedMs >= SECONDS * 1_000) break;
    for (; paced < (elapsedMs * offered) / 1_000; paced += 1) {
      const one = call().then(
        () => note('answered'),
        (error: MillraceError) => note(error.code ?? String(error)),
      );
      open.add(one);
      void one.finally(() => open.delete(one));
    }
    mostMib = Math.max(mostMib, memory());
    if (elapsedMs >= nextReportMs) {
      nextReportMs += REPORT_EVERY_MS;
      reporting = lag().then(
        (now) => {
          worst = { p99: Math.max(worst.p99, now.p99), max: Math.max(worst.max, now.max) };
          print(`${Math.round(elapsedMs / 1_000)} s: ${told()}; ${said(now)}, ${memory()} MiB`);
        },
        () => print(`${Math.round(elapsedMs / 1_000)} s: ${told()}; no answer about the lag`),
      );
    }
    await delay(TICK_MS);
  }
  print(`${FACTOR} times for ${SECONDS} s: offered ${paced}: ${told()}`);
  print(`at most ${mostMib} MiB, lag of ten seconds at worst ${said(worst)}`);
  const overMs = performance.now();
  await Promise.all([reporting, ...open]);
  while (performance.now() - overMs < NORMAL_TRIES_MS) {
    const beganMs = performance.now();
    const answered = await call().then(
      () => true,
      () => false,
    );
    const tookMs = performance.now() - beganMs;
    if (answered && tookMs < 100) {
      print(`back to normal ${Math.round(performance.now() - overMs)} ms after the last call`);
      break;
    }
  }
} finally {
  await cleanup.run();
}

/** Resolves when there is a worker that answers. */
async function started(ask: () => Promise<unknown>): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      await ask();
      return;
    } catch (error) {
      if (tries >= START_TRIES) throw error;
      await delay(100);
    }
  }
}

function said({ p99, max }: Lag): string {
  return `event loop late p99 ${p99.toFixed(1)} ms, at most ${max.toFixed(0)} ms`;
}
