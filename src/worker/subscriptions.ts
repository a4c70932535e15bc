/** The subscriptions of a worker's functions: by name and on their subjects, each in the function's queue group. */
import type { Msg, Subscription } from 'nats';
import type { Bus } from '../bus/connection.ts';
import type { Subjects } from '../core/subjects.ts';
import type { LoadedFunction } from '../function/load.ts';

export class FunctionSubscriptions {
  readonly #bus: Bus;
  readonly #subjects: Subjects;
  readonly #onMessage: (functionName: string, message: Msg) => void;
  /** `<function> <subject>` → its subscription; what stays the same over a reload is not touched. */
  readonly #open = new Map<string, Subscription>();

  constructor(
    bus: Bus,
    subjects: Subjects,
    onMessage: (functionName: string, message: Msg) => void,
  ) {
    this.#bus = bus;
    this.#subjects = subjects;
    this.#onMessage = onMessage;
  }

  /** Opens what these functions need beside what is open. */
  add(functions: readonly LoadedFunction[]): void {
    for (const [key, { name, subject }] of this.#neededBy(functions)) {
      if (this.#open.has(key)) continue;
      const onMessage = (message: Msg): void => this.#onMessage(name, message);
      this.#open.set(key, this.#bus.subscribe(subject, onMessage, this.#subjects.queueGroup(name)));
    }
  }

  /** Resolves when what these do not need is closed, everything that the broker had sent on it delivered. */
  async keepOnly(functions: readonly LoadedFunction[]): Promise<void> {
    const wanted = this.#neededBy(functions);
    const closing: Promise<void>[] = [];
    for (const [key, subscription] of this.#open) {
      if (wanted.has(key)) continue;
      this.#open.delete(key);
      closing.push(subscription.drain());
    }
    await Promise.all(closing);
  }

  #neededBy(functions: readonly LoadedFunction[]): Map<string, { name: string; subject: string }> {
    const needed = new Map<string, { name: string; subject: string }>();
    for (const { name, definition } of functions) {
      const own = definition.delivery === 'ephemeral' ? definition.on : [];
      for (const subject of [this.#subjects.fn(name), ...own]) {
        needed.set(`${name} ${subject}`, { name, subject });
      }
    }
    return needed;
  }
}
