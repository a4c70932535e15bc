/** Tells everybody that this worker is there: announcements, beats, answers to hello and ping, the farewell. */
import type { Subscription } from 'nats';
import type { Bus } from '../bus/connection.ts';
import { writeControl, type Announcement, type Beat } from '../bus/messages.ts';
import type { WorkerState } from '../core/directory.ts';
import { MillraceError } from '../core/errors.ts';
import { PROTOCOL } from '../core/newer.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';

/** Beats that follow each other sooner than the usual. */
const MIN_BEAT_MS = 100;
/** What a worker's report says of each function, without its counts by subject and its histogram. */
const REPORT_BYTES = 512;

/** As it is when it is asked for: `full` often, both with each beat. */
export interface LoadNow {
  readonly full: () => string[];
  readonly loads: () => NonNullable<Beat['loads']>;
}

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
  readonly #load: LoadNow;
  readonly #capacity: number;
  #offered: Offered = { functions: [], identities: [], balances: [], caches: [] };
  #revision = 0;
  #saidFull = '';
  #saidAtMs = Number.NEGATIVE_INFINITY;
  #state: WorkerState = 'running';

  constructor(bus: Bus, settings: Settings, workerId: string, load: LoadNow) {
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
    this.#timer = setInterval(() => this.#sayBeat(), settings.heartbeatIntervalMs);
  }

  /**
   * To be called often: a function that is full now, or no more, is told of before the next beat. Else callers would all go to
   * the others for so long, and fill those.
   */
  look(): void {
    if (performance.now() - this.#saidAtMs < MIN_BEAT_MS) return;
    if (String(this.#load.full()) !== this.#saidFull) this.#sayBeat();
  }

  /** Throws USAGE for more functions than one message to the others has room for: nobody would learn of any. */
  assertFits(offered: Offered): void {
    const { maxMessageBytes } = this.#bus;
    const { length } = offered.functions;
    // Beats, and the counts of kept lists, come on top of what is offered.
    const bytes = Math.max(2 * writeControl(offered).length, length * REPORT_BYTES);
    if (bytes <= maxMessageBytes) return;
    throw new MillraceError(
      'USAGE',
      `${length} functions are more than one worker can tell the others of: it takes messages of ${bytes} bytes, and the broker's max_payload is ${maxMessageBytes}. Spread them over several workers, or raise max_payload.`,
      { details: { bytes, limitBytes: maxMessageBytes } },
    );
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

  #sayBeat(): void {
    const beat = this.#beat();
    this.#saidAtMs = performance.now();
    this.#saidFull = String(beat.full);
    if (this.#bus.up) this.#bus.publish(this.#subjects.beat, writeControl(beat));
  }

  #announce(): void {
    if (this.#bus.up) this.#bus.publish(this.#subjects.announce, this.#announcement());
  }

  #announcement(): Uint8Array {
    const capacity = this.#capacity;
    const announcement: Announcement = {
      ...this.#beat(),
      ...this.#offered,
      capacity,
      protocol: PROTOCOL,
    };
    return writeControl(announcement);
  }

  #beat(): Beat {
    return {
      id: this.#workerId,
      connectionEpoch: this.#bus.epoch,
      state: this.#state,
      revision: this.#revision,
      full: this.#load.full(),
      loads: this.#load.loads(),
    };
  }
}
