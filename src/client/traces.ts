/** Runs as they end, and what caused them: an event's way through functions, over NATS and without a collector. */
import type { Bus } from '../bus/connection.ts';
import { readControl, writeControl } from '../bus/messages.ts';
import { MAX_TRACE_LEASE_MS, runsSchema, type Run } from '../bus/run-traces.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';

/** Workers forget a follower that has died after three of these. */
const RENEW_MS = 2_000;
const LEASE_MS = Math.min(MAX_TRACE_LEASE_MS, 3 * RENEW_MS);

export class RunTraces {
  readonly #bus: Bus;
  readonly #subjects: Subjects;

  constructor(bus: Bus, settings: Settings) {
    this.#bus = bus;
    this.#subjects = subjectsOf(settings.namespace);
  }

  /**
   * Tells of runs as they end, from now on, by any worker, until the function that it returns is called. Each worker chooses at most 20
   * traces a second that begin there, and sends at most 500 runs; `dropped` are those that it has left out.
   */
  follow(onRuns: (runs: readonly Run[], dropped: number) => void): () => void {
    const ask = (): void => {
      // While the connection is down nobody hears it; the next one follows.
      if (this.#bus.up) {
        this.#bus.publish(this.#subjects.runsAsk, writeControl({ forMs: LEASE_MS }));
      }
    };
    const subscriptions = [
      this.#bus.subscribe(this.#subjects.runs('*'), ({ data }) => {
        const message = readControl(runsSchema, data);
        if (message !== undefined) onRuns(message.runs, message.dropped);
      }),
      // A worker that begins has not heard of this follower.
      this.#bus.subscribe(this.#subjects.announce, ask),
    ];
    const renewing = setInterval(ask, RENEW_MS);
    ask();
    return () => {
      clearInterval(renewing);
      for (const subscription of subscriptions) subscription.unsubscribe();
    };
  }
}
