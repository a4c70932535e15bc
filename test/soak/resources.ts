/** What processes and streams take, and whether it grows. Of /proc: Linux. */
import { readdir, readFile } from 'node:fs/promises';
import type { JetStreamManager } from 'nats';

/** Names of what is watched, with what there is of it. */
export type Sample = Record<string, number>;

const PAGE_BYTES = 4_096;
const MIB = 2 ** 20;
/** What there may be more of at the end, beside a quarter: caches fill, snapshots come in turns. */
const SLACK: [name: RegExp, slack: number][] = [
  [/MiB$/, 64],
  [/files$/, 64],
  [/journals$/, 64],
];
const GROWTH = 1.25;
/** Of every worker that ever was one message stays, the fence against it: told, not judged. */
const EMPTIED = 'emptied journals';
/** Fewer samples say nothing. */
const MIN_SAMPLES = 6;

async function processesOf(parent: number): Promise<{ pid: number; command: string }[]> {
  const found: { pid: number; command: string }[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '');
    const [, command = '', ppid = ''] = /^\d+ \((.*)\) \S (\d+)/.exec(stat) ?? [];
    if (Number(ppid) === parent) found.push({ pid: Number(name), command });
  }
  return found;
}

async function takes(pid: number): Promise<{ memoryMiB: number; files: number } | undefined> {
  try {
    const [, resident = '0'] = (await readFile(`/proc/${pid}/statm`, 'utf8')).split(' ');
    const files = (await readdir(`/proc/${pid}/fd`)).length;
    return { memoryMiB: (Number(resident) * PAGE_BYTES) / MIB, files };
  } catch {
    return undefined;
  }
}

/** The most of any broker, and of any worker, that this process has started; all streams; journals. */
export async function sample(streams: JetStreamManager['streams']): Promise<Sample> {
  const taken: Sample = {};
  const atLeast = (name: string, value: number): void => {
    taken[name] = Math.max(taken[name] ?? 0, Math.round(value));
  };
  for (const { pid, command } of await processesOf(process.pid)) {
    const used = await takes(pid);
    if (used === undefined) continue;
    const what = command.startsWith('nats-server') ? 'broker' : 'worker';
    atLeast(`${what} MiB`, used.memoryMiB);
    atLeast(`${what} files`, used.files);
  }
  for await (const { config, state } of streams.list()) {
    atLeast(`stream ${config.name} MiB`, state.bytes / MIB);
    if (!config.name.endsWith('-log')) continue;
    const { state: detail } = await streams.info(config.name, {
      subjects_filter: '*.log.journal-*',
    });
    const messages = Object.values(detail.subjects ?? {});
    atLeast('journals', messages.filter((count) => count > 1).length);
    atLeast(EMPTIED, messages.filter((count) => count <= 1).length);
  }
  return taken;
}

export interface Verdict {
  first: number;
  last: number;
  flat: boolean;
}

/** Of each the median of the first third of samples and of the last. Undefined where there are too few. */
export function verdicts(samples: readonly Sample[]): Record<string, Verdict> | undefined {
  if (samples.length < MIN_SAMPLES) return undefined;
  const third = Math.floor(samples.length / 3);
  const names = new Set(samples.flatMap((each) => Object.keys(each)));
  return Object.fromEntries(
    [...names].map((name) => {
      const of = (some: readonly Sample[]): number => median(some.map((each) => each[name] ?? 0));
      const [first, last] = [of(samples.slice(0, third)), of(samples.slice(-third))];
      const slack = SLACK.find(([pattern]) => pattern.test(name))?.[1] ?? 0;
      return [name, { first, last, flat: name === EMPTIED || last <= first * GROWTH + slack }];
    }),
  );
}

function median(values: number[]): number {
  return values.sort((left, right) => left - right)[values.length >> 1] ?? 0;
}
