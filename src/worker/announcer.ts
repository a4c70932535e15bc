/** Tells everybody that this worker is there: announcements, beats, answers to hello and ping, the farewell. */
import type { Subscription } from 'nats';
import type { Bus } from '../bus/connection.ts';
import { writeControl, type Announcement, type Beat } from '../bus/messages.ts';
import type { WorkerState } from '../core/directory.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';

/** What the worker announces of its functions. */
export type Offered = Required<
  Pick<Announcement, 'functions' | 'identities' | 'balances' | 'caches'>
>;

export class Announcer {
  readonly #bus: Bus;
  readonly #subjects: Subjects;
  readonly #workerId: string;
  readonly #subscriptions: Subscription[];
  readonly #stopListening: () => void;
  readonly #timer: NodeJS.Timeout;
  readonly #load: () => Pick<Beat, 'full' | 'loads'>;
  readonly #capacity: number;
  #offered: Offered = { functions: [], identities: {}, balances: {}, caches: {} };
  #revision = 0;
  #state: WorkerState = 'running';

  /** `load`: as it is now; asked for with each beat. */
  constructor(
    bus: Bus,
    settings: Settings,
    workerId: string,
    load: () => Pick<Beat, 'full' | 'loads'>,
  ) {
    this.#bus = bus;
    this.#load = load;
    this.#capacity = settings.capacity;
    this.#workerId = workerId;
    this.#subjects = subjectsOf(settings.namespace);
    this.#subscriptions = [
      bus.subscribe(this.#subjects.hello, ({ reply }) => bus.answer(reply, this.#announcement())),
      bus.subscribe(this.#subjects.workerPing(workerId), ({ reply }) =>
        bus.answer(reply, writeControl(this.#beat())),
      ),
    ];
    this.#stopListening = bus.onStatus((up) => {
      if (up) this.#announce();
    });
    this.#timer = setInterval(() => {
      if (bus.up) bus.publish(this.#subjects.beat, writeControl(this.#beat()));
    }, settings.heartbeatIntervalMs);
  }

  offer(offered: Offered): void {
    this.#offered = offered;
    this.#revision += 1;
    this.#announce();
  }

  /** From now on callers choose others; what comes all the same is still served. */
  draining(): void {
    this.#state = 'draining';
    this.#announce();
  }

  leave(): void {
    clearInterval(this.#timer);
    this.#stopListening();
    if (this.#bus.up) this.#bus.publish(this.#subjects.leave, writeControl({ id: this.#workerId }));
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
  }

  #announce(): void {
    if (this.#bus.up) this.#bus.publish(this.#subjects.announce, this.#announcement());
  }

  #announcement(): Uint8Array {
    const capacity = this.#capacity;
    const announcement: Announcement = { ...this.#beat(), ...this.#offered, capacity };
    return writeControl(announcement);
  }

  #beat(): Beat {
    return {
      id: this.#workerId,
      connectionEpoch: this.#bus.epoch,
      state: this.#state,
      revision: this.#revision,
      ...this.#load(),
    };
  }
}
