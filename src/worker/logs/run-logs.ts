/**
 * What functions write with `ctx.log`, and what the platform says of their runs: it goes where the worker's log goes, the last lines
 * are kept, and it is published while somebody follows.
 *
 * - G1  Nothing is published that nobody has asked for: a follower says again and again that it is there.
 * - G2  A function that writes much costs a bounded rate of messages; what is left out is counted and said.
 */
import type { Logger } from 'pino';
import type { Subscription } from 'nats';
import type { Bus } from '../../bus/connection.ts';
import {
  functionAsked,
  logAskSchema,
  type LogAsk,
  type LogLines,
} from '../../bus/function-logs.ts';
import { readControl, writeControl } from '../../bus/messages.ts';
import type { Settings } from '../../core/settings.ts';
import { subjectsOf, type Subjects } from '../../core/subjects.ts';
import { bounded, isWanted, KeptLines, type WantedLines } from './kept-lines.ts';
import { tapped } from './tapped.ts';

/** Of one function on one worker. */
const MAX_LINES_PER_SECOND = 500;
const MAX_BYTES_PER_SECOND = 256 * 1024;
/** Of all functions together: what is more is not heard. */
const MAX_FOLLOWERS = 64;
/** Lines that are written together travel together. */
const SEND_AFTER_MS = 50;
const WINDOW_MS = 1_000;

interface Follower extends WantedLines {
  untilMs: number;
}

interface FunctionLog {
  log: Logger;
  kept: KeptLines;
  /** Lines that are to be sent, and how many were left out. */
  unsent: string[];
  dropped: number;
  /** In the present second. */
  windowFromMs: number;
  sentLines: number;
  sentBytes: number;
}

interface RunLogsOptions {
  bus: Bus;
  settings: Settings;
  workerId: string;
  log: Logger;
}

export class RunLogs {
  readonly #bus: Bus;
  readonly #workerId: string;
  readonly #subjects: Subjects;
  readonly #log: Logger;
  readonly #functions = new Map<string, FunctionLog>();
  /** By function. */
  readonly #followers = new Map<string, Map<string, Follower>>();
  readonly #asks: Subscription;
  #sending: NodeJS.Timeout | undefined;
  /** Lines that followers have missed on this worker. */
  dropped = 0;

  constructor({ bus, settings, workerId, log }: RunLogsOptions) {
    this.#bus = bus;
    this.#workerId = workerId;
    this.#subjects = subjectsOf(settings.namespace);
    this.#log = log;
    this.#asks = bus.subscribe(this.#subjects.logAsk('*'), ({ subject, data, reply }) => {
      const name = functionAsked(subject);
      const ask = readControl(logAskSchema, data);
      if (name === undefined || ask === undefined) return;
      if (ask.what === 'tail') bus.answer(reply, writeControl(this.#tail(name, ask)));
      else this.#follow(name, ask);
    });
  }

  /** The logger of a function. */
  of(name: string): Logger {
    return this.#functionLog(name).log;
  }

  close(): void {
    this.#asks.unsubscribe();
    clearTimeout(this.#sending);
    this.#send();
  }

  #functionLog(name: string): FunctionLog {
    const known = this.#functions.get(name);
    if (known !== undefined) return known;
    const made: FunctionLog = {
      log: tapped(this.#log.child({ function: name }), (line) => {
        this.#written(name, line);
        return line;
      }),
      kept: new KeptLines(),
      unsent: [],
      dropped: 0,
      windowFromMs: 0,
      sentLines: 0,
      sentBytes: 0,
    };
    this.#functions.set(name, made);
    return made;
  }

  #written(name: string, written: string): void {
    const line = bounded(written);
    const own = this.#functionLog(name);
    own.kept.add(line);
    const followers = this.#followers.get(name);
    if (followers === undefined || !this.#anyWants(name, followers, line)) return;
    const now = performance.now();
    if (now - own.windowFromMs >= WINDOW_MS) {
      own.windowFromMs = now;
      own.sentLines = 0;
      own.sentBytes = 0;
    }
    own.sentLines += 1;
    own.sentBytes += line.length;
    // G2
    const fits = own.sentLines <= MAX_LINES_PER_SECOND && own.sentBytes <= MAX_BYTES_PER_SECOND;
    if (fits) own.unsent.push(line);
    else this.#drop(own, 1);
    this.#sending ??= setTimeout(() => this.#send(), SEND_AFTER_MS);
  }

  #drop(own: FunctionLog, lines: number): void {
    own.dropped += lines;
    this.dropped += lines;
  }

  /** Those that have not said for a while that they are there are forgotten (G1). */
  #anyWants(name: string, followers: Map<string, Follower>, line: string): boolean {
    const now = performance.now();
    let any = false;
    for (const [id, follower] of followers) {
      if (now >= follower.untilMs) followers.delete(id);
      else any ||= isWanted(line, follower);
    }
    if (followers.size === 0) this.#followers.delete(name);
    return any;
  }

  #send(): void {
    this.#sending = undefined;
    for (const [name, own] of this.#functions) {
      if (own.unsent.length + own.dropped === 0) continue;
      const lines = own.unsent.splice(0);
      const message: LogLines = { worker: this.#workerId, lines, dropped: own.dropped };
      own.dropped = 0;
      try {
        this.#bus.publish(this.#subjects.logLines(name, this.#workerId), writeControl(message));
      } catch {
        // The connection is down: it is said when it is back.
        own.dropped = message.dropped;
        this.#drop(own, lines.length);
      }
    }
  }

  #tail(name: string, { lines, ...wanted }: Extract<LogAsk, { what: 'tail' }>): LogLines {
    // As JSON text in JSON a line can become twice as long.
    const roomBytes = this.#bus.maxMessageBytes / 4;
    const kept = this.#functions.get(name)?.kept.last(lines, wanted, roomBytes) ?? [];
    return { worker: this.#workerId, lines: kept, dropped: 0 };
  }

  #follow(name: string, { follower, forMs, ...wanted }: Extract<LogAsk, { what: 'follow' }>): void {
    const followers = this.#followers.get(name) ?? new Map<string, Follower>();
    if (forMs === 0) followers.delete(follower);
    else if (followers.has(follower) || this.#followerCount() < MAX_FOLLOWERS) {
      followers.set(follower, { ...wanted, untilMs: performance.now() + forMs });
    }
    if (followers.size > 0) this.#followers.set(name, followers);
    else this.#followers.delete(name);
  }

  /** Without those whose time is over. */
  #followerCount(): number {
    const now = performance.now();
    let count = 0;
    for (const [name, followers] of this.#followers) {
      for (const [id, { untilMs }] of followers) if (now >= untilMs) followers.delete(id);
      if (followers.size === 0) this.#followers.delete(name);
      count += followers.size;
    }
    return count;
  }
}
