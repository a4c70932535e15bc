/**
 * Notices when the stream of logs has lost its end: nats-server cuts off what it finds damaged when it starts, and all behind it,
 * without a word to its clients. What is left is whole, so nothing else would ever show that acknowledged writes are missing.
 * How far it went is noted now and then in a bucket of its own; what is lost of less than that time is not noticed.
 */
import type { Logger } from 'pino';
import type { AssignmentStore } from '../bus/assignment-store.ts';
import type { Bus } from '../bus/connection.ts';
import type { LogStreams } from '../bus/log-streams.ts';

const NOTE_MS = 2_000;

export interface LogEndOptions {
  bus: Bus;
  log: Logger;
  store: AssignmentStore;
  streams: LogStreams;
}

export class LogEnd {
  readonly #options: LogEndOptions;
  readonly #notes: NodeJS.Timeout;
  readonly #stopListening: () => void;
  #noted = 0;

  constructor(options: LogEndOptions) {
    this.#options = options;
    this.#notes = setInterval(() => void this.#note(), NOTE_MS);
    this.#stopListening = options.bus.onStatus((up) => {
      if (up) void this.check();
    });
    void this.check();
  }

  /** What cannot be learnt now is looked at when the connection comes back, or by the next worker. */
  async check(): Promise<void> {
    const { store, streams, log } = this.#options;
    try {
      const noted = await store.logEnd();
      // Asked afterwards: in between it only grows.
      const end = await streams.end();
      if (end >= noted) return;
      log.error(
        { end, noted },
        `the log of the state has lost its end: it ends at ${end}, and ${noted} was acknowledged. A disk or a server has failed; what is missing is in no log any more, see docs/operations.md`,
      );
    } catch (error) {
      log.debug({ err: error }, 'the end of the log was not compared');
    }
  }

  close(): void {
    clearInterval(this.#notes);
    this.#stopListening();
  }

  async #note(): Promise<void> {
    const { bus, store, streams, log } = this.#options;
    const { acknowledged } = streams;
    if (!bus.up || acknowledged <= this.#noted) return;
    try {
      await store.noteLogEnd(acknowledged);
      this.#noted = acknowledged;
    } catch (error) {
      log.debug({ err: error }, 'the end of the log was not noted');
    }
  }
}
