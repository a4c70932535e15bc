/** Keeps all workers from removing anything while a backup is read: asks them at the beginning, and again until the end. bus/retention.ts */
import { setTimeout as delay } from 'node:timers/promises';
import { nuid, type Subscription } from 'nats';
import type { Bus } from '../bus/connection.ts';
import { announcementSchema, readControl, writeControl } from '../bus/messages.ts';
import { retainedSchema } from '../bus/retention.ts';
import { MillraceError } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';
import { Removed } from './removed.ts';

const KEEP_MS = 15_000;
const RENEW_MS = 2_000;
/** A removal that is under way when it is asked for may take so long. */
const AGREE_MS = 10_000;

export class Retainer {
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #subjects: Subjects;
  readonly #inbox: string;
  readonly #answers: Subscription;
  /** Workers that have answered at all, the last time, and those that keep everything. */
  readonly #there = new Set<string>();
  readonly #agreed = new Set<string>();
  #renewing: NodeJS.Timeout | undefined;
  #renewedAtMs = performance.now();
  /** Between two requests that reached the broker. */
  #longestGapMs = 0;

  private constructor(bus: Bus, settings: Settings) {
    this.#bus = bus;
    this.#settings = settings;
    this.#subjects = subjectsOf(settings.namespace);
    this.#inbox = `${bus.inbox}.k.${nuid.next()}`;
    this.#answers = bus.subscribe(`${this.#inbox}.*`, ({ data }) => {
      const agreed = readControl(retainedSchema, data);
      if (agreed !== undefined) this.#agreed.add(agreed.worker);
      else {
        const there = readControl(announcementSchema, data);
        if (there !== undefined) this.#there.add(there.id);
      }
    });
  }

  /** Resolves when all workers that are there keep everything. Throws UNAVAILABLE where one of them does not say so. */
  static async begin(bus: Bus, settings: Settings): Promise<Retainer> {
    const retainer = new Retainer(bus, settings);
    try {
      await retainer.#begin();
      return retainer;
    } catch (error) {
      retainer.close();
      throw error;
    }
  }

  /** Throws Removed where workers may have removed something because they were not asked in time. */
  assertKept(): void {
    this.#longestGapMs = Math.max(this.#longestGapMs, performance.now() - this.#renewedAtMs);
    if (this.#longestGapMs < KEEP_MS) return;
    throw new Removed('NATS was away for so long that workers may have removed something.');
  }

  /** They may go on removing, when their time is over. */
  close(): void {
    clearInterval(this.#renewing);
    this.#answers.unsubscribe();
  }

  async #begin(): Promise<void> {
    const untilMs = performance.now() + AGREE_MS;
    this.#renew();
    this.#renewing = setInterval(() => this.#renew(), RENEW_MS);
    for (;;) {
      // Asked again each time: one that has died does not answer any more.
      this.#there.clear();
      this.#bus.publish(this.#subjects.hello, new Uint8Array(), { reply: `${this.#inbox}.hello` });
      await delay(this.#settings.discoveryWaitMs);
      const silent = [...this.#there].filter((id) => !this.#agreed.has(id));
      if (silent.length === 0) return;
      if (performance.now() < untilMs) continue;
      throw new MillraceError(
        'UNAVAILABLE',
        `These workers do not say that they keep what a backup reads: ${silent.join(', ')}.`,
      );
    }
  }

  #renew(): void {
    if (!this.#bus.up) return;
    const reply = `${this.#inbox}.keep`;
    this.#bus.publish(this.#subjects.stateRetain, writeControl({ keepMs: KEEP_MS }), { reply });
    this.#longestGapMs = Math.max(this.#longestGapMs, performance.now() - this.#renewedAtMs);
    this.#renewedAtMs = performance.now();
  }
}
