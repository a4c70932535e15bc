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

export class Retention {
  readonly #requests: Subscription;
  #heldUntilMs = Number.NEGATIVE_INFINITY;
  readonly #removing = new Set<Promise<unknown>>();
  #waiting: { resolve: () => void; reject: (error: Error) => void }[] = [];
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

  /** Removes when nothing is to be kept any more. Rejects likewise, and with UNAVAILABLE when it is closed before. */
  async whenFree(remove: () => Promise<void>): Promise<void> {
    while (!(await this.unlessHeld(remove))) await this.#free();
  }

  close(): void {
    this.#closed = true;
    this.#requests.unsubscribe();
    clearTimeout(this.#timer);
    const error = new MillraceError('UNAVAILABLE', 'The worker stops.');
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }

  #free(): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#closed) reject(new MillraceError('UNAVAILABLE', 'The worker stops.'));
      else this.#waiting.push({ resolve, reject });
    });
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
      for (const { resolve } of this.#waiting.splice(0)) resolve();
    }, leftMs).unref();
  }
}
