/**
 * Keeps a Directory true from what workers publish: announcements, beats, farewells. Used by every caller.
 * All it learns is a hint (see core/directory.ts); the broker's "no responders" is what decides.
 */
import type { Msg, Subscription } from 'nats';
import { Directory } from '../core/directory.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';
import type { Bus } from './connection.ts';
import { announcementSchema, beatSchema, leaveSchema, readControl, type Beat } from './messages.ts';
import { isNoResponders } from './status.ts';

export interface MemberEvents {
  /** A worker is new, or offers other functions than before. */
  onAnnounced(workerId: string): void;
  /** A worker is back on a new connection: what was sent to it before may be lost. */
  onReconnected(workerId: string): void;
  /** What it says of its load, by function. */
  onLoads(workerId: string, loads: NonNullable<Beat['loads']>): void;
  /** Nobody is there at all. */
  onNobody(): void;
}

const NOTHING = new Uint8Array();
/** Names of functions that are remembered when nobody offers them any more. */
const MAX_EVER_OFFERED = 65_536;

export class Members {
  readonly directory = new Directory();
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #subjects: Subjects;
  readonly #events: MemberEvents;
  readonly #subscriptions: Subscription[] = [];
  readonly #stopListening: () => void;
  readonly #pinging: NodeJS.Timeout;
  readonly #everOffered = new Set<string>();
  #lastHelloAtMs = Number.NEGATIVE_INFINITY;

  constructor(bus: Bus, settings: Settings, events: MemberEvents) {
    this.#bus = bus;
    this.#settings = settings;
    this.#subjects = subjectsOf(settings.namespace);
    this.#events = events;
    const { announce, beat, leave, membership } = this.#subjects;
    this.#subscriptions.push(
      bus.subscribe(membership, ({ subject, data }) => {
        if (subject === beat) this.#onBeat(data);
        else if (subject === announce) this.#onAnnouncement(data);
        else if (subject === leave) this.#onLeave(data);
      }),
      bus.subscribe(`${bus.inbox}.hello`, (message) => {
        if (isNoResponders(message)) events.onNobody();
        else this.#onAnnouncement(message.data);
      }),
      bus.subscribe(`${bus.inbox}.m.*`, (message) => this.#onPinged(message)),
    );
    this.#stopListening = bus.onStatus((up) => {
      if (up) this.hello(true);
    });
    this.#pinging = setInterval(() => this.#pingSilent(), settings.heartbeatIntervalMs);
    this.#pinging.unref();
    this.hello();
  }

  /** Asks all workers who they are; at most once in the discovery wait unless forced. */
  hello(force = false): void {
    const now = performance.now();
    if (!this.#bus.up) return;
    if (!force && now - this.#lastHelloAtMs < this.#settings.discoveryWaitMs) return;
    this.#lastHelloAtMs = now;
    this.#bus.publish(this.#subjects.hello, NOTHING, { reply: `${this.#bus.inbox}.hello` });
  }

  /** Has any worker ever offered the function, as far as is known here? Then waiting for one makes sense. */
  wasOffered(functionName: string): boolean {
    return this.#everOffered.has(functionName);
  }

  close(): void {
    clearInterval(this.#pinging);
    this.#stopListening();
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
  }

  #onAnnouncement(data: Uint8Array): void {
    const announcement = readControl(announcementSchema, data);
    if (announcement === undefined) return;
    for (const name of announcement.functions) {
      if (this.#everOffered.size < MAX_EVER_OFFERED) this.#everOffered.add(name);
    }
    const reconnected = this.directory.announced(announcement, performance.now());
    if (reconnected) this.#events.onReconnected(announcement.id);
    this.#events.onAnnounced(announcement.id);
  }

  #onBeat(data: Uint8Array): void {
    const beat = readControl(beatSchema, data);
    if (beat === undefined) return;
    const outcome = this.directory.beat(beat, performance.now());
    if (outcome === 'unknown') {
      this.hello();
      return;
    }
    if (beat.loads !== undefined) this.#events.onLoads(beat.id, beat.loads);
    if (outcome === 'new-connection') this.#events.onReconnected(beat.id);
  }

  #onLeave(data: Uint8Array): void {
    const leaving = readControl(leaveSchema, data);
    if (leaving !== undefined) this.directory.remove(leaving.id);
  }

  /** One ping a beat interval for each that misses its beats: it may compute, be stopped, or be gone. */
  #pingSilent(): void {
    // While our own connection is down nobody can be heard: silence says nothing about the workers.
    if (!this.#bus.up) return;
    for (const id of this.directory.silence(performance.now(), this.#settings.missedAfterMs)) {
      const reply = `${this.#bus.inbox}.m.${id}`;
      this.#bus.publish(this.#subjects.workerPing(id), NOTHING, { reply });
    }
  }

  /** A pong is a beat. */
  #onPinged(message: Msg): void {
    if (!isNoResponders(message)) this.#onBeat(message.data);
    else this.directory.remove(message.subject.slice(message.subject.lastIndexOf('.') + 1));
  }
}
