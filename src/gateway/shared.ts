/** An answer that all readers share: however many look, the workers are asked once in a while, and while nobody looks not at all. */
import { MillraceError } from '../core/errors.ts';

/** `atMs`: since 1970, when it was answered. */
export type Answered<Value> =
  { atMs: number; value: Value } | { atMs: number; error: { code: string; message: string } };

export class Shared<Value> {
  readonly #ask: () => Promise<Value>;
  readonly #maxAgeMs: number;
  #last: Answered<Value> | undefined;
  #beganMs = Number.NEGATIVE_INFINITY;
  #asking: Promise<Answered<Value>> | undefined;

  /** An answer serves for `maxAgeMs` from when it was asked for; one that takes longer is waited for by all. */
  constructor(maxAgeMs: number, ask: () => Promise<Value>) {
    this.#maxAgeMs = maxAgeMs;
    this.#ask = ask;
  }

  get(): Promise<Answered<Value>> {
    if (this.#asking !== undefined) return this.#asking;
    const now = performance.now();
    if (this.#last !== undefined && now - this.#beganMs < this.#maxAgeMs) {
      return Promise.resolve(this.#last);
    }
    this.#beganMs = now;
    this.#asking = this.#ask().then(
      (value) => this.#answered({ atMs: Date.now(), value }),
      (error: unknown) => {
        const { code, message } = error instanceof MillraceError ? error : UNKNOWN;
        return this.#answered({ atMs: Date.now(), error: { code, message } });
      },
    );
    return this.#asking;
  }

  /** Something has changed: the next reader gets a new answer. */
  forget(): void {
    this.#last = undefined;
  }

  #answered(last: Answered<Value>): Answered<Value> {
    this.#asking = undefined;
    this.#last = last;
    return last;
  }
}

const UNKNOWN = new MillraceError('UNAVAILABLE', 'The gateway could not find out.');
