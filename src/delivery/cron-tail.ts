/** The ticks of a function's schedule, as if they were events of a stream: a tick's sequence is its time. */
import { headers as newHeaders } from 'nats';
import type { StreamEvent } from '../bus/stream-tail.ts';
import { Ticks, type Schedule } from '../function/cron.ts';

export interface CronTailOptions {
  functionName: string;
  schedule: Schedule;
  subject: string;
  /** Ticks that were read before and are not settled: they come again, however old. */
  open: readonly number[];
  /** The first other tick that is wanted: in milliseconds since 1970, as all sequences. */
  from: number;
  readonly room: () => number;
  readonly onEvent: (event: StreamEvent) => void;
}

/** What ticks are called where others name a stream; no stream can have a dot in its name. */
export const CRON_SOURCE = 'cron.ticks';
/** Clocks are set, and a machine that sleeps stops timers: it looks again so often. */
const MAX_SLEEP_MS = 60_000;

export class CronTail {
  /** What is to come does not wait yet. */
  readonly pending = 0;
  readonly #options: CronTailOptions;
  readonly #ticks: Ticks;
  readonly #open: number[];
  #next: number;
  #timer: NodeJS.Timeout | undefined;
  #telling = false;

  constructor(options: CronTailOptions) {
    this.#options = options;
    this.#ticks = new Ticks(options.schedule);
    this.#open = options.open.toSorted((left, right) => left - right);
    this.#next = options.from;
    // Not at once: whoever makes it is not ready yet.
    this.#timer = setTimeout(() => this.more(), 0);
  }

  /** There is room again. */
  more(): void {
    // Whoever is told of a tick says so at once.
    if (this.#telling) return;
    clearTimeout(this.#timer);
    let tickMs = this.#upcoming();
    while (tickMs !== undefined && tickMs <= Date.now()) {
      // It is called when there is room again.
      if (this.#options.room() === 0) return;
      if (this.#open[0] === tickMs) this.#open.shift();
      else this.#next = tickMs + 1;
      this.#telling = true;
      this.#options.onEvent(this.#eventOf(tickMs));
      this.#telling = false;
      tickMs = this.#upcoming();
    }
    if (tickMs === undefined) return;
    const waitMs = Math.min(MAX_SLEEP_MS, tickMs - Date.now());
    this.#timer = setTimeout(() => this.more(), waitMs);
  }

  #upcoming(): number | undefined {
    return this.#open[0] ?? this.#ticks.first(this.#next, Date.now());
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #eventOf(tickMs: number): StreamEvent {
    const { subject, functionName } = this.#options;
    const time = new Date(tickMs);
    const scheduledAt = time.toISOString();
    const headers = newHeaders();
    headers.set('Nats-Msg-Id', `${functionName}-${scheduledAt}`);
    const data = Buffer.from(JSON.stringify({ scheduledAt }));
    return { sequence: tickMs, subject, headers, data, time, pending: 0 };
  }
}
