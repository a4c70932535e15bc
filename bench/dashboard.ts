/**
 * The dashboard's page in Chromium, fed with simulated answers of a large installation that are other ones each second, while its lists are
 * scrolled. It measures the page alone: gateway and workers are not there, so it says nothing of what asking them costs.
 */
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import type { CDPSession, Page } from 'playwright-core';
import type { LiveParts } from '../src/gateway/live-parts.ts';
import { launchChromium } from '../test/support/chromium.ts';
import { describeMachine, printMachine } from './machine.ts';
import { print } from './print.ts';
import { median } from './results.ts';

export interface DashboardBenchOptions {
  seconds: number;
  rounds: number;
  jsonFile: string | undefined;
}

const PAGE = fileURLToPath(new URL('../dist/gateway/dashboard/', import.meta.url));
const WORKERS = 200;
const FUNCTIONS = 1_000;
const PARTITIONS = 256;
const TRANSACTIONS = 300;
/** A page that does nothing and is scrolled alike: what this machine can do at that moment. */
const EMPTY = 'empty page';
const VIEWS = [EMPTY, 'overview', 'functions', 'workers', 'ring', 'transactions'];
const TYPES: Record<string, string> = {
  html: 'text/html',
  js: 'text/javascript',
  css: 'text/css',
  svg: 'image/svg+xml',
};
const EMPTY_PAGE =
  '<div class="panel"><div class="table scrolls" style="height: 600px; overflow: auto"><div style="height: 38000px">nothing</div></div></div>';
const SCROLLED_PX = 12;
/** At 60 in a second one takes 16.7 ms; what takes more than one and a half of it was seen as a stutter. */
const LATE_MS = 25;

interface Frames {
  framesPerSecond: number;
  longestMs: number;
  late: number;
  /** CPU time of the page's thread, as a share of a core. */
  busy: number;
}

/** Everything that moves moves with each answer. */
function simulated(tick: number): LiveParts {
  const worker = (at: number): string => `WORKER${String(at).padStart(4, '0')}ABCDEFGH`;
  const wave = (at: number): number => Math.abs(Math.sin(at * 12.9898 + tick));
  return {
    workers: Array.from({ length: WORKERS }, (_, at) => ({
      id: worker(at),
      pid: 1_000 + at,
      host: `host-${at % 20}`,
      startedAt: '2026-01-01T00:00:00.000Z',
      state: 'running',
      functions: FUNCTIONS,
      partitions: [at, at + 1],
      inFlight: Math.round(wave(at) * 100),
      utilization: wave(at),
      capacity: 1,
      slots: 256,
    })),
    functions: Array.from({ length: FUNCTIONS }, (_, at) => ({
      name: `function-${String(at).padStart(4, '0')}`,
      version: 'abcdef012345',
      versions: 1,
      on: [`subject.${at}.*`],
      delivery: at % 3 === 0 ? 'ephemeral' : 'durable',
      balance: 'random',
      cron: null,
      canary: null,
      workers: WORKERS,
      calls: tick * (at + 1) * 7 + Math.round(wave(at) * 50),
      errors: tick * (at % 17),
      refused: 0,
      pending: Math.round(wave(at) * 20),
      dispatched: true,
      dropped: 0,
      deadLetters: at % 50 === 0 ? tick : 0,
      latencyMs: { p50: wave(at) * 5, p99: wave(at) * 80 },
    })),
    partitions: Array.from({ length: PARTITIONS }, (_, id) => ({
      id,
      // A few find another owner every ten seconds, as when a worker comes or leaves.
      owner: worker(
        (id + (id % 64 === Math.floor(tick / 10) % 64 ? tick - (tick % 10) : 0)) % WORKERS,
      ),
      epoch: tick,
      state: 'serving',
      keys: Math.round(wave(id) * 10_000),
      bytes: Math.round(wave(id) * 1e7),
      logSequence: tick * 100 + id,
      moves: 0,
    })),
    transactions: {
      active: Array.from({ length: TRANSACTIONS }, (_, at) => ({
        id: `${worker(at % WORKERS)}-${tick * 7 + at}`,
        state: ['open', 'locking', 'preparing'][at % 3] ?? 'open',
        coordinator: worker(at % WORKERS),
        participants: [at % PARTITIONS, (at * 7) % PARTITIONS],
        ageMs: Math.round(wave(at) * 900),
        waitsFor:
          at % 3 === 1
            ? [
                {
                  key: `accounts/${at}`,
                  partition: at % PARTITIONS,
                  transaction: `${worker((at - 1) % WORKERS)}-${tick * 7 + at - 1}`,
                },
              ]
            : [],
      })),
      counters: {
        committed: tick * 20_000,
        aborted: tick * 30,
        conflicts: tick * 10,
        recovered: 0,
      },
    },
    dead: [],
    deploys: [],
    collections: [],
    traces: [],
  };
}

async function serve(): Promise<{ url: string; close: () => void }> {
  const files = new Map<string, Buffer>();
  for (const name of await readdir(PAGE)) files.set(name, await readFile(`${PAGE}${name}`));
  const beganMs = performance.now();
  const server = createServer(({ url = '/' }, response) => {
    const { pathname, searchParams } = new URL(url, 'http://localhost');
    if (pathname === '/api/me') {
      json(response, {
        name: null,
        can: { inspect: true, operate: true },
        namespace: 'millrace',
        version: '0',
      });
    } else if (pathname === '/api/live') {
      const tick = 1 + Math.floor((performance.now() - beganMs) / 1_000);
      const all: Record<string, unknown> = { ...simulated(tick) };
      const parts = (searchParams.get('parts') ?? '').split(',');
      const atMs = Date.now();
      json(response, Object.fromEntries(parts.map((part) => [part, { atMs, value: all[part] }])));
    } else if (pathname.endsWith('/empty')) {
      response.writeHead(200, { 'Content-Type': 'text/html' });
      response.end(EMPTY_PAGE);
    } else {
      const name = pathname.slice('/dashboard/'.length) || 'index.html';
      const body = files.get(name);
      response.writeHead(body === undefined ? 404 : 200, {
        'Content-Type': TYPES[name.split('.').at(-1) ?? ''] ?? 'text/plain',
      });
      response.end(body);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/dashboard/`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'Content-Type': 'application/json' });
  response.end(JSON.stringify(value));
}

/** Scrolls what can be scrolled up and down, a step a frame, and writes down when frames came. */
async function frames(page: Page, session: CDPSession, seconds: number): Promise<Frames> {
  const before = await busySeconds(session);
  // As text: what the compiler of this bench adds to functions is not there in the page.
  const times = await page.evaluate<number[]>(`new Promise((resolve) => {
    const times = [];
    let step = ${SCROLLED_PX};
    const next = (now) => {
      times.push(now);
      const scroller = document.querySelector('.table.scrolls') ?? document.scrollingElement;
      const top = scroller.scrollTop;
      scroller.scrollTop += step;
      if (scroller.scrollTop === top) step = -step;
      if (now - times[0] < ${seconds * 1_000}) requestAnimationFrame(next);
      else resolve(times);
    };
    requestAnimationFrame(next);
  })`);
  const busyS = (await busySeconds(session)) - before;
  const gaps = times.slice(1).map((time, at) => time - (times[at] ?? 0));
  const elapsedS = ((times.at(-1) ?? 0) - (times[0] ?? 0)) / 1_000;
  return {
    framesPerSecond: gaps.length / elapsedS,
    longestMs: Math.max(...gaps),
    late: gaps.filter((gap) => gap > LATE_MS).length,
    busy: busyS / elapsedS,
  };
}

async function busySeconds(session: CDPSession): Promise<number> {
  const { metrics } = await session.send('Performance.getMetrics');
  return metrics.find(({ name }) => name === 'TaskDuration')?.value ?? Number.NaN;
}

export async function benchDashboard(options: DashboardBenchOptions): Promise<void> {
  const { seconds, rounds, jsonFile } = options;
  const machine = await describeMachine('none');
  printMachine(machine);
  const server = await serve();
  const browser = await launchChromium();
  try {
    const page = await browser.newPage({ viewport: { width: 1360, height: 860 } });
    const session = await page.context().newCDPSession(page);
    // CPU time, not time that has passed: what else runs on the machine is none of the page's.
    await session.send('Performance.enable', { timeDomain: 'threadTicks' });
    const samples: Record<string, Frames[]> = {};
    for (let round = 0; round < rounds; round += 1) {
      for (const view of VIEWS) {
        await page.goto(view === EMPTY ? `${server.url}empty` : `${server.url}#${view}`);
        await page.locator('.panel').first().waitFor();
        (samples[view] ??= []).push(await frames(page, session, seconds));
      }
    }
    const views = VIEWS.map((view) => {
      const of = (field: keyof Frames): number =>
        median((samples[view] ?? []).map((each) => each[field]));
      const best = Math.max(...(samples[view] ?? []).map(({ framesPerSecond }) => framesPerSecond));
      const row = {
        view,
        framesPerSecond: of('framesPerSecond'),
        // Of the round that was disturbed least.
        best,
        longestMs: of('longestMs'),
        late: of('late'),
        busy: of('busy'),
      };
      print(
        `${view}: ${row.framesPerSecond.toFixed(1)} frames a second (at best ${best.toFixed(1)}), the longest ${row.longestMs.toFixed(0)} ms, ${row.late} of more than ${LATE_MS} ms in ${seconds} s; its thread takes ${(row.busy * 100).toFixed(0)} % of a core`,
      );
      return row;
    });
    const sizes: Record<string, number> = {};
    for (const name of await readdir(PAGE))
      sizes[name] = gzipSync(await readFile(`${PAGE}${name}`)).length;
    const gzippedBytes = Object.values(sizes).reduce((sum, size) => sum + size, 0);
    print(`the page: ${(gzippedBytes / 1_000).toFixed(1)} KB, compressed`);
    const simulation = {
      workers: WORKERS,
      functions: FUNCTIONS,
      partitions: PARTITIONS,
      transactions: TRANSACTIONS,
    };
    const results = {
      machine,
      browser: browser.version(),
      simulation,
      seconds,
      rounds,
      views,
      gzippedBytes,
      sizes,
      samples,
    };
    if (jsonFile !== undefined) await writeFile(jsonFile, `${JSON.stringify(results, null, 2)}\n`);
  } finally {
    await browser.close();
    server.close();
  }
}
