/** Keeps all workers from removing anything while a backup is read: asks them at the beginning, and again until the end. bus/retention.ts */
import { setTimeout as delay } from 'node:timers/promises';
import { nuid, type Subscription } from 'nats';
import type { Bus } from '../bus/connection.ts';
import { announcementSchema, readControl, writeControl } from '../bus/messages.ts';
import { retainedSchema } from '../bus/retention.ts';
import { MillraceError } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';

const KEEP_MS = 15_000;
const RENEW_MS = 2_000;
/** A removal that is under way when it is asked for may take so long. */
const AGREE_MS = 10_000;
const POLL_MS = 20;

export class Retainer {
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #subjects: Subjects;
  readonly #inbox: string;
  readonly #answers: Subscription;
  /** Workers that have answered at all, and those that keep everything. */
  readonly #there = new Set<string>();
  readonly #agreed = new Set<string>();
  #renewing: NodeJS.Timeout | undefined;

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

  /** They may go on removing, when their time is over. */
  close(): void {
    clearInterval(this.#renewing);
    this.#answers.unsubscribe();
  }

  async #begin(): Promise<void> {
    const begunAtMs = performance.now();
    this.#bus.publish(this.#subjects.hello, new Uint8Array(), { reply: `${this.#inbox}.hello` });
    this.#renew();
    this.#renewing = setInterval(() => this.#renew(), RENEW_MS);
    await delay(this.#settings.discoveryWaitMs);
    for (;;) {
      const silent = [...this.#there].filter((id) => !this.#agreed.has(id));
      if (silent.length === 0) return;
      if (performance.now() - begunAtMs > AGREE_MS) {
        throw new MillraceError(
          'UNAVAILABLE',
          `These workers do not say that they keep what a backup reads: ${silent.join(', ')}.`,
        );
      }
      await delay(POLL_MS);
    }
  }

  #renew(): void {
    if (!this.#bus.up) return;
    const reply = `${this.#inbox}.keep`;
    this.#bus.publish(this.#subjects.stateRetain, writeControl({ keepMs: KEEP_MS }), { reply });
  }
}
