/**
 * Follows some subjects of a stream from a sequence on, in order and without a gap, for as long as it is wanted. A pull
 * consumer of its own without acknowledgements: what was handled is known elsewhere. It asks for as much as there is room
 * for, so a backlog costs nothing here; when the consumer is lost, or falls silent, another one begins behind what was read.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { nuid, type Msg, type MsgHdrs, type Subscription } from 'nats';
import { z } from 'zod';
import { MillraceError } from '../core/errors.ts';
import type { Bus } from './connection.ts';
import { apiSchema, JetStreamApi } from './jetstream-api.ts';
import { writeControl } from './messages.ts';
import { deliveredAs } from './stream-reader.ts';

export interface StreamEvent {
  sequence: number;
  subject: string;
  headers: MsgHdrs | undefined;
  data: Uint8Array;
  /** When the stream stored it. */
  time: Date;
  /** How many follow it in the stream, for these subjects. */
  pending: number;
}

export interface TailOptions {
  stream: string;
  subjects: readonly string[];
  /** The first sequence that is wanted. */
  from: number;
  /** How many events may come now. */
  readonly room: () => number;
  readonly onEvent: (event: StreamEvent) => void;
  /** Reading does not go on for now; it is tried again. */
  readonly onProblem: (error: Error) => void;
}

/** So many at most are asked for in one go. */
const BATCH_MESSAGES = 512;
const EXPIRES_NS = 60_000_000_000;
const HEARTBEAT_MS = 10_000;
/** In a cluster a consumer is lost with its server, while the connection goes to another one. */
const CLUSTER_HEARTBEAT_MS = 1_000;
/** In heartbeats: a consumer that is lost though the connection is not. */
const SILENT_HEARTBEATS = 2.5;
const RETRY_MS = 500;
const MIN_AGAIN_MS = 250;
/** One that was forgotten ends by itself. */
const CONSUMER_IDLE_NS = 90_000_000_000;
const EXPIRED = 408;
const HEARTBEAT = 100;

const consumerSchema = apiSchema.extend({
  name: z.string().optional(),
  num_pending: z.number().optional(),
  cluster: z.object({ leader: z.string().optional() }).optional(),
});

export class StreamTail {
  /** How many events follow what was read last. */
  pending = 0;
  readonly #bus: Bus;
  readonly #api: JetStreamApi;
  readonly #options: TailOptions;
  #next: number;
  #consumer: string | undefined;
  #messages: Subscription | undefined;
  #inbox = '';
  #expected = 1;
  /** Of the pull that is under way. */
  #asked = 0;
  #silence: NodeJS.Timeout | undefined;
  #heartbeatMs = HEARTBEAT_MS;
  readonly #stopListening: () => void;
  #closed = false;
  #begunAtMs = Number.NEGATIVE_INFINITY;
  /** Counts the consumers: what an earlier one's creation still brings is not heeded. */
  #generation = 0;

  constructor(bus: Bus, options: TailOptions) {
    this.#bus = bus;
    this.#api = new JetStreamApi(bus);
    this.#options = options;
    this.#next = options.from;
    this.#stopListening = bus.onStatus((up) => {
      if (up) this.#again();
    });
    void this.#begin();
  }

  /** There is room again. */
  more(): void {
    if (this.#consumer === undefined || this.#asked > 0) return;
    const batch = Math.min(BATCH_MESSAGES, this.#options.room());
    if (batch === 0 || !this.#bus.up) return;
    this.#asked = batch;
    const request = { batch, expires: EXPIRES_NS, idle_heartbeat: this.#heartbeatMs * 1_000_000 };
    const subject = `$JS.API.CONSUMER.MSG.NEXT.${this.#options.stream}.${this.#consumer}`;
    this.#bus.publish(subject, writeControl(request), { reply: this.#inbox });
    this.#silence?.refresh();
  }

  close(): void {
    this.#closed = true;
    this.#stopListening();
    this.#end();
  }

  async #begin(): Promise<void> {
    if (this.#closed) return;
    this.#generation += 1;
    const generation = this.#generation;
    const waitMs = this.#begunAtMs + MIN_AGAIN_MS - performance.now();
    this.#begunAtMs = performance.now() + Math.max(0, waitMs);
    // One that is lost as soon as it is made must not be made as fast as can be.
    if (waitMs > 0) await delay(waitMs, undefined, { ref: false });
    if (generation !== this.#generation) return;
    const { stream, subjects, onProblem } = this.#options;
    try {
      const { name, num_pending, cluster, error } = await this.#api.ask(
        `CONSUMER.CREATE.${stream}`,
        {
          stream_name: stream,
          config: {
            deliver_policy: 'by_start_sequence',
            opt_start_seq: Math.max(1, this.#next),
            ack_policy: 'none',
            filter_subjects: subjects,
            mem_storage: true,
            num_replicas: 1,
            inactive_threshold: CONSUMER_IDLE_NS,
          },
        },
        consumerSchema,
      );
      if (name === undefined) {
        throw new MillraceError(
          'UNAVAILABLE',
          `The stream ${stream} cannot be read: ${error?.description ?? 'no consumer was made'}.`,
        );
      }
      if (this.#closed || generation !== this.#generation) return;
      this.pending = num_pending ?? 0;
      this.#consumer = name;
      this.#heartbeatMs = cluster === undefined ? HEARTBEAT_MS : CLUSTER_HEARTBEAT_MS;
    } catch (error) {
      if (this.#closed || generation !== this.#generation) return;
      onProblem(error as Error);
      await delay(RETRY_MS, undefined, { ref: false });
      // Meanwhile the connection may have come back, and another attempt with it.
      if (generation === this.#generation) await this.#begin();
      return;
    }
    this.#expected = 1;
    this.#asked = 0;
    this.#inbox = `${this.#bus.inbox}.t.${nuid.next()}`;
    this.#messages = this.#bus.subscribe(this.#inbox, (message) => {
      // What was on its way when another consumer took its place.
      if (generation === this.#generation && this.#consumer !== undefined) this.#onMessage(message);
    });
    this.#silence = setTimeout(
      () => this.#onSilence(),
      SILENT_HEARTBEATS * this.#heartbeatMs,
    ).unref();
    this.more();
  }

  #onMessage(message: Msg): void {
    this.#silence?.refresh();
    const place = deliveredAs(message.reply);
    if (place === undefined) {
      const code = message.headers?.code;
      if (code === EXPIRED) {
        this.#asked = 0;
        this.more();
      } else if (code !== HEARTBEAT) this.#again();
      return;
    }
    if (place.consumerSequence !== this.#expected) {
      this.#again();
      return;
    }
    this.#expected += 1;
    this.#asked -= 1;
    this.#next = place.sequence + 1;
    this.pending = place.pending;
    this.#options.onEvent({
      sequence: place.sequence,
      subject: message.subject,
      headers: message.headers,
      data: message.data,
      time: place.time,
      pending: place.pending,
    });
    if (this.#asked === 0) this.more();
  }

  /** While nothing is asked for there is nothing to hear. */
  #onSilence(): void {
    if (this.#asked > 0) this.#again();
    else this.#silence?.refresh();
  }

  #again(): void {
    if (this.#closed) return;
    this.#end();
    void this.#begin();
  }

  #end(): void {
    clearTimeout(this.#silence);
    this.#messages?.unsubscribe();
    this.#messages = undefined;
    if (this.#consumer === undefined) return;
    const what = `CONSUMER.DELETE.${this.#options.stream}.${this.#consumer}`;
    this.#consumer = undefined;
    // Not waited for: one that is forgotten ends by itself.
    void this.#api.ask(what, {}, apiSchema).catch(() => {});
  }
}
