/** Calls for which no worker is known, or no connection: they wait for one. */
import type { MillraceError } from '../core/errors.ts';
import { nobodyAvailable, notConnected, noWorkerHeard, unknownFunction } from './call-errors.ts';
import type { Members } from './members.ts';
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

/** What a call is told that has found no worker in time. */
export function whyHeld(functionName: string, up: boolean, members: Members): MillraceError {
  if (!up) return notConnected(functionName);
  if (members.wasOffered(functionName)) return nobodyAvailable(functionName);
  return members.directory.size > 0 ? unknownFunction(functionName) : noWorkerHeard(functionName);
}
