/**
 * Events may kill the worker that runs them. When workers or dispatchers are lost again and again, events run one at a time
 * for a while, so that it shows which it is (SPEC.md, "Events that kill").
 */
import type { MillraceError } from '../core/errors.ts';
import type { CursorEntry } from './cursors.ts';

/** Runs of an event alone that its worker has not survived; then it is given up. */
export const MAX_LOSSES = 3;
/** Of an event, beside others: from then on events run alone. */
const MAX_LOSSES_BESIDE = 2;
/** Dispatchers that have died in a row without getting further. */
const MAX_DEATHS = 1;
const CAREFUL_RUNS = 512;

export class Careful {
  /** How many more runs are to be alone. */
  #runs = 0;
  /** Runs alone now. */
  #current: number | undefined;
  /** Later events are not suspected. */
  #upTo = Infinity;
  /** By sequence: how often its worker was lost. */
  readonly #losses = new Map<number, number>();
  /** Likewise: how often it was begun alone and not seen to end. */
  readonly #alone = new Map<number, number>();

  /** `last`: of the stream, when the cursor was claimed. */
  constructor({ deaths = 0, alone }: CursorEntry, last: number) {
    if (deaths < MAX_DEATHS) return;
    this.#runs = CAREFUL_RUNS;
    this.#upTo = last;
    if (alone !== undefined) this.#alone.set(alone.sequence, alone.times);
  }

  get on(): boolean {
    return this.#runs > 0;
  }

  times(sequence: number): number {
    return this.#alone.get(sequence) ?? 0;
  }

  begun(sequence: number): void {
    this.#alone.set(sequence, this.times(sequence) + 1);
    this.#current = sequence;
  }

  /** Its worker is gone. `read`: up to where events have been read. */
  lost(sequence: number, read: number): void {
    const losses = (this.#losses.get(sequence) ?? 0) + 1;
    this.#losses.set(sequence, losses);
    if (losses < MAX_LOSSES_BESIDE) return;
    this.#runs = CAREFUL_RUNS;
    this.#upTo = read;
  }

  /** However, but not by the loss of its worker. */
  ended(sequence: number): void {
    this.#losses.delete(sequence);
    this.#alone.delete(sequence);
    // What came later has killed nobody.
    if (sequence > this.#upTo) this.#runs = 0;
    else if (this.#runs > 0) this.#runs -= 1;
  }

  /** It did not run to its end, for reasons of the platform's: that says nothing of it. */
  notRun(sequence: number): void {
    if (this.#current === sequence) this.#alone.set(sequence, this.times(sequence) - 1);
    this.#current = undefined;
  }
}

/** Not: there was no worker, or it was full. */
export function isLoss(error: unknown): boolean {
  const { code, details } = error as MillraceError;
  const { outcome } = (details ?? {}) as { outcome?: unknown };
  return code === 'UNAVAILABLE' && outcome === 'unknown';
}
