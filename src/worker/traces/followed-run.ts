/** A run that somebody follows: notes what it does, and when. */
import { MAX_STEPS, type Run } from '../../bus/run-traces.ts';
import { MillraceError } from '../../core/errors.ts';
import type { Invocation } from '../invocation.ts';

type Begun = Pick<
  Run,
  'trace' | 'run' | 'parent' | 'function' | 'version' | 'worker' | 'startedAtMs'
>;

export class FollowedRun {
  readonly #begun: Begun;
  readonly #invocation: Invocation;
  readonly #ended: (run: Run) => void;
  readonly #emitted: Run['emitted'] = [];
  readonly #calls: Run['calls'] = [];
  #more = 0;
  #handlerMs = 0;

  constructor(begun: Begun, invocation: Invocation, ended: (run: Run) => void) {
    this.#begun = begun;
    this.#invocation = invocation;
    this.#ended = ended;
  }

  /** What its calls and events carry: `RUN_HEADER`. */
  get header(): string {
    return `${this.#begun.trace}-${this.#begun.run}`;
  }

  emits({ subject, id }: { subject: string; id: string }): void {
    if (this.#isFull()) return;
    this.#emitted.push({ subject, id, atMs: this.#nowMs() });
  }

  calls(name: string, answer: Promise<unknown>): void {
    if (this.#isFull()) return;
    const atMs = this.#nowMs();
    const call: Run['calls'][number] = { function: name, atMs };
    this.#calls.push(call);
    const over = (): void => {
      call.durationMs = this.#nowMs() - atMs;
    };
    answer.then(over, (error: unknown) => {
      over();
      call.error = error instanceof MillraceError ? error.code : 'FUNCTION_FAILED';
    });
  }

  /** The handler is done; for the last time counts. */
  returned(): void {
    this.#handlerMs = this.#nowMs();
  }

  end(error: MillraceError | undefined): void {
    const { incoming, runs } = this.#invocation;
    const { delivery, batch } = incoming;
    const durationMs = this.#nowMs();
    this.#ended({
      ...this.#begun,
      invocation: incoming.eventId,
      subject: incoming.subject,
      attempt: incoming.attempt,
      runs,
      ...(batch === undefined ? {} : { events: batch.length }),
      ...(delivery === undefined ? {} : { storedAtMs: delivery.timeMs }),
      handlerMs: this.#handlerMs === 0 ? durationMs : Math.min(this.#handlerMs, durationMs),
      durationMs,
      ...(error === undefined ? {} : { error: error.code }),
      emitted: this.#emitted,
      calls: this.#calls,
      more: this.#more,
    });
  }

  #isFull(): boolean {
    if (this.#emitted.length + this.#calls.length < MAX_STEPS) return false;
    this.#more += 1;
    return true;
  }

  #nowMs(): number {
    return Math.max(0, performance.now() - this.#invocation.startedAtMs);
  }
}
