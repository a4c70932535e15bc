/**
 * While a backup is taken nothing may go that it has yet to read: journals, snapshots, events, markers. Whoever takes it asks
 * all workers, again and again, to keep everything for some seconds more; each answers once nothing is being removed. It is a
 * courtesy: a backup that finds something missing notices, and begins again.
 */
import type { Subscription } from 'nats';
import { z } from 'zod';
import { MillraceError } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf } from '../core/subjects.ts';
import type { Bus } from './connection.ts';
import { readControl, writeControl } from './messages.ts';

/** The longest time that one request keeps things for: one who has died must not fill the disk. */
const MAX_KEEP_MS = 60_000;

const retainSchema = z.object({ keepMs: z.number().int().min(1).max(MAX_KEEP_MS) });
export const retainedSchema = z.object({ worker: z.string() });

interface Waiting {
  before: number;
  remove: (before: number) => Promise<void>;
  asked: { resolve: () => void; reject: (error: Error) => void }[];
}

export class Retention {
  readonly #requests: Subscription;
  #heldUntilMs = Number.NEGATIVE_INFINITY;
  readonly #removing = new Set<Promise<unknown>>();
  /** By what is to be removed of: the last bound counts, it never goes back. */
  readonly #waiting = new Map<string, Waiting>();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(bus: Bus, settings: Settings, workerId: string) {
    const subject = subjectsOf(settings.namespace).stateRetain;
    this.#requests = bus.subscribe(subject, ({ data, reply }) => {
      const request = readControl(retainSchema, data);
      if (request === undefined) return;
      this.#hold(request.keepMs);
      void Promise.allSettled(this.#removing).then(() =>
        bus.answer(reply, writeControl({ worker: workerId })),
      );
    });
  }

  get held(): boolean {
    return performance.now() < this.#heldUntilMs;
  }

  /** Removes at once, or leaves it to the next time: false. Rejects with what `remove` rejects with. */
  async unlessHeld(remove: () => Promise<void>): Promise<boolean> {
    if (this.held) return false;
    const removing = remove();
    const ended = removing.catch(() => {});
    this.#removing.add(ended);
    void ended.then(() => this.#removing.delete(ended));
    await removing;
    return true;
  }

  /**
   * Removes what lies before `before` when nothing is to be kept any more; of several that wait for the same one only the last.
   * Rejects with UNAVAILABLE when it is closed before.
   */
  async whenFree(
    what: string,
    before: number,
    remove: (before: number) => Promise<void>,
  ): Promise<void> {
    if (await this.unlessHeld(() => remove(before))) return;
    if (this.#closed) throw stopped();
    const waiting = this.#waiting.get(what);
    await new Promise<void>((resolve, reject) => {
      const highest = Math.max(before, waiting?.before ?? 0);
      const asked = [...(waiting?.asked ?? []), { resolve, reject }];
      this.#waiting.set(what, { before: highest, remove, asked });
    });
  }

  close(): void {
    this.#closed = true;
    this.#requests.unsubscribe();
    clearTimeout(this.#timer);
    for (const { asked } of this.#waiting.values())
      for (const { reject } of asked) reject(stopped());
    this.#waiting.clear();
  }

  /** One after the other: JetStream has others to answer, too. */
  async #release(): Promise<void> {
    for (const [what, { before, remove, asked }] of this.#waiting) {
      this.#waiting.delete(what);
      await this.whenFree(what, before, remove).then(
        () => asked.forEach(({ resolve }) => resolve()),
        (error: Error) => asked.forEach(({ reject }) => reject(error)),
      );
    }
  }

  #hold(keepMs: number): void {
    this.#heldUntilMs = Math.max(this.#heldUntilMs, performance.now() + keepMs);
    this.#timer ??= this.#wait();
  }

  #wait(): NodeJS.Timeout {
    const leftMs = Math.max(1, this.#heldUntilMs - performance.now());
    return setTimeout(() => {
      this.#timer = this.held ? this.#wait() : undefined;
      if (this.#timer !== undefined) return;
      void this.#release();
    }, leftMs).unref();
  }
}

function stopped(): MillraceError {
  return new MillraceError('UNAVAILABLE', 'The worker stops.');
}
