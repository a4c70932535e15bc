import type { PeerInfo } from './peers/index.ts';
import { print } from './print.ts';
import type { Row } from './results.ts';

const HEAD = [
  'calls/s',
  'slowest..fastest',
  'p50 ms',
  'p99 ms',
  '×request',
  '×Moleculer',
  '×mux',
  'CPU µs',
  'broker µs',
  'errors',
] as const;

const count = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
const precise = (value: number): string => value.toFixed(value < 10 ? 2 : 1);
const optional = (value: number | undefined, format: (value: number) => string): string =>
  value === undefined ? '-' : format(value);

function cells(row: Row): string[] {
  const ratio = (value: number | undefined): string => optional(value, (value) => value.toFixed(2));
  return [
    count.format(row.callsPerSecond),
    `${count.format(row.slowestRound)}..${count.format(row.fastestRound)}`,
    precise(row.p50Ms),
    precise(row.p99Ms),
    ratio(row.ratios.request),
    ratio(row.ratios.moleculer),
    ratio(row.ratios.mux),
    precise(row.cpuUsPerCall),
    optional(row.brokerCpuUsPerCall, precise),
    count.format(row.errors),
  ];
}

/** One table per concurrency; a peer without a row says why in its place. */
export function printTable(
  concurrency: number,
  peers: readonly PeerInfo[],
  rows: readonly Row[],
  failures: ReadonlyMap<string, string>,
): void {
  const here = rows.filter((row) => row.concurrency === concurrency);
  const lines = here.map((row) => ({ peer: row.peer, cells: cells(row) }));
  const widths = HEAD.map((title, column) =>
    Math.max(title.length, ...lines.map(({ cells }) => cells[column]?.length ?? 0)),
  );
  const labelWidth = Math.max(12, ...peers.map(({ label }) => label.length));
  const line = (label: string, values: readonly string[]): string =>
    [label.padEnd(labelWidth), ...values.map((value, at) => value.padStart(widths[at] ?? 0))]
      .join('  ')
      .trimEnd();

  print();
  print(line(`${concurrency} in flight`, HEAD));
  for (const peer of peers) {
    const row = lines.find((candidate) => candidate.peer === peer.name);
    print(line(peer.label, row?.cells ?? [failures.get(peer.name) ?? 'no result']));
  }
}

export const NOT_MEASURED = `What this does not measure. Everything runs on one machine over loopback, so that caller, worker and broker share
the cores: with fewer cores than processes the numbers say what a call costs in CPU, not what a cluster reaches. One
caller, one worker, one function that does nothing but add: no placement among workers, no slow handler, no cold
start, no reconnect, no larger payload, no TLS. The loop is closed: a stall delays the next call instead of adding to
a queue, so that p99 is kinder than under arrivals from outside. The peers do not offer the same: nc.request has a
timeout and no error answers; Moleculer has a registry and error answers, here without timeout, metrics and
validation; the bare mux has none of it and waits for ever. Nothing here is durable. Compare ratios of one run only.`;
