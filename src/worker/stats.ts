/** What a worker counts of one function, across its versions: since the worker's start, in this process only. */
import { Histogram } from '../core/histogram.ts';

/** Subjects counted one by one; the events of any further ones are counted together under `…`. */
const MAX_COUNTED_SUBJECTS = 256;
/** Characters of the last error that service discovery shows. */
const MAX_LAST_ERROR_LENGTH = 500;
export const OTHER_SUBJECTS = '…';

export class FunctionStats {
  calls = 0;
  errors = 0;
  /** Refused because the function was full here. Not in `calls`. */
  refused = 0;
  /** Handlers that were still running when their time was over, and have not ended since. */
  abandoned = 0;
  lastError = '';
  /** Milliseconds spent from start to answer, of all calls that were started, and how many these are. */
  processingMs = 0;
  timed = 0;
  readonly latency = new Histogram();
  /** Durable ones that were settled here, and attempts that have failed. */
  readonly events = { handled: 0, failed: 0 };
  readonly #bySubject = new Map<string, number>();

  /** `durationMs` from start to answer; undefined for a call that was never started: it has no service time. */
  ended(subject: string, durationMs: number | undefined): void {
    this.calls += 1;
    if (durationMs !== undefined) {
      this.timed += 1;
      this.processingMs += durationMs;
      this.latency.recordMs(durationMs);
    }
    const counted = this.#bySubject.get(subject);
    if (counted !== undefined) this.#bySubject.set(subject, counted + 1);
    else this.#countNew(subject);
  }

  failed(message: string): void {
    this.errors += 1;
    this.lastError = message.slice(0, MAX_LAST_ERROR_LENGTH);
  }

  subjects(): [subject: string, calls: number][] {
    return [...this.#bySubject];
  }

  #countNew(subject: string): void {
    const key = this.#bySubject.size < MAX_COUNTED_SUBJECTS ? subject : OTHER_SUBJECTS;
    this.#bySubject.set(key, (this.#bySubject.get(key) ?? 0) + 1);
  }
}
