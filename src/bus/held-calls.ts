/** Calls for which no worker is known, or no connection: they wait for one. */
import type { Call } from './call.ts';

export class HeldCalls {
  #calls: Call[] = [];

  get size(): number {
    return this.#calls.length;
  }

  all(): readonly Call[] {
    return this.#calls;
  }

  add(call: Call): void {
    this.#calls.push(call);
  }

  /** Those that are wanted; the others go on waiting. Settled ones are forgotten. */
  take(isWanted: (call: Call) => boolean = () => true): Call[] {
    const open = this.#calls.filter(({ settled }) => !settled);
    this.#calls = open.filter((call) => !isWanted(call));
    return open.filter(isWanted);
  }
}
