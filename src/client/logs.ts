/** What functions write with `ctx.log`, and what workers say of their runs, over NATS. */
import { nuid } from 'nats';
import type { Bus } from '../bus/connection.ts';
import {
  levelNumber,
  logLinesSchema,
  MAX_LEASE_MS,
  MAX_TAIL_LINES,
  type LogAsk,
  type LogLevel,
  type LogLines,
} from '../bus/function-logs.ts';
import { readControl, writeControl } from '../bus/messages.ts';
import { MillraceError } from '../core/errors.ts';
import { functionNameReason, quote } from '../core/names.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';
import type { Inspection } from './inspect.ts';

export interface LogOptions {
  /** The least that is wanted; default: all that the workers log (`--log-level`). */
  level?: LogLevel;
  /** Of this invocation only. */
  invocation?: string;
}

export interface TailOptions extends LogOptions {
  /** At most so many lines, 1 to 10,000; default 100. */
  lines?: number;
}

/** A line as it was written: `level` (pino's number), `time` (ms since 1970), `msg`, `function`, `invocation`, and the handler's own facts. */
export type LogLine = Readonly<Record<string, unknown>>;

export interface LogTail {
  /** The oldest first. */
  lines: LogLine[];
  /** Workers that have the function and did not answer in time. */
  silent: string[];
}

/** `dropped`: lines that a worker has left out, because more were written than are sent. */
export type LogNews = { worker: string; line: LogLine } | { worker: string; dropped: number };

const DEFAULT_LINES = 100;
/** A follower that has died is forgotten after three of these. */
const RENEW_MS = 2_000;
const LEASE_MS = Math.min(MAX_LEASE_MS, 3 * RENEW_MS);
/** Lines that wait for whoever reads `follow`. */
const MAX_UNREAD = 10_000;

export class FunctionLogs {
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #subjects: Subjects;
  readonly #inspect: Inspection;

  constructor(bus: Bus, settings: Settings, inspect: Inspection) {
    this.#bus = bus;
    this.#settings = settings;
    this.#subjects = subjectsOf(settings.namespace);
    this.#inspect = inspect;
  }

  /**
   * The last lines that the workers which run the function have kept: up to 256 KiB on each. Rejects with UNKNOWN_FUNCTION where no
   * worker has it, UNAVAILABLE where there is none, INVALID_INPUT.
   */
  async tail(functionName: string, options: TailOptions = {}): Promise<LogTail> {
    assertName(functionName);
    const { lines = DEFAULT_LINES, ...wanted } = options;
    if (!(Number.isInteger(lines) && lines >= 1 && lines <= MAX_TAIL_LINES)) {
      throw new MillraceError('INVALID_INPUT', `lines must be 1 to ${MAX_TAIL_LINES}.`);
    }
    const workers = (await this.#inspect.workers()).filter(({ functions }) =>
      functions.includes(functionName),
    );
    if (workers.length === 0) {
      throw new MillraceError('UNKNOWN_FUNCTION', `No worker has a function ${functionName}.`);
    }
    const ask: LogAsk = { what: 'tail', lines, ...wanted };
    const answers = await this.#askAll(functionName, ask, new Set(workers.map(({ id }) => id)));
    const found = answers
      .flatMap((answer) => answer.lines)
      .map((text) => readLine(text))
      .filter((line) => line !== undefined);
    const answered = new Set(answers.map(({ worker }) => worker));
    return {
      lines: found.sort((one, other) => timeOf(one) - timeOf(other)).slice(-lines),
      silent: workers.map(({ id }) => id).filter((id) => !answered.has(id)),
    };
  }

  /**
   * Lines as they are written, from now on, by any worker, also one that is started later. Ends with `signal`, or when it is not
   * read any more; lines of one worker are in order. Throws INVALID_INPUT.
   */
  async *follow(
    functionName: string,
    { signal, ...wanted }: LogOptions & { signal?: AbortSignal } = {},
  ): AsyncGenerator<LogNews, void, undefined> {
    assertName(functionName);
    const unread: LogNews[] = [];
    let missed = 0;
    let wake = (): void => {};
    const add = (news: LogNews): void => {
      if (unread.length < MAX_UNREAD) unread.push(news);
      else missed += 'dropped' in news ? news.dropped : 1;
      wake();
    };
    const follower = nuid.next();
    const lease = (forMs: number): void => {
      // While the connection is down nobody hears it; the next one follows.
      if (!this.#bus.up) return;
      const ask: LogAsk = { what: 'follow', follower, forMs, ...wanted };
      this.#bus.publish(this.#subjects.logAsk(functionName), writeControl(ask));
    };
    const subscriptions = [
      this.#bus.subscribe(this.#subjects.logLines(functionName, '*'), ({ data }) => {
        const { worker, lines, dropped } = readControl(logLinesSchema, data) ?? NOTHING;
        for (const text of lines) {
          const line = readLine(text);
          // Another follower may want more.
          if (line !== undefined && fits(line, wanted)) add({ worker, line });
        }
        if (dropped > 0) add({ worker, dropped });
      }),
      // A worker that begins has not heard of this follower.
      this.#bus.subscribe(this.#subjects.announce, () => lease(LEASE_MS)),
    ];
    const renewing = setInterval(() => lease(LEASE_MS), RENEW_MS);
    const onAbort = (): void => wake();
    const isOver = (): boolean => signal?.aborted === true;
    signal?.addEventListener('abort', onAbort);
    lease(LEASE_MS);
    try {
      while (!isOver()) {
        const news = unread.shift();
        if (news !== undefined) yield news;
        else if (missed > 0) {
          const dropped = missed;
          missed = 0;
          yield { worker: '', dropped };
        } else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      clearInterval(renewing);
      signal?.removeEventListener('abort', onAbort);
      for (const subscription of subscriptions) subscription.unsubscribe();
      lease(0);
    }
  }

  #askAll(name: string, ask: LogAsk, workers: ReadonlySet<string>): Promise<LogLines[]> {
    const answers = new Map<string, LogLines>();
    const reply = `${this.#bus.inbox}.g.${nuid.next()}`;
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        subscription.unsubscribe();
        resolve([...answers.values()]);
      };
      const timer = setTimeout(end, this.#settings.inspectTimeoutMs);
      const subscription = this.#bus.subscribe(reply, ({ data }) => {
        const answer = readControl(logLinesSchema, data);
        if (answer === undefined || !workers.has(answer.worker)) return;
        answers.set(answer.worker, answer);
        if (answers.size === workers.size) end();
      });
      this.#bus.publish(this.#subjects.logAsk(name), writeControl(ask), { reply });
    });
  }
}

const NOTHING: LogLines = { worker: '', lines: [], dropped: 0 };

function assertName(name: string): void {
  const reason = functionNameReason(name);
  if (reason !== undefined) throw new MillraceError('INVALID_INPUT', `${quote(name)} ${reason}.`);
}

function readLine(text: string): LogLine | undefined {
  try {
    const line: unknown = JSON.parse(text);
    return typeof line === 'object' && line !== null ? (line as LogLine) : undefined;
  } catch {
    return undefined;
  }
}

function fits(line: LogLine, { level, invocation }: LogOptions): boolean {
  if (level !== undefined && Number(line['level'] ?? 0) < levelNumber(level)) return false;
  return invocation === undefined || line['invocation'] === invocation;
}

function timeOf(line: LogLine): number {
  return Number(line['time'] ?? 0);
}
