/** What is settled is removed after a while: events from the platform's own streams, markers from the state. */
import type { Logger } from 'pino';
import type { EventStreams } from '../bus/event-streams.ts';
import { laterStream } from '../bus/later-stream.ts';
import type { Settings } from '../core/settings.ts';
import type { StateService } from '../state/service.ts';
import { lowestBySubject, type Cursors } from './cursors.ts';
import { sweepMarkers } from './sweep.ts';

export interface UpkeepOptions {
  settings: Settings;
  log: Logger;
  service: StateService;
  streams: EventStreams;
  cursors: Cursors;
}

const TRIM_MS = 10_000;
/** A new owner has published its outbox by then. */
const OUTBOX_MS = 5_000;
/** In the time for which markers are kept at least. */
const SWEEPS = 2;

export class Upkeep {
  readonly #options: UpkeepOptions;
  /** `<subject> <stream>` → up to where. */
  readonly #trimmed = new Map<string, number>();
  #trimming: NodeJS.Timeout | undefined;
  #sweeping: NodeJS.Timeout | undefined;
  #wanted = false;
  /** When a partition had no owner, the last time that one looked. */
  #unservedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: UpkeepOptions) {
    this.#options = options;
  }

  begin(): void {
    const sweepMs = this.#options.settings.answerKeepMs / SWEEPS;
    // What fails is tried again the next time.
    const { retention } = this.#options.service;
    const unlessHeld = (remove: () => Promise<void>): void =>
      void retention.unlessHeld(remove).catch(() => {});
    this.#trimming ??= setInterval(() => unlessHeld(() => this.#trim()), TRIM_MS);
    this.#sweeping ??= setInterval(() => unlessHeld(() => this.#sweep()), sweepMs);
  }

  close(): void {
    clearInterval(this.#trimming);
    clearInterval(this.#sweeping);
  }

  /** A cursor of this worker's has gone on. */
  wanted(): void {
    this.#wanted = true;
  }

  async #sweep(): Promise<void> {
    const { service, settings, log, cursors } = this.#options;
    const removed = await sweepMarkers(service, settings, await cursors.all(), Date.now());
    if (removed > 0) log.debug({ removed }, 'markers were removed');
  }

  /**
   * Whether all partitions have had owners for a while. One that has none may have events in its outbox that have been published:
   * its next owner looks for them in their stream.
   */
  #isServed(): boolean {
    const { cluster, hosting } = this.#options.service;
    const nowMs = performance.now();
    for (let partition = 0; partition < hosting.partitions; partition += 1) {
      if (cluster.ownerOf(partition) === undefined) this.#unservedAtMs = nowMs;
    }
    return nowMs - this.#unservedAtMs >= OUTBOX_MS;
  }

  /** Events that all their functions have settled, by subject. */
  async #trim(): Promise<void> {
    if (!this.#wanted || !this.#isServed()) return;
    this.#wanted = false;
    const { settings, streams, cursors } = this.#options;
    const entries = await cursors.all();
    // What lies in them is for functions only.
    for (const stream of [streams.own, streams.dead, laterStream(settings.namespace)]) {
      const readers = entries.filter((each) => each.stream === stream);
      for (const [subject, lowest] of lowestBySubject(readers)) {
        const key = `${subject} ${stream}`;
        if (lowest <= (this.#trimmed.get(key) ?? 1)) continue;
        await streams.trim(stream, subject, lowest);
        this.#trimmed.set(key, lowest);
      }
    }
  }
}
