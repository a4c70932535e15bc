/**
 * Messages between coordinators and partitions, on `<ns>.tx.<what>.<worker>`: all for one worker that come together go in
 * one NATS message for each kind. What stays in this process goes the short way, but never at once: a machine is not called while it is busy.
 */
import type { Msg, Subscription } from 'nats';
import type { Bus } from '../bus/connection.ts';
import { isNoResponders } from '../bus/status.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';
import type { CoordinatorMessage, PartitionMessage } from '../core/state/messages.ts';
import { writeBytes } from '../core/state/records.ts';
import { decodeEnvelopes, encodeEnvelopes, type Envelope } from '../core/state/wire.ts';

export interface PeerEvents {
  /** False when this worker does not own the partition. */
  toPartition(partition: number, message: PartitionMessage): boolean;
  toCoordinator(message: CoordinatorMessage): void;
  /** The partition that a message of this worker's transaction was for has no owner here or there. */
  onBounced(partition: number, tx: string): void;
  /** Nobody listens there any more. */
  onGone(workerId: string): void;
}

/** What an observer of `<ns>.tx.>` sees: the phases of the protocol; getting and freeing locks is all `access`. */
const WHAT: Readonly<Record<PartitionMessage['kind'] | CoordinatorMessage['kind'], string>> = {
  prepare: 'prepare',
  vote: 'vote',
  commit: 'commit',
  abort: 'abort',
  outcome: 'outcome',
  lock: 'access',
  release: 'access',
  ended: 'access',
  resolve: 'access',
  granted: 'access',
  queued: 'access',
  wound: 'access',
  lost: 'access',
  elsewhere: 'access',
  fetch: 'move',
  items: 'move',
  left: 'move',
  arrived: 'move',
};

/** A message is closed before it grows beyond this. */
const MAX_FRAME_BYTES = 256 * 1024;
/** Messages to one worker that wait for the connection or for the end of this turn; more are dropped, and sent again by the protocol. */
const MAX_WAITING = 100_000;
const BOUNCED = 'bounced';
/** What an envelope costs beside its texts. */
const ENVELOPE_BYTES = 64;

export class Peers {
  readonly #bus: Bus;
  readonly #subjects: Subjects;
  readonly #workerId: string;
  readonly #events: PeerEvents;
  readonly #ownerOf: (partition: number) => string | undefined;
  readonly #subscriptions: Subscription[];
  /** `<what>.<worker>` → envelopes. */
  readonly #outgoing = new Map<string, Envelope[]>();
  #local: Envelope[] = [];
  #scheduled = false;
  /** Envelopes that could not be read: from another version, or forged. */
  refused = 0;

  constructor(
    bus: Bus,
    settings: Settings,
    workerId: string,
    ownerOf: (partition: number) => string | undefined,
    events: PeerEvents,
  ) {
    this.#bus = bus;
    this.#subjects = subjectsOf(settings.namespace);
    this.#workerId = workerId;
    this.#ownerOf = ownerOf;
    this.#events = events;
    this.#subscriptions = [
      bus.subscribe(this.#subjects.tx('*', workerId), (message) => this.#onFrame(message)),
      bus.subscribe(`${bus.inbox}.x.*`, (message) => {
        const { subject } = message;
        if (isNoResponders(message)) events.onGone(subject.slice(subject.lastIndexOf('.') + 1));
      }),
    ];
  }

  /** Lost when nobody owns the partition just now: whoever waits asks again. */
  toPartition(partition: number, message: PartitionMessage): void {
    const owner = this.#ownerOf(partition);
    if (owner !== undefined) this.#send(owner, { partition, message });
  }

  toCoordinator(workerId: string, message: CoordinatorMessage): void {
    this.#send(workerId, { partition: undefined, message });
  }

  close(): void {
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
  }

  #send(workerId: string, envelope: Envelope): void {
    if (workerId === this.#workerId) this.#local.push(envelope);
    else {
      const key = `${WHAT[envelope.message.kind]}.${workerId}`;
      const waiting = this.#outgoing.get(key);
      if (waiting === undefined) this.#outgoing.set(key, [envelope]);
      else if (waiting.length < MAX_WAITING) waiting.push(envelope);
    }
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => this.#flush());
  }

  #flush(): void {
    this.#scheduled = false;
    const local = this.#local;
    this.#local = [];
    for (const envelope of local) this.#deliver(envelope, this.#workerId);
    if (!this.#bus.up) {
      this.#outgoing.clear();
      return;
    }
    for (const [key, envelopes] of this.#outgoing) this.#publish(key, envelopes);
    this.#outgoing.clear();
  }

  #publish(key: string, envelopes: readonly Envelope[]): void {
    const at = key.indexOf('.');
    const [what, workerId] = [key.slice(0, at), key.slice(at + 1)];
    const subject = this.#subjects.tx(what, workerId);
    // Nobody answers to it but the broker, when nobody listens.
    const reply = `${this.#bus.inbox}.x.${workerId}`;
    for (const frame of framesOf(envelopes)) {
      this.#bus.publish(subject, encodeEnvelopes(frame), { reply });
    }
  }

  #onFrame(message: Msg): void {
    const { subject, data } = message;
    const { envelopes, refused } = decodeEnvelopes(data);
    this.refused += refused;
    const bounced = subject.startsWith(this.#subjects.tx(BOUNCED, ''));
    const from = message.reply ?? '';
    for (const envelope of envelopes) {
      if (bounced) this.#onBounced(envelope);
      else this.#deliver(envelope, from);
    }
  }

  #deliver(envelope: Envelope, _from: string): void {
    if (envelope.partition === undefined) this.#events.toCoordinator(envelope.message);
    else if (!this.#events.toPartition(envelope.partition, envelope.message))
      this.#bounce(envelope);
  }

  /** A coordinator need not wait for its own timer to learn that it asked the wrong one. */
  #bounce(envelope: Envelope): void {
    const { message } = envelope;
    if (message.kind !== 'lock' && message.kind !== 'prepare') return;
    const { coordinator } = message;
    if (coordinator === this.#workerId) this.#onBounced(envelope);
    else {
      const short: Envelope = {
        partition: envelope.partition as number,
        message: { kind: 'release', tx: message.tx },
      };
      this.#bus.publish(this.#subjects.tx(BOUNCED, coordinator), encodeEnvelopes([short]));
    }
  }

  #onBounced({ partition, message }: Envelope): void {
    if (partition !== undefined) this.#events.onBounced(partition, message.tx);
  }
}

function* framesOf(envelopes: readonly Envelope[]): Generator<Envelope[]> {
  let frame: Envelope[] = [];
  let bytes = 0;
  for (const envelope of envelopes) {
    const size = sizeOf(envelope);
    if (frame.length > 0 && bytes + size > MAX_FRAME_BYTES) {
      yield frame;
      frame = [];
      bytes = 0;
    }
    frame.push(envelope);
    bytes += size;
  }
  if (frame.length > 0) yield frame;
}

function sizeOf({ message }: Envelope): number {
  if (message.kind === 'granted') {
    return ENVELOPE_BYTES + writeBytes(message.key, message.value);
  }
  if (message.kind !== 'prepare') return ENVELOPE_BYTES;
  const writes = message.writes.reduce((sum, [key, value]) => sum + writeBytes(key, value), 0);
  return ENVELOPE_BYTES + writes + message.emits.reduce((sum, emit) => sum + emit.length, 0);
}
