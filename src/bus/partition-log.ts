/**
 * Partition logs and snapshots in JetStream: SPEC.md, I1. One stream for all logs, a subject for each partition, a message
 * for each append; another stream likewise for snapshots.
 *
 * What JetStream is known to do (nats-server 2.14): a fence holds on a literal subject, with one append in flight; purging
 * all of a subject resets its fence; an append without an answer may have landed; a Direct Get may be stale. Hence raw
 * headers, trimming that keeps the last message, reading back from the leader, and no message ids.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { headers as newHeaders, type Msg, type Subscription } from 'nats';
import { z } from 'zod';
import { MillraceError } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import type {
  LogPort,
  SnapshotPointer,
  SnapshotPort,
  WrittenSnapshot,
} from '../core/state/owner.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';
import type { Bus } from './connection.ts';
import { apiErrorSchema, apiSchema, JetStreamApi } from './jetstream-api.ts';
import { readControl } from './messages.ts';
import { isNoResponders } from './status.ts';
import { StreamReader } from './stream-reader.ts';

/** JetStream's error codes. */
const WRONG_LAST_SEQUENCE = 10071;
const IN_FLIGHT_ELSEWHERE = 10164;
const NO_MESSAGE = 10037;
const STREAM_EXISTS = 10058;

const EXPECT = 'Nats-Expected-Last-Subject-Sequence';
const SWEEP_MS = 50;
const RETRY_MIN_MS = 20;
const RETRY_MAX_MS = 500;
/** How long an append's fate is looked for before the ownership is given up. */
const READ_BACK_MS = 10_000;
/** Snapshot chunks that are under way at once. */
const SNAPSHOT_WINDOW = 8;
/** Each part of a snapshot begins with the snapshot's own random id. */
const ID_BYTES = 8;

const ackSchema = z.object({
  seq: z.number().int().optional(),
  error: apiErrorSchema.optional(),
});
const messageSchema = z.object({
  message: z.object({ seq: z.number().int(), data: z.string().optional() }).optional(),
  error: apiErrorSchema.optional(),
});

interface Unanswered {
  deadlineMs: number;
  resolve: (message: Msg | undefined) => void;
}

/** The append was not made, and will not be: another one has followed the one that it was to follow. */
export class AppendRefused extends Error {
  override readonly name = 'AppendRefused';
}

export class LogStreams {
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #subjects: Subjects;
  readonly #api: JetStreamApi;
  readonly #reader: StreamReader;
  readonly #answers: Subscription;
  readonly #unanswered = new Map<number, Unanswered>();
  readonly #sweep: NodeJS.Timeout;
  readonly #logStream: string;
  readonly #snapshotStream: string;
  #nextToken = 1;

  private constructor(bus: Bus, settings: Settings) {
    this.#bus = bus;
    this.#settings = settings;
    this.#api = new JetStreamApi(bus);
    this.#reader = new StreamReader(bus, this.#api);
    this.#subjects = subjectsOf(settings.namespace);
    this.#logStream = `${settings.namespace}-log`;
    this.#snapshotStream = `${settings.namespace}-snapshots`;
    this.#answers = bus.subscribe(`${bus.inbox}.l.*`, (message) => {
      const token = Number(message.subject.slice(message.subject.lastIndexOf('.') + 1));
      this.#answer(token, isNoResponders(message) ? undefined : message);
    });
    this.#sweep = setInterval(() => {
      const now = performance.now();
      for (const [token, { deadlineMs }] of this.#unanswered) {
        if (now >= deadlineMs) this.#answer(token, undefined);
      }
    }, SWEEP_MS);
  }

  /** Creates the streams where they are missing. Throws UNAVAILABLE where JetStream does not serve. */
  static async open(bus: Bus, settings: Settings): Promise<LogStreams> {
    const streams = new LogStreams(bus, settings);
    try {
      await streams.#create(streams.#logStream, streams.#subjects.log('*'));
      await streams.#create(streams.#snapshotStream, streams.#subjects.snapshot('*'));
    } catch (error) {
      streams.close();
      throw error;
    }
    return streams;
  }

  log(partition: number): LogPort {
    const subject = this.#subjects.log(String(partition));
    const stream = this.#logStream;
    return {
      last: async () => this.#last(stream, subject),
      read: async (from, to, onAppend) => this.#reader.read(stream, subject, from, to, onAppend),
      append: async (bytes, expected) => this.#append(subject, bytes, expected),
      lastSequence: async () => (await this.#last(stream, subject))?.sequence ?? 0,
      trim: async (before) => this.#trim(stream, subject, before),
    };
  }

  snapshots(partition: number): SnapshotPort {
    const subject = this.#subjects.snapshot(String(partition));
    const stream = this.#snapshotStream;
    return {
      write: async (chunks) => this.#writeSnapshot(subject, chunks),
      read: async (pointer, onChunk) => this.#readSnapshot(stream, subject, pointer, onChunk),
      removeBefore: async (sequence) => this.#purge(stream, subject, sequence),
    };
  }

  close(): void {
    clearInterval(this.#sweep);
    this.#answers.unsubscribe();
    for (const token of this.#unanswered.keys()) this.#answer(token, undefined);
  }

  async #create(name: string, subjects: string): Promise<void> {
    const { replicas } = this.#settings;
    const config = {
      name,
      subjects: [subjects],
      retention: 'limits',
      storage: 'file',
      discard: 'new',
      num_replicas: replicas,
      max_consumers: -1,
      max_msgs: -1,
      max_bytes: -1,
      max_age: 0,
      allow_rollup_hdrs: false,
      allow_direct: false,
      deny_delete: true,
      compression: 'none',
    };
    const answer = await this.#api.ask(`STREAM.CREATE.${name}`, config, apiSchema);
    const { error } = answer;
    if (error === undefined) return;
    if (error.err_code !== STREAM_EXISTS) {
      throw new MillraceError(
        'UNAVAILABLE',
        `The stream ${name} cannot be created: ${error.description ?? `error ${error.err_code}`}.`,
      );
    }
  }

  async #append(subject: string, bytes: Uint8Array, expected: number): Promise<number> {
    const stream = this.#logStream;
    const until = performance.now() + READ_BACK_MS;
    for (let waitMs = RETRY_MIN_MS; ; waitMs = Math.min(RETRY_MAX_MS, waitMs * 2)) {
      const answer = await this.#publish(subject, bytes, expected);
      const ack = answer === undefined ? undefined : readControl(ackSchema, answer.data);
      if (ack?.seq !== undefined) return ack.seq;
      const code = ack?.error?.err_code;
      if (code === WRONG_LAST_SEQUENCE) {
        // A repetition of this append may have met itself.
        const landed = await this.#landed(stream, subject, bytes, expected, until);
        if (landed !== undefined) return landed;
        throw new AppendRefused('another owner has written to the log');
      }
      if (code !== IN_FLIGHT_ELSEWHERE) {
        const landed = await this.#landed(stream, subject, bytes, expected, until);
        if (landed !== undefined) return landed;
      }
      if (performance.now() >= until) throw new Error('the log did not take an append in time');
      await delay(waitMs * (0.5 + Math.random() / 2));
    }
  }

  /**
   * The sequence of this very append, undefined when nothing has followed `expected`. Throws AppendRefused when something
   * else has.
   */
  async #landed(
    stream: string,
    subject: string,
    bytes: Uint8Array,
    expected: number,
    until: number,
  ): Promise<number | undefined> {
    for (;;) {
      try {
        const last = await this.#last(stream, subject);
        if ((last?.sequence ?? 0) === expected) return undefined;
        if (last !== undefined && Buffer.compare(last.bytes, bytes) === 0) return last.sequence;
        throw new AppendRefused('another owner has written to the log');
      } catch (error) {
        if (error instanceof AppendRefused || performance.now() >= until) throw error;
        await delay(RETRY_MIN_MS);
      }
    }
  }

  /** Undefined: nothing is known. */
  #publish(subject: string, bytes: Uint8Array, expected?: number): Promise<Msg | undefined> {
    return new Promise((resolve) => {
      const token = this.#nextToken;
      this.#nextToken += 1;
      const deadlineMs = performance.now() + this.#settings.appendTimeoutMs;
      this.#unanswered.set(token, { deadlineMs, resolve });
      const headers = newHeaders();
      if (expected !== undefined) headers.set(EXPECT, String(expected));
      const reply = `${this.#bus.inbox}.l.${token}`;
      try {
        this.#bus.publish(subject, bytes, expected === undefined ? { reply } : { reply, headers });
      } catch {
        this.#answer(token, undefined);
      }
    });
  }

  #answer(token: number, message: Msg | undefined): void {
    const unanswered = this.#unanswered.get(token);
    this.#unanswered.delete(token);
    unanswered?.resolve(message);
  }

  async #last(
    stream: string,
    subject: string,
  ): Promise<{ sequence: number; bytes: Uint8Array } | undefined> {
    const question = { last_by_subj: subject };
    const { message, error } = await this.#api.ask(
      `STREAM.MSG.GET.${stream}`,
      question,
      messageSchema,
    );
    if (message !== undefined) {
      return { sequence: message.seq, bytes: Buffer.from(message.data ?? '', 'base64') };
    }
    if (error?.err_code === NO_MESSAGE) return undefined;
    throw new Error(`the log's end is not known: ${error?.description ?? 'no answer'}`);
  }

  async #trim(stream: string, subject: string, before: number): Promise<void> {
    const last = await this.#last(stream, subject);
    // The last message is the fence: without it a former owner could write again.
    if (last !== undefined) await this.#purge(stream, subject, Math.min(before, last.sequence));
  }

  /** Removes what lies before `sequence`. */
  async #purge(stream: string, subject: string, sequence: number): Promise<void> {
    const request = { filter: subject, seq: sequence };
    const { error } = await this.#api.ask(`STREAM.PURGE.${stream}`, request, apiSchema);
    if (error !== undefined) throw new Error(error.description ?? 'not purged');
  }

  async #writeSnapshot(
    subject: string,
    chunks: AsyncIterable<Uint8Array>,
  ): Promise<WrittenSnapshot> {
    const id = randomBytes(ID_BYTES);
    const sequences: number[] = [];
    const underWay = new Set<Promise<void>>();
    let failure: Error | undefined;
    for await (const chunk of chunks) {
      const task = this.#store(subject, Buffer.concat([id, chunk])).then(
        (sequence) => void sequences.push(sequence),
        (error: Error) => {
          failure = error;
        },
      );
      underWay.add(task);
      void task.finally(() => underWay.delete(task));
      if (underWay.size >= SNAPSHOT_WINDOW) await Promise.race(underWay);
      if (failure !== undefined) throw failure;
    }
    await Promise.all(underWay);
    if (failure !== undefined) throw failure;
    sequences.sort((left, right) => left - right);
    return {
      firstSequence: sequences[0] ?? 0,
      lastSequence: sequences.at(-1) ?? 0,
      chunks: sequences.length,
    };
  }

  async #store(subject: string, bytes: Uint8Array): Promise<number> {
    const answer = await this.#publish(subject, bytes);
    const sequence = answer === undefined ? undefined : readControl(ackSchema, answer.data)?.seq;
    if (sequence === undefined) throw new Error('a part of the snapshot was not stored');
    return sequence;
  }

  async #readSnapshot(
    stream: string,
    subject: string,
    { firstSequence, lastSequence, chunks }: SnapshotPointer,
    onChunk: (bytes: Uint8Array) => void,
  ): Promise<void> {
    let count = 0;
    let id: Buffer | undefined;
    await this.#reader.read(stream, subject, firstSequence, lastSequence, (_, bytes) => {
      const message = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      id ??= message.subarray(0, ID_BYTES);
      // Between them may lie parts of one that a former owner began.
      if (!message.subarray(0, ID_BYTES).equals(id)) return;
      count += 1;
      onChunk(message.subarray(ID_BYTES));
    });
    if (count !== chunks) {
      throw new Error(`the snapshot has ${count} parts instead of ${chunks}`);
    }
  }
}
