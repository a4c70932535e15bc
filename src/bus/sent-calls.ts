/**
 * The calls that are under way, by the number (wire id) under which their answers come back.
 *
 * Numbers go up one by one, so a call lies at its number's last bits in an array. One that is in the way there, because it has been under way
 * for so long, is rare. Not all in a Map: see worker/live.ts.
 */
import type { Call } from './call.ts';

/** A frame has four bytes for its first call's number. */
const MAX_WIRE_ID = 0xffff_ffff;
/** A power of two. */
const MIN_PLACES = 1_024;

export class SentCalls {
  /** Their number is a power of two, and at least twice that of the calls. */
  #places = places(MIN_PLACES);
  /** Those whose place was taken. */
  readonly #others = new Map<number, Call>();
  #size = 0;
  #next: number;

  /** `next` is the first number that is given, 1 to 2^32 - 1. */
  constructor(next = 1) {
    this.#next = next;
  }

  get size(): number {
    return this.#size;
  }

  get(wireId: number): Call | undefined {
    const call = this.#places[this.#placeOf(wireId)];
    if (call?.wireId === wireId) return call;
    return this.#others.size === 0 ? undefined : this.#others.get(wireId);
  }

  /** In any order. */
  all(): Call[] {
    const calls = this.#places.filter((call) => call !== undefined);
    return this.#others.size === 0 ? calls : [...calls, ...this.#others.values()];
  }

  /** As they were sent. */
  to(workerId: string): Call[] {
    const age = ({ wireId }: Call): number => (this.#next - wireId + MAX_WIRE_ID) % MAX_WIRE_ID;
    const calls = this.all().filter((call) => call.workerId === workerId);
    return calls.toSorted((one, other) => age(other) - age(one));
  }

  /** Those of the frame with these numbers that are still under way. */
  frame(firstId: number, count: number): Call[] {
    const calls: Call[] = [];
    for (let id = firstId; id < firstId + count; id += 1) {
      const call = this.get(id);
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
      } else if (this.get(id) !== undefined) first = id + 1;
    }
    return first;
  }

  /** Numbers the calls from `firstId` on, which `freeIds` gave. */
  add(firstId: number, calls: readonly Call[]): void {
    if ((this.#size + calls.length) * 2 > this.#places.length) this.#grow(calls.length);
    for (const [index, call] of calls.entries()) {
      call.wireId = firstId + index;
      this.#put(call);
    }
    this.#size += calls.length;
    this.#next = firstId + calls.length;
  }

  delete(call: Call): void {
    // One that is not under way any more must not take along another, which has got its number since.
    if (this.get(call.wireId) !== call) return;
    const place = this.#placeOf(call.wireId);
    if (this.#places[place] === call) this.#places[place] = undefined;
    else this.#others.delete(call.wireId);
    this.#size -= 1;
  }

  #put(call: Call): void {
    const place = this.#placeOf(call.wireId);
    if (this.#places[place] === undefined) this.#places[place] = call;
    else this.#others.set(call.wireId, call);
  }

  /** Never shrinks: there are at most `maxCallsInFlight` calls. */
  #grow(more: number): void {
    const all = this.all();
    let length = this.#places.length;
    while ((all.length + more) * 2 > length) length *= 2;
    this.#places = places(length);
    this.#others.clear();
    for (const call of all) this.#put(call);
  }

  #placeOf(wireId: number): number {
    return wireId & (this.#places.length - 1);
  }
}

function places(length: number): (Call | undefined)[] {
  return Array.from({ length }, () => undefined);
}
