/**
 * Invocations that are not answered yet. Not a Map: where entries come and go all the time a Map is rebuilt again and again, and V8 lets
 * each old table point to its successor. Once one of them lies in the old generation, its garbage collector takes every later table, with
 * the invocations in it, for alive and copies them all: much of the CPU of a worker (docs/ARCHITECTURE.md, "Garbage").
 */
import type { Invocation } from './invocation.ts';
import type { FunctionRunner } from './runner.ts';

export class LiveInvocations {
  readonly #invocations: Invocation[] = [];
  /** At the same places. */
  readonly #runners: FunctionRunner[] = [];

  get size(): number {
    return this.#invocations.length;
  }

  add(invocation: Invocation, runner: FunctionRunner): void {
    invocation.place = this.#invocations.length;
    this.#invocations.push(invocation);
    this.#runners.push(runner);
  }

  /** The last one takes its place: nothing else moves. */
  delete(invocation: Invocation): void {
    const { place } = invocation;
    const last = this.#invocations.at(-1);
    const runner = this.#runners.at(-1);
    if (place < 0 || last === undefined || runner === undefined) return;
    this.#invocations[place] = last;
    this.#runners[place] = runner;
    last.place = place;
    this.#invocations.pop();
    this.#runners.pop();
    invocation.place = -1;
  }

  /** Those of now that are still there when it is their turn, in any order. */
  *[Symbol.iterator](): Generator<[Invocation, FunctionRunner]> {
    const runners = [...this.#runners];
    for (const [index, invocation] of [...this.#invocations].entries()) {
      if (invocation.place >= 0) yield [invocation, runners[index] as FunctionRunner];
    }
  }
}
