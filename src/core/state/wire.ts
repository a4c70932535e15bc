/**
 * Messages as MessagePack: arrays whose first member says what they are. They come from other processes, so every
 * field's type is checked; what does not fit is left out and counted by the reader.
 */
import { Packr } from 'msgpackr';
import { MAX_PARTITIONS } from '../key-ring.ts';
import { scanMsgpack } from '../msgpack-scan.ts';
import type {
  CoordinatorMessage,
  LockMode,
  MoveMessage,
  PartitionMessage,
  Refusal,
  VersionedWrite,
  Write,
} from './messages.ts';

/** To a partition, wherever its owner is, or to a coordinator. */
export type Envelope =
  | { partition: number; message: PartitionMessage }
  | { partition: undefined; message: CoordinatorMessage };

type Fields = readonly unknown[];
const packr = new Packr({ useRecords: false, moreTypes: false, variableMapSize: true });
/** A list of messages, in which are lists, of lists. The largest has a `prepare` with as many writes as a setting may allow. */
const LIMITS = { maxDepth: 4, maxValues: 512 * 1024 };
/** Of a transaction's id, or what a partition calls an item: those of ours are shorter. */
const MAX_ID_LENGTH = 128;
const MAX_KEY_LENGTH = 2_048;
/** No run has longer: what a session has locked is free then, whoever has forgotten it. */
const MAX_TTL_MS = 2 * 86_400_000;
/** What is sent to it goes to a subject with its id in it. */
const WORKER_ID = /^[A-Za-z0-9_-]{1,64}$/;
const MODES: readonly LockMode[] = ['shared', 'exclusive'];
const REASONS: readonly Refusal['why'][] = ['conflict', 'lost', 'full', 'overloaded', 'timeout'];

export function encodeEnvelopes(envelopes: readonly Envelope[]): Uint8Array {
  return packr.pack(
    envelopes.map(({ partition, message }) => [partition ?? -1, ...fieldsOf(message)]),
  );
}

/** Undefined for what is no list of envelopes; envelopes that do not fit are left out. */
export function decodeEnvelopes(bytes: Uint8Array): { envelopes: Envelope[]; refused: number } {
  const list = unpack(bytes);
  if (!Array.isArray(list)) return { envelopes: [], refused: 1 };
  const envelopes: Envelope[] = [];
  for (const each of list) {
    const envelope = Array.isArray(each) ? envelopeOf(each) : undefined;
    if (envelope !== undefined) envelopes.push(envelope);
  }
  return { envelopes, refused: list.length - envelopes.length };
}

function fieldsOf(message: PartitionMessage | CoordinatorMessage): Fields {
  const { kind, tx } = message;
  switch (kind) {
    case 'lock': {
      const { age, coordinator, key, mode, ttlMs } = message;
      return [kind, tx, age.startMs, age.first, coordinator, key, MODES.indexOf(mode), ttlMs];
    }
    case 'prepare': {
      const { coordinator, epoch, grant, home, participants, writers, writes, emits } = message;
      return [kind, tx, coordinator, epoch, grant, home, participants, writers, writes, emits];
    }
    case 'vote':
      return [kind, tx, message.from, message.yes, refusalFields(message.refusal)];
    case 'commit':
      return [kind, tx, message.home];
    case 'ended':
      return [kind, tx, message.from ?? -1];
    case 'resolve':
      return [kind, tx, message.coordinator];
    case 'granted': {
      const { partition, key, mode, value, version, epoch, grant, contention } = message;
      const numbers = [version, epoch, grant, contention];
      return [kind, tx, partition, key, MODES.indexOf(mode), value, ...numbers];
    }
    case 'queued':
      return [kind, tx, message.partition, message.key, message.behind];
    case 'wound':
      return [kind, tx, message.partition, message.key, message.by];
    case 'lost':
      return [kind, tx, message.epoch, message.grant, refusalFields(message.refusal)];
    case 'outcome':
      return [kind, tx, refusalFields(message.refusal)];
    case 'elsewhere':
      return [kind, tx, message.partition, message.key, message.to, message.generation];
    case 'fetch':
      return [kind, tx, message.generation, message.to, message.after];
    case 'items': {
      const { generation, from, after, items, last, version } = message;
      return [kind, tx, generation, from, after, items, last, version];
    }
    case 'left':
      return [kind, tx, message.generation, message.from];
    case 'arrived':
      return [kind, tx, message.generation, message.to];
    case 'release':
    case 'abort':
    default:
      return [kind, tx];
  }
}

/** Reads the fields one after the other; `ok` turns false at the first that is not what it should be. */
class Reader {
  ok = true;
  readonly #fields: Fields;
  #at: number;

  constructor(fields: Fields, at: number) {
    this.#fields = fields;
    this.#at = at;
  }

  id(): string {
    return this.#next(isId, '');
  }

  worker(): string {
    return this.#next((value) => typeof value === 'string' && WORKER_ID.test(value), '');
  }

  key(): string {
    return this.#next(isKey, '');
  }

  textOrNull(): string | null {
    return this.#next<string | null>((value) => value === null || typeof value === 'string', null);
  }

  count(): number {
    return this.#next((value) => Number.isSafeInteger(value) && (value as number) >= -1, 0);
  }

  time(): number {
    return this.#next((value) => Number.isFinite(value), 0);
  }

  ttlMs(): number {
    return this.#next((value) => Number.isFinite(value) && (value as number) <= MAX_TTL_MS, 0);
  }

  flag(): boolean {
    return this.#next((value) => typeof value === 'boolean', false);
  }

  mode(): LockMode {
    return MODES[this.#next((value) => value === 0 || value === 1, 0)] as LockMode;
  }

  partition(): number {
    return this.#next(isPartition, 0);
  }

  partitions(): number[] {
    const all = this.#list<number>(isPartition);
    if (all.length > MAX_PARTITIONS) this.ok = false;
    return all;
  }

  writes(): Write[] {
    return this.#list(
      (value) =>
        Array.isArray(value) &&
        isKey(value[0]) &&
        (value[1] === null || typeof value[1] === 'string'),
    );
  }

  items(): VersionedWrite[] {
    return this.#list(
      (value) =>
        Array.isArray(value) &&
        isKey(value[0]) &&
        typeof value[1] === 'string' &&
        Number.isSafeInteger(value[2]),
    );
  }

  bytesList(): Uint8Array[] {
    return this.#list((value) => value instanceof Uint8Array);
  }

  refusal(): Refusal | undefined {
    const value = this.#next<Fields | null>((each) => each === null || Array.isArray(each), null);
    if (value === null) return undefined;
    const [why, partition, key, other] = value;
    const known = REASONS.find((reason) => reason === why);
    if (known === undefined || !Number.isSafeInteger(partition)) {
      this.ok = false;
      return undefined;
    }
    return {
      why: known,
      partition: partition as number,
      ...(typeof key === 'string' ? { key } : {}),
      ...(typeof other === 'string' ? { other } : {}),
    };
  }

  #list<Value>(fits: (value: unknown) => boolean): Value[] {
    return this.#next<Value[]>((value) => Array.isArray(value) && value.every(fits), []);
  }

  #next<Value>(fits: (value: unknown) => boolean, otherwise: Value): Value {
    const value = this.#fields[this.#at];
    this.#at += 1;
    if (fits(value)) return value as Value;
    this.ok = false;
    return otherwise;
  }
}

function envelopeOf(fields: Fields): Envelope | undefined {
  const [partition, kind, tx] = fields;
  if (!Number.isSafeInteger(partition) || !isId(tx)) return undefined;
  const read = new Reader(fields, 3);
  const toPartition = (partition as number) >= 0;
  const message = toPartition
    ? partitionMessage(kind, tx, read)
    : coordinatorMessage(kind, tx, read);
  if (message === undefined || !read.ok) return undefined;
  return { partition: toPartition ? partition : undefined, message } as Envelope;
}

function partitionMessage(kind: unknown, tx: string, read: Reader): PartitionMessage | undefined {
  switch (kind) {
    case 'lock':
      return {
        kind,
        tx,
        age: { startMs: read.time(), first: read.id() },
        coordinator: read.worker(),
        key: read.key(),
        mode: read.mode(),
        ttlMs: read.ttlMs(),
      };
    case 'prepare':
      return {
        kind,
        tx,
        coordinator: read.worker(),
        epoch: read.count(),
        grant: read.count(),
        home: read.count(),
        participants: read.partitions(),
        writers: read.partitions(),
        writes: read.writes(),
        emits: read.bytesList(),
      };
    case 'vote':
      return withRefusal({ kind, tx, from: read.partition(), yes: read.flag() }, read.refusal());
    case 'commit':
      return { kind, tx, home: read.count() };
    case 'ended': {
      const from = read.count();
      return { kind, tx, from: from < 0 ? undefined : from };
    }
    case 'resolve':
      return { kind, tx, coordinator: read.worker() };
    case 'release':
    case 'abort':
      return { kind, tx };
    default:
      return moveMessage(kind, read);
  }
}

function moveMessage(kind: unknown, read: Reader): MoveMessage | undefined {
  const tx = '';
  switch (kind) {
    case 'fetch':
      return { kind, tx, generation: read.count(), to: read.count(), after: read.key() };
    case 'items':
      return {
        kind,
        tx,
        generation: read.count(),
        from: read.count(),
        after: read.key(),
        items: read.items(),
        last: read.flag(),
        version: read.count(),
      };
    case 'left':
      return { kind, tx, generation: read.count(), from: read.count() };
    case 'arrived':
      return { kind, tx, generation: read.count(), to: read.count() };
    default:
      return undefined;
  }
}

function coordinatorMessage(
  kind: unknown,
  tx: string,
  read: Reader,
): CoordinatorMessage | undefined {
  switch (kind) {
    case 'granted':
      return {
        kind,
        tx,
        partition: read.count(),
        key: read.key(),
        mode: read.mode(),
        value: read.textOrNull(),
        version: read.count(),
        epoch: read.count(),
        grant: read.count(),
        contention: read.count(),
      };
    case 'queued':
      return { kind, tx, partition: read.count(), key: read.key(), behind: read.id() };
    case 'wound':
      return { kind, tx, partition: read.count(), key: read.key(), by: read.id() };
    case 'lost': {
      const [epoch, grant, refusal] = [read.count(), read.count(), read.refusal()];
      return refusal === undefined ? undefined : { kind, tx, epoch, grant, refusal };
    }
    case 'elsewhere':
      return {
        kind,
        tx,
        partition: read.count(),
        key: read.key(),
        to: read.count(),
        generation: read.count(),
      };
    case 'outcome':
      return withRefusal({ kind, tx }, read.refusal());
    default:
      return undefined;
  }
}

function withRefusal<Message extends object>(
  message: Message,
  refusal: Refusal | undefined,
): Message & { refusal?: Refusal } {
  return refusal === undefined ? message : { ...message, refusal };
}

function refusalFields(refusal: Refusal | undefined): Fields | null {
  if (refusal === undefined) return null;
  const { why, partition, key, other } = refusal;
  return [why, partition, key ?? null, other ?? null];
}

function isId(value: unknown): value is string {
  return typeof value === 'string' && value.length <= MAX_ID_LENGTH;
}

function isPartition(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < MAX_PARTITIONS;
}

function isKey(value: unknown): boolean {
  return typeof value === 'string' && value.length <= MAX_KEY_LENGTH;
}

function unpack(bytes: Uint8Array): unknown {
  if (scanMsgpack(bytes, LIMITS) !== undefined) return undefined;
  try {
    return packr.unpack(bytes);
  } catch {
    return undefined;
  }
}
