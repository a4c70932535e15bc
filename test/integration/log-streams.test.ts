/** The streams of logs and snapshots, and the snapshots in them. */
import { connect, type JetStreamManager, type NatsConnection, type StreamConfig } from 'nats';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Bus } from '../../src/bus/connection.ts';
import { ensureLogStreams } from '../../src/bus/ensure-streams.ts';
import { LogStreams } from '../../src/bus/log-streams.ts';
import type { SnapshotStore } from '../../src/bus/snapshot-store.ts';
import { parseSettings } from '../../src/core/settings.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';

let broker: TestBroker;
let nats: NatsConnection;
let manager: JetStreamManager;
let bus: Bus;
let streams: LogStreams;
let namespace = '';
let count = 0;

beforeAll(async () => {
  broker = await startTestBroker();
  nats = await connect({ servers: broker.url, maxReconnectAttempts: -1, reconnectTimeWait: 50 });
  manager = await nats.jetstreamManager();
  bus = await Bus.open({ servers: broker.url, name: 'test', namespace: 'millrace' });
});
afterAll(async () => {
  await bus.close();
  await nats.close();
  await broker.stop();
});
beforeEach(() => {
  count += 1;
  namespace = `test-${count}`;
});

const settings = (): ReturnType<typeof parseSettings> => parseSettings({ namespace });

describe('the streams', () => {
  it('are made once by any number of workers, so that no message can remove another', async () => {
    await Promise.all(Array.from({ length: 8 }, async () => ensureLogStreams(bus, settings())));
    await ensureLogStreams(bus, settings());
    for (const [stream, subject] of [
      ['log', 'log'],
      ['snapshots', 'snapshot'],
    ]) {
      const { config } = await manager.streams.info(`${namespace}-${stream}`);
      expect(config).toMatchObject({
        subjects: [`${namespace}.${subject}.*`],
        storage: 'file',
        retention: 'limits',
        discard: 'new',
        num_replicas: 1,
        max_age: 0,
        max_msgs: -1,
        max_bytes: -1,
        max_msgs_per_subject: -1,
        deny_delete: true,
        deny_purge: false,
        allow_rollup_hdrs: false,
        allow_direct: false,
        duplicate_window: 100_000_000,
      });
      // Newer than the client's types; left out where they are off.
      const newer = config as { allow_msg_ttl?: boolean; allow_msg_schedules?: boolean };
      expect([newer.allow_msg_ttl ?? false, newer.allow_msg_schedules ?? false]).toEqual([
        false,
        false,
      ]);
    }
  });

  const DANGERS: [string, object][] = [
    ['subjects', { subjects: ['{ns}.log.1'] }],
    ['subjects', { subjects: ['{ns}.log.*', '{ns}.other'] }],
    ['storage', { storage: 'memory' }],
    ['max_age', { max_age: 3_600_000_000_000 }],
    ['max_msgs', { max_msgs: 1_000 }],
    ['max_bytes', { max_bytes: 1_000_000_000 }],
    ['max_msgs_per_subject', { max_msgs_per_subject: 10 }],
    ['discard', { discard: 'old' }],
    ['retention', { retention: 'interest' }],
    ['retention', { retention: 'workqueue' }],
    ['deny_delete', { deny_delete: false }],
    ['deny_purge', { deny_purge: true }],
    ['allow_rollup_hdrs', { allow_rollup_hdrs: true }],
    ['allow_msg_ttl', { allow_msg_ttl: true }],
    ['allow_msg_schedules', { allow_msg_schedules: true }],
    ['no_ack', { no_ack: true }],
    ['persist_mode', { persist_mode: 'async' }],
    ['max_msg_size', { max_msg_size: 100_000 }],
    ['republish', { republish: { src: '>', dest: 'copies.>' } }],
    [
      'subject_transform',
      { subject_transform: { src: '{ns}.log.*', dest: 'elsewhere.{{wildcard(1)}}' } },
    ],
  ];
  it.each(DANGERS)('are refused where %s is %j', async (field, danger) => {
    const config = { subjects: ['{ns}.log.*'], deny_delete: true, discard: 'new', ...danger };
    const named = JSON.parse(
      JSON.stringify({ ...config, name: `${namespace}-log` }).replaceAll('{ns}', namespace),
    ) as StreamConfig;
    await manager.streams.add(named);
    const refusal = await ensureLogStreams(bus, settings()).then(
      () => expect.unreachable(),
      (error: unknown) => error,
    );
    expect(refusal).toMatchObject({ code: 'STREAM_UNUSABLE', retryable: false });
    expect((refusal as Error).message).toContain(`The stream ${namespace}-log has`);
    expect((refusal as Error).message).toContain(field);
  });

  it('are refused where they have fewer replicas than asked for', async () => {
    await ensureLogStreams(bus, settings());
    const refusal = ensureLogStreams(bus, parseSettings({ namespace, replicas: 3 }));
    await expect(refusal).rejects.toMatchObject({ code: 'STREAM_UNUSABLE' });
  });

  it('that somebody else’s stream is in the way of cannot be made', async () => {
    await manager.streams.add({ name: `${namespace}-all`, subjects: [`${namespace}.>`] });
    await expect(ensureLogStreams(bus, settings())).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringContaining('overlap') as string,
    });
  });
});

describe('a snapshot', () => {
  let store: SnapshotStore;
  beforeEach(async () => {
    streams = await LogStreams.open(bus, settings());
    store = streams.snapshots(1);
    return () => streams.close();
  });

  async function* parts(name: string, length: number): AsyncGenerator<Uint8Array> {
    for (let index = 0; index < length; index += 1) {
      await Promise.resolve();
      yield Buffer.from(`${name} ${index}`);
    }
  }
  const named = (name: string, length: number): string[] =>
    Array.from({ length }, (_, index) => `${name} ${index}`);
  type Pointer = Awaited<ReturnType<SnapshotStore['write']>>;
  async function read(pointer: Pointer): Promise<string[]> {
    const found: string[] = [];
    await store.read(pointer, (chunk) => found.push(Buffer.from(chunk).toString()));
    return found;
  }

  it('is read as it was written, also after the broker’s restart', async () => {
    const pointer = await store.write(parts('a', 50));
    expect(pointer.chunks).toBe(50);
    expect(await read(pointer)).toEqual(named('a', 50));
    await broker.restart();
    await until('it is back', () => store.removeBefore(0).then(() => bus.up));
    expect(await read(pointer)).toEqual(named('a', 50));
  });

  it('may be a list that is no stream, and one part only', async () => {
    expect(await read(await store.write([Buffer.from('alone')]))).toEqual(['alone']);
    await expect(store.write([])).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  });

  it('is told from one that another owner writes at the same time', async () => {
    const other = (await LogStreams.open(bus, settings())).snapshots(1);
    const [mine, theirs] = await Promise.all([
      store.write(parts('a', 40)),
      other.write(parts('b', 40)),
    ]);
    expect(
      mine.firstSequence < theirs.lastSequence && theirs.firstSequence < mine.lastSequence,
    ).toBe(true);
    expect(await read(mine)).toEqual(named('a', 40));
    expect(await read(theirs)).toEqual(named('b', 40));
  });

  it('removes those before it, of its own partition only', async () => {
    const first = await store.write(parts('a', 5));
    const elsewhere = await streams.snapshots(2).write(parts('c', 5));
    const second = await store.write(parts('b', 5));
    await store.removeBefore(second.firstSequence);
    expect(await read(second)).toEqual(named('b', 5));
    await expect(read(first)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    await streams.snapshots(2).read(elsewhere, () => {});
    // Nothing to remove is no reason to remove all.
    await store.removeBefore(0);
    expect(await read(second)).toEqual(named('b', 5));
  });

  it('with a part missing, repeated or changed is not read', async () => {
    const subject = `${namespace}.snapshot.1`;
    const pointer = await store.write(parts('a', 3));
    const stored = await Promise.all(
      [0, 1, 2].map(async (index) =>
        manager.streams.getMessage(`${namespace}-snapshots`, {
          seq: pointer.firstSequence + index,
        }),
      ),
    );
    const copy = async (order: number[], change = false): Promise<Pointer> => {
      const sequences: number[] = [];
      for (const index of order) {
        const bytes = Buffer.from(stored[index]?.data ?? []);
        if (change) bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
        sequences.push((await nats.jetstream().publish(subject, bytes)).seq);
      }
      return { firstSequence: sequences[0] ?? 0, lastSequence: sequences.at(-1) ?? 0, chunks: 3 };
    };
    expect(await read(await copy([0, 1, 2]))).toEqual(named('a', 3));
    for (const order of [
      [0, 2],
      [0, 1],
      [0, 1, 1, 2],
      [0, 2, 1],
      [1, 2],
    ]) {
      await expect(read(await copy(order)), order.join()).rejects.toMatchObject({
        code: 'UNAVAILABLE',
      });
    }
    await expect(read(await copy([0, 1, 2], true))).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });

  it('whose source fails, or whose part is too large, is not written', async () => {
    await expect(
      store.write(
        (function* () {
          yield Buffer.from('a');
          throw new Error('source');
        })(),
      ),
    ).rejects.toThrow('source');
    const large = store.write([Buffer.alloc(9 * 1024 * 1024)]);
    await expect(large).rejects.toMatchObject({ code: 'PAYLOAD_TOO_LARGE' });
  });
});
