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

  /** Resolves when what is not wanted any more is closed, everything that the broker had sent on it delivered. */
  async set(functions: readonly LoadedFunction[]): Promise<void> {
    const wanted = new Map<string, () => Subscription>();
    for (const { name, definition } of functions) {
      for (const subject of [this.#subjects.fn(name), ...definition.on]) {
        wanted.set(`${name} ${subject}`, () =>
          this.#bus.subscribe(
            subject,
            (message) => this.#onMessage(name, message),
            this.#subjects.queueGroup(name),
          ),
        );
      }
    }
    for (const [key, open] of wanted) if (!this.#open.has(key)) this.#open.set(key, open());
    const closing: Promise<void>[] = [];
    for (const [key, subscription] of this.#open) {
      if (wanted.has(key)) continue;
      this.#open.delete(key);
      closing.push(subscription.drain());
    }
    await Promise.all(closing);
  }
}
