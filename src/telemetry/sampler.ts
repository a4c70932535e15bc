/** Which traces are kept that begin here: a share of them, and not more in a second than can be afforded. */
export interface SamplerOptions {
  /** 0 to 1. */
  ratio: number;
  maxPerSecond: number;
  /** In milliseconds, never going back. */
  now: () => number;
  /** In [0, 1). */
  random: () => number;
}

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
    if (this.#left < 1) this.#fill();
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }

  #fill(): void {
    const { maxPerSecond, now } = this.#options;
    const nowMs = now();
    const gained = ((nowMs - this.#filledAtMs) * maxPerSecond) / 1_000;
    this.#left = Math.min(maxPerSecond, this.#left + gained);
    this.#filledAtMs = nowMs;
  }
}
