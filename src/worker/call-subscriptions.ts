/** Frames of calls for this worker: from other workers, and from outside, where each subject names the one function. */
import type { Msg, Subscription } from 'nats';
import type { Bus } from '../bus/connection.ts';
import type { Subjects } from '../core/subjects.ts';

export class CallSubscriptions {
  readonly #subscriptions: readonly Subscription[];

  /** `only`: the function that the frame may call, where it comes from outside. */
  constructor(
    bus: Bus,
    subjects: Subjects,
    workerId: string,
    onFrame: (message: Msg, only?: string) => void,
  ) {
    this.#subscriptions = [
      bus.subscribe(subjects.workerCall(workerId), (message) => onFrame(message)),
      bus.subscribe(subjects.workerAsk(workerId, '*'), (message) =>
        onFrame(message, message.subject.slice(message.subject.lastIndexOf('.') + 1)),
      ),
    ];
  }

  async drain(): Promise<void> {
    await Promise.all(this.#subscriptions.map((subscription) => subscription.drain()));
  }
}
