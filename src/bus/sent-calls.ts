/** The calls that are under way, by the number (wire id) under which their answers come back. */
import type { Call } from './call.ts';

/** A frame has four bytes for its first call's number. */
const MAX_WIRE_ID = 0xffff_ffff;

export class SentCalls {
  readonly #calls = new Map<number, Call>();
  #next: number;

  /** `next` is the first number that is given, 1 to 2^32 - 1. */
  constructor(next = 1) {
    this.#next = next;
  }

  get size(): number {
    return this.#calls.size;
  }

  get(wireId: number): Call | undefined {
    return this.#calls.get(wireId);
  }

  all(): IterableIterator<Call> {
    return this.#calls.values();
  }

  to(workerId: string): Call[] {
    return [...this.all()].filter((call) => call.workerId === workerId);
  }

  /** Those of the frame with these numbers that are still under way. */
  frame(firstId: number, count: number): Call[] {
    const calls: Call[] = [];
    for (let id = firstId; id < firstId + count; id += 1) {
      const call = this.#calls.get(id);
      if (call !== undefined) calls.push(call);
    }
    return calls;
  }

  /**
   * The first of `count` numbers in a row that are free: after the last number they begin at 1 again, where a call may
   * still be open. Ends, because far fewer calls can be open than there are numbers.
   */
  freeIds(count: number): number {
    let first = this.#next;
    for (let id = first; id < first + count; id += 1) {
      if (id > MAX_WIRE_ID) {
        first = 1;
        id = 0;
      } else if (this.#calls.has(id)) first = id + 1;
    }
    return first;
  }

  /** Numbers the calls from `firstId` on, which `freeIds` gave. */
  add(firstId: number, calls: readonly Call[]): void {
    for (const [index, call] of calls.entries()) {
      call.wireId = firstId + index;
      this.#calls.set(call.wireId, call);
    }
    this.#next = firstId + calls.length;
  }

  delete(call: Call): void {
    // One that is not under way any more must not take along another, which has got its number since.
    if (this.#calls.get(call.wireId) === call) this.#calls.delete(call.wireId);
  }
}
