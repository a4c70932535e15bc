/**
 * Journals of workers and claims of partitions in JetStream: SPEC.md, I1. One stream for all of them, a subject for each, a
 * message for each append; another stream likewise for snapshots (snapshot-store.ts).
 *
 * What JetStream is known to do (nats-server 2.14): a fence holds on a literal subject, with one append in flight; purging
 * all of a subject resets its fence; an append without an answer may have landed; a Direct Get may be stale. Hence raw
 * headers, trimming that keeps the last message, reading back from the leader, and no message ids.
 *
 * A message whose checksum does not fit was never appended: somebody else has put it there, with a writer's rights or by naming
 * a log as his reply subject (SECURITY.md). It is left out. That it is no damaged append is JetStream's promise, which has
 * checksums of its own and drops what is damaged; and an append that is not there shows, as its journal counts them.
 *
 * A read from the leader is the last word only on a stream that is not replicated. On three servers, a leader that was
 * stopped and went on answered with an old last sequence, asked after a newer append had been acknowledged elsewhere, in 3
 * of 8 rounds; none of its appends was accepted. So what must be certain there (`confirm`) takes an append; everything
 * else here is safe with an old answer, because a fenced append follows it, or because less is trimmed.
 */
import { z } from 'zod';
import { MillraceError } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import type { LogPort } from '../core/state/log-port.ts';
import { closeWithChecksum, CRC_BYTES, isWhole } from '../core/state/whole.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';
import type { Bus } from './connection.ts';
import { ensureLogStreams, logStreamNames, type LogStreamNames } from './ensure-streams.ts';
import { apiSchema, JetStreamApi, type StoredMessage } from './jetstream-api.ts';
import { LogWriter, type LogCounts } from './log-writer.ts';
import type { Retention } from './retention.ts';
import { SnapshotStore } from './snapshot-store.ts';
import { StreamReader } from './stream-reader.ts';

const endSchema = apiSchema.extend({ state: z.object({ last_seq: z.number() }).optional() });

const JOURNAL = 'journal-';
/** Its subject, beside journals and claims. */
const MARK = 'mark';
/** What JetStream's words begin with. */
const OPENING_BRACE = 0x7b;
/** A zero, and its checksum. */
const MARK_BYTES = closeWithChecksum(Buffer.alloc(1 + CRC_BYTES));

export function journalName(id: string): string {
  return `${JOURNAL}${id}`;
}

export function claimsName(partition: number): string {
  return `claims-${partition}`;
}

export interface LogParts {
  /** As `journalName` and `claimsName` have it. */
  names: readonly string[];
  readonly onAppend: (name: string, sequence: number, bytes: Uint8Array) => void;
}

/** All journals, claims and snapshots, over one connection. */
export class LogStreams {
  readonly #api: JetStreamApi;
  readonly #reader: StreamReader;
  readonly #writer: LogWriter;
  readonly #subjects: Subjects;
  readonly #names: LogStreamNames;
  readonly #retention: Retention | undefined;
  /** One for each partition, so that all who ask here know of the newest claim that was seen here. */
  readonly #claims = new Map<number, SubjectLog>();

  private constructor(bus: Bus, settings: Settings, retention: Retention | undefined) {
    this.#retention = retention;
    this.#api = new JetStreamApi(bus);
    this.#reader = new StreamReader(bus, this.#api);
    this.#writer = new LogWriter(bus, settings, this.#api);
    this.#subjects = subjectsOf(settings.namespace);
    this.#names = logStreamNames(settings);
  }

  /** Creates or checks the streams. `retention` says when something may be removed. Throws as `ensureLogStreams` does. */
  static async open(bus: Bus, settings: Settings, retention?: Retention): Promise<LogStreams> {
    await ensureLogStreams(bus, settings);
    return new LogStreams(bus, settings, retention);
  }

  get counts(): Readonly<LogCounts> {
    return this.#writer.counts;
  }

  /** The highest sequence of an append of this worker's that is known to be stored. */
  get acknowledged(): number {
    return this.#writer.acknowledged;
  }

  /** The last sequence of the stream of journals and claims. Throws UNAVAILABLE or TIMEOUT. */
  async end(): Promise<number> {
    const { log } = this.#names;
    const { state, error } = await this.#api.ask(`STREAM.INFO.${log}`, {}, endSchema);
    if (state !== undefined) return state.last_seq;
    const why = error?.description ?? 'its state is not known';
    throw new MillraceError('UNAVAILABLE', `The stream ${log} does not serve: ${why}.`);
  }

  journal(id: string): SubjectLog {
    return this.#log(journalName(id));
  }

  claims(partition: number): SubjectLog {
    const known = this.#claims.get(partition);
    if (known !== undefined) return known;
    const log = this.#log(claimsName(partition), false);
    this.#claims.set(partition, log);
    return log;
  }

  snapshots(partition: number): SnapshotStore {
    const subject = this.#subjects.snapshot(String(partition));
    return new SnapshotStore(
      this.#names.snapshots,
      subject,
      this.#api,
      this.#reader,
      this.#writer,
      this.#retention,
    );
  }

  /**
   * A message of its own behind all that has been appended, and its sequence. Stored, not asked for: of several servers one that
   * was stopped answers with the past. Throws AppendError.
   */
  mark(): Promise<number> {
    return this.#writer.store(this.#names.log, this.#subjects.log(MARK), MARK_BYTES);
  }

  /** All but the last of them. Throws UNAVAILABLE or TIMEOUT. */
  trimMarks(): Promise<void> {
    return this.#log(MARK).trim(Number.MAX_SAFE_INTEGER);
  }

  /** Everything from `from` to `mark`, one of those. Complete, or it rejects as StreamReader.read does. */
  readTo(mark: number, from: number, what: LogParts): Promise<void> {
    // `*` is the mark, too.
    const wanted = what.names.includes('*') ? ['*'] : [...what.names, MARK];
    const subjects = wanted.map((name) => this.#subjects.log(name));
    const prefix = this.#subjects.log('');
    return this.#reader.read(
      this.#names.log,
      subjects,
      from,
      mark,
      (sequence, bytes, { subject }) => {
        const name = subject.slice(prefix.length);
        if (name !== MARK && isWhole(bytes)) what.onAppend(name, sequence, bytes);
      },
      { reach: true },
    );
  }

  #log(name: string, isCounted = true): SubjectLog {
    const subject = this.#subjects.log(name);
    return new SubjectLog(
      this.#names.log,
      subject,
      this.#api,
      this.#reader,
      this.#writer,
      this.#retention,
      isCounted,
    );
  }

  /** What is under way ends as unknown. */
  close(): void {
    this.#writer.close();
  }
}

/** One subject, for one writer: no two appends of it may be under way at once. */
export class SubjectLog implements LogPort {
  readonly #stream: string;
  readonly #subject: string;
  readonly #api: JetStreamApi;
  readonly #reader: StreamReader;
  readonly #writer: LogWriter;
  readonly #retention: Retention | undefined;
  /** A gap between its appends shows: those of a journal have numbers, claims have none. */
  readonly #isCounted: boolean;
  /** The last sequence where nothing of ours is there; else 0. */
  #foreignOnly = 0;
  /** The highest sequence that was seen on the subject. */
  #seen = 0;

  constructor(
    stream: string,
    subject: string,
    api: JetStreamApi,
    reader: StreamReader,
    writer: LogWriter,
    retention?: Retention,
    isCounted = true,
  ) {
    this.#retention = retention;
    this.#isCounted = isCounted;
    this.#stream = stream;
    this.#subject = subject;
    this.#api = api;
    this.#reader = reader;
    this.#writer = writer;
  }

  /**
   * The last append, at the sequence that the next one has to follow; undefined for an empty log. From the leader, and never one
   * before what was seen here already: a server that was cut off while it led the stream answers with the past for some seconds,
   * and what is trimmed by that may be needed. Throws UNAVAILABLE or TIMEOUT.
   */
  async last(): Promise<StoredMessage | undefined> {
    const last = await this.#api.last(this.#stream, this.#subject);
    const fence = last?.sequence ?? 0;
    if (fence < this.#seen) {
      throw new MillraceError('UNAVAILABLE', `${this.#subject} was answered from the past.`);
    }
    this.#see(fence);
    if (last === undefined || isWhole(last.bytes)) return last;
    const { own, strange } = await this.#lastOwn(fence);
    if (own === undefined) await this.#assertNeverOurs(fence, strange);
    this.#foreignOnly = own === undefined ? fence : 0;
    return own && { ...last, bytes: own };
  }

  /**
   * What was appended last, up to `to`. `strange`: something else is there that is no word of JetStream's, which anybody can have put
   * there.
   */
  async #lastOwn(to: number): Promise<{ own?: Uint8Array; strange: boolean; sequence: number }> {
    const found: { own?: Uint8Array; strange: boolean; sequence: number } = {
      strange: false,
      sequence: 0,
    };
    await this.#reader.read(this.#stream, this.#subject, 1, to, (sequence, bytes) => {
      if (isWhole(bytes)) {
        found.own = bytes;
        found.sequence = sequence;
      } else found.strange ||= bytes[0] !== OPENING_BRACE;
    });
    return found;
  }

  /** Nothing of ours is up to `fence`: because it never was, or because it was trimmed while it was looked for. */
  async #assertNeverOurs(fence: number, strange: boolean): Promise<void> {
    if ((await this.#api.next(this.#stream, this.#subject, fence + 1)) !== undefined) {
      throw new MillraceError('UNAVAILABLE', `${this.#subject} was written to meanwhile.`);
    }
    // A claim that was damaged must not pass for a partition that nobody has ever owned.
    if (!this.#isCounted && strange) {
      throw new MillraceError(
        'UNAVAILABLE',
        `${this.#subject} has nothing that can be read. If its partition was never owned, purge it with "nats stream purge ${this.#stream} --subject=${this.#subject}".`,
      );
    }
  }

  /** Resolves with the append's sequence. Throws AppendError (its `outcome` says what is known), PAYLOAD_TOO_LARGE. */
  async append(bytes: Uint8Array, expected: number): Promise<number> {
    const behind = expected === 0 ? this.#foreignOnly : expected;
    const sequence = await this.#writer.append(this.#stream, this.#subject, bytes, behind);
    this.#see(sequence);
    return sequence;
  }

  /**
   * The last sequence on the subject; 0 for an empty log. Asks the leader for what follows the last one seen here: in
   * the usual case nothing does, and the answer has no payload. May be out of date like `confirm`. Throws UNAVAILABLE or TIMEOUT.
   */
  async lastSequence(): Promise<number> {
    const seen = this.#seen;
    const newer = await this.#api.next(this.#stream, this.#subject, seen + 1);
    if (newer === undefined) return seen;
    return (await this.last())?.sequence ?? 0;
  }

  /**
   * Whether the last sequence on the subject is still `expected`. With `replicas` above 1 true may be out of date (see
   * above), false never is. Throws as `lastSequence` does.
   */
  async confirm(expected: number): Promise<boolean> {
    return (await this.#api.next(this.#stream, this.#subject, expected + 1)) === undefined;
  }

  /** See StreamReader.read. */
  read(
    from: number,
    to: number,
    onAppend: (sequence: number, bytes: Uint8Array) => void,
  ): Promise<void> {
    return this.#reader.read(this.#stream, this.#subject, from, to, (sequence, bytes) => {
      if (isWhole(bytes)) onAppend(sequence, bytes);
    });
  }

  /** Removes what lies before `before`, never the last append; not while a backup is taken. Throws UNAVAILABLE or TIMEOUT. */
  async trim(before: number): Promise<void> {
    const trim = (sequence: number): Promise<void> => this.#trim(sequence);
    await (this.#retention?.whenFree(this.#subject, before, trim) ?? trim(before));
  }

  async #trim(before: number): Promise<void> {
    // The last one is the fence: without it a former owner could write again. One that is no longer the last is as good.
    const last = await this.#api.last(this.#stream, this.#subject);
    if (last === undefined) return;
    const { sequence } = isWhole(last.bytes) ? last : await this.#lastOwn(last.sequence);
    if (sequence === 0) return;
    await this.#api.purge(this.#stream, this.#subject, Math.min(before, sequence));
  }

  #see(sequence: number): void {
    this.#seen = Math.max(this.#seen, sequence);
  }
}
