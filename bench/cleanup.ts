import { note } from './print.ts';

const INTERRUPTED_STATUS = 130;
const REPEATED_MS = 1_000;

type Stop = () => Promise<void>;

/**
 * What has been started and must be ended, last first: at the end of the run, or on the first SIGINT or SIGTERM
 * (another one, a second later or more, leaves at once: npm and tsx pass the same Ctrl-C on again).
 */
export class Cleanup {
  readonly #stops: Stop[] = [];
  #interruptedAt: number | undefined;
  readonly #onSignal = (signal: NodeJS.Signals): void => {
    const now = performance.now();
    if (this.#interruptedAt !== undefined) {
      if (now - this.#interruptedAt > REPEATED_MS) process.exit(INTERRUPTED_STATUS);
      return;
    }
    this.#interruptedAt = now;
    note(`${signal}: cleaning up`);
    void this.run().finally(() => process.exit(INTERRUPTED_STATUS));
  };

  constructor() {
    process.on('SIGINT', this.#onSignal);
    process.on('SIGTERM', this.#onSignal);
  }

  add(stop: Stop): void {
    this.#stops.push(stop);
  }

  /** After a signal the processes fail one by one: that is no result. */
  throwIfInterrupted(): void {
    if (this.#interruptedAt !== undefined) throw new Error('interrupted');
  }

  async run(): Promise<void> {
    for (let stop = this.#stops.pop(); stop !== undefined; stop = this.#stops.pop()) {
      await stop().catch((error: unknown) => note(`cleaning up: ${String(error)}`));
    }
    if (this.#interruptedAt !== undefined) return;
    process.off('SIGINT', this.#onSignal);
    process.off('SIGTERM', this.#onSignal);
  }
}
