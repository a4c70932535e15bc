/** Which traces are kept that begin here: a share of them, and not more in a second than can be afforded. */
export interface SamplerOptions {
  /** 0 to 1. */
  ratio: number;
  maxPerSecond: number;
  /** In milliseconds, never going back. */
  now: () => number;
  /** In [0, 1). */
  random: () => number;
  /** Calls back later. The clock is asked there: asking it for each call would cost as much as all else that is done for one. */
  after: (delayMs: number, then: () => void) => void;
}

const MIN_FILL_MS = 10;

export class RootSampler {
  readonly #options: SamplerOptions;
  #left: number;
  #filledAtMs: number;

  constructor(options: SamplerOptions) {
    this.#options = options;
    this.#left = options.maxPerSecond;
    this.#filledAtMs = options.now();
  }

  /** Called once for each trace that would begin: what is decided here holds for all that it causes. */
  keeps(): boolean {
    const { ratio, random } = this.#options;
    if (ratio < 1 && random() >= ratio) return false;
    if (this.#left < 1) return false;
    this.#fill();
    this.#left -= 1;
    if (this.#left < 1) this.#fillLater();
    return true;
  }

  #fillLater(): void {
    const { maxPerSecond, after } = this.#options;
    after(Math.max(MIN_FILL_MS, 1_000 / maxPerSecond), () => {
      this.#fill();
      if (this.#left < 1) this.#fillLater();
    });
  }

  #fill(): void {
    const { maxPerSecond, now } = this.#options;
    const nowMs = now();
    const gained = ((nowMs - this.#filledAtMs) * maxPerSecond) / 1_000;
    this.#left = Math.min(maxPerSecond, this.#left + gained);
    this.#filledAtMs = nowMs;
  }
}
