import { randomBytes } from 'node:crypto';
import { connect, type NatsConnection } from 'nats';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Bus } from '../../src/bus/connection.ts';
import { JetStreamApi } from '../../src/bus/jetstream-api.ts';
import { LogStreams, type SubjectLog } from '../../src/bus/log-streams.ts';
import { StreamReader } from '../../src/bus/stream-reader.ts';
import { parseSettings } from '../../src/core/settings.ts';
import { decodeAppend, encodeAppend } from '../../src/core/state/append.ts';
import { closeWithChecksum, CRC_BYTES } from '../../src/core/state/whole.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { Random } from '../support/random.ts';
import { until } from '../support/wait.ts';

const SETTINGS = parseSettings({ appendTimeoutMs: 300 });
const REFUSED = { outcome: 'refused', retryable: false };
const SEED = Number(process.env['MILLRACE_SEED'] ?? Date.now() % 1_000_000);

let broker: TestBroker;
let nats: NatsConnection;
const closing: (() => void | Promise<void>)[] = [];
let partition = 0;

beforeAll(async () => {
  broker = await startTestBroker();
  nats = await connect({ servers: broker.url, maxReconnectAttempts: -1, reconnectTimeWait: 50 });
});
afterAll(async () => {
  for (const close of closing) await close();
  await nats.close();
  await broker.stop();
});
beforeEach(() => {
  partition += 1;
});

/** A process of its own, as far as the broker can tell. `tap` may change its connection. */
async function member(tap: (bus: Bus) => void = () => {}): Promise<LogStreams> {
  const bus = await Bus.open({ servers: broker.url, name: 'test', namespace: 'millrace' });
  tap(bus);
  const streams = await LogStreams.open(bus, SETTINGS);
  closing.push(async () => {
    streams.close();
    await bus.close();
  });
  return streams;
}

async function writer(tap?: (bus: Bus) => void): Promise<SubjectLog> {
  return (await member(tap)).journal(String(partition));
}

/** As every append ends: with its checksum. */
const whole = (bytes: Uint8Array): Buffer =>
  closeWithChecksum(Buffer.concat([bytes, Buffer.alloc(CRC_BYTES)]));
const text = (value: string): Uint8Array => whole(Buffer.from(value));
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).subarray(0, -CRC_BYTES).toString();

async function contents(log: SubjectLog, from = 1): Promise<string[]> {
  const found: string[] = [];
  const to = await log.lastSequence();
  await log.read(from, to, (_, bytes) => found.push(textOf(bytes)));
  return found;
}

/** Lets `count` of the broker's answers to appends get lost. */
function losingAnswers(count: number): (bus: Bus) => void {
  let left = count;
  return (bus) => {
    const subscribe = bus.subscribe.bind(bus);
    bus.subscribe = (subject, handler, queue) =>
      subscribe(
        subject,
        (message) => {
          if (subject.includes('.l.') && left > 0) left -= 1;
          else handler(message);
        },
        queue,
      );
  };
}

/** Appends go through `pass` instead of to the broker. */
function intercepting(pass: (send: () => void) => void): (bus: Bus) => void {
  return (bus) => {
    const publish = bus.publish.bind(bus);
    bus.publish = (subject, payload, options) => {
      if (!subject.startsWith('millrace.log.')) publish(subject, payload, options);
      else pass(() => publish(subject, Uint8Array.from(payload), options));
    };
  };
}

describe('the fence', () => {
  it('lets one of two writers win, always', async () => {
    const [left, right] = [await writer(), await writer()];
    let sequence = 0;
    for (let round = 0; round < 50; round += 1) {
      const results = await Promise.allSettled([
        left.append(text(`left ${round}`), sequence),
        right.append(text(`right ${round}`), sequence),
      ]);
      const won = results.filter(({ status }) => status === 'fulfilled');
      expect(won).toHaveLength(1);
      const lost = results.find((result) => result.status === 'rejected');
      expect(lost?.reason).toMatchObject(REFUSED);
      const last = await left.last();
      expect(won[0]).toMatchObject({ value: last?.sequence });
      sequence = last?.sequence ?? 0;
    }
    expect(await contents(right)).toHaveLength(50);
  });

  it('refuses a former owner, at the first append and at every later one', async () => {
    const [zombie, owner] = [await writer(), await writer()];
    const first = await zombie.append(text('zombie'), 0);
    const second = await owner.append(text('owner'), first);
    for (let tries = 0; tries < 3; tries += 1) {
      await expect(zombie.append(text('late'), first)).rejects.toMatchObject(REFUSED);
    }
    expect(await zombie.confirm(first)).toBe(false);
    expect(await zombie.lastSequence()).toBe(second);
    expect(await owner.confirm(second)).toBe(true);
    expect(await contents(owner)).toEqual(['zombie', 'owner']);
  });

  it('refuses an append that expects a log where there is none', async () => {
    const log = await writer();
    await expect(log.append(text('x'), 7)).rejects.toMatchObject(REFUSED);
    expect(await log.last()).toBeUndefined();
    expect(await log.lastSequence()).toBe(0);
  });

  it('takes and gives back an append of the largest size', async () => {
    const log = await writer();
    const bytes = whole(randomBytes(4 * 1024 * 1024));
    const sequence = await log.append(bytes, 0);
    const last = await log.last();
    expect(last?.sequence).toBe(sequence);
    expect(bytes.equals(last?.bytes ?? Buffer.alloc(0))).toBe(true);
    await expect(log.append(Buffer.alloc(8 * 1024 * 1024), sequence)).rejects.toMatchObject({
      code: 'PAYLOAD_TOO_LARGE',
    });
  });
});

describe('an append without an answer', () => {
  it('that is in the log is found there, and not written again', async () => {
    const log = await writer(losingAnswers(1));
    const sequence = await log.append(text('once'), 0);
    expect(await log.lastSequence()).toBe(sequence);
    expect(await contents(log)).toEqual(['once']);
    await log.append(text('next'), sequence);
  });

  it('that is in the log is found there even behind another owner’s', async () => {
    const log = await writer(losingAnswers(1));
    const other = await writer();
    const appended = log.append(text('mine'), 0);
    const first = await until('it is there', async () => other.lastSequence());
    await other.append(text('theirs'), first);
    expect(await appended).toBe(first);
    await expect(log.append(text('more'), first)).rejects.toMatchObject(REFUSED);
    expect(await contents(other)).toEqual(['mine', 'theirs']);
  });

  it('that was overtaken by another owner is refused', async () => {
    let drop = true;
    const log = await writer(intercepting((send) => (drop ? undefined : send())));
    const other = await writer();
    await other.append(text('theirs'), 0);
    await expect(log.append(text('mine'), 0)).rejects.toMatchObject(REFUSED);
    drop = false;
    expect(await contents(other)).toEqual(['theirs']);
  });

  it('that did not arrive is sent again', async () => {
    let dropped = 0;
    const log = await writer(
      intercepting((send) => {
        if (dropped < 2) dropped += 1;
        else send();
      }),
    );
    const sequence = await log.append(text('once'), 0);
    expect(await log.lastSequence()).toBe(sequence);
    expect(await contents(log)).toEqual(['once']);
  });

  it('that arrives after its own repetition is not written twice', async () => {
    const held: (() => void)[] = [];
    const log = await writer(
      intercepting((send) => {
        if (held.length === 0) held.push(send);
        else send();
      }),
    );
    const sequence = await log.append(text('once'), 0);
    held[0]?.();
    await log.append(text('next'), sequence);
    expect(await contents(log)).toEqual(['once', 'next']);
  });

  it('that meets its own first copy knows it', async () => {
    const held: (() => void)[] = [];
    const log = await writer(
      intercepting((send) => {
        held.push(send);
        // The first one arrives just before the second.
        if (held.length === 2) for (const each of held) each();
        else if (held.length > 2) send();
      }),
    );
    const sequence = await log.append(text('once'), 0);
    expect(await contents(log)).toEqual(['once']);
    expect(await log.lastSequence()).toBe(sequence);
  });
});

describe('a broker that is killed', () => {
  it('has each append once and in order, whatever was under way', async () => {
    const logs = await Promise.all(
      [0, 1, 2, 3].map(async (index) => (await member()).journal(String(900 + index))),
    );
    const test = new AbortController();
    const runs = logs.map(async (log) => {
      let sequence = 0;
      let count = 0;
      for (; !test.signal.aborted; count += 1) {
        sequence = await log.append(text(`${count}`), sequence);
      }
      return count;
    });
    const appending = async (): Promise<void> => {
      const now = (): Promise<number> => (logs[0] as SubjectLog).lastSequence().catch(() => 0);
      const before = await until('the log answers', now);
      await until('it grows', async () => (await now()) > before);
    };
    for (let kill = 0; kill < 3; kill += 1) {
      await appending();
      process.kill(broker.pid, 'SIGKILL');
      await broker.restart();
    }
    await appending();
    test.abort();
    const counts = await Promise.all(runs);
    for (const [index, log] of logs.entries()) {
      expect(await contents(log)).toEqual(
        Array.from({ length: counts[index] ?? 0 }, (_, n) => `${n}`),
      );
    }
  }, 60_000);
});

describe('trimming', () => {
  it(`keeps the fence and what is not covered (seed ${SEED})`, async () => {
    const random = new Random(SEED);
    const [zombie, owner] = [await writer(), await writer()];
    let expected: { sequence: number; value: string }[] = [];
    const append = async (): Promise<void> => {
      const value = `${random.next()}`;
      const sequence = await owner.append(text(value), expected.at(-1)?.sequence ?? 0);
      expected.push({ sequence, value });
    };
    await append();
    const stale = expected[0]?.sequence ?? 0;
    await append();
    for (let round = 0; round < 50; round += 1) {
      for (let count = random.below(4); count > 0; count -= 1) await append();
      const last = expected.at(-1)?.sequence ?? 0;
      // Also at and behind the end, and nothing at all.
      const before = random.chance(0.1) ? 0 : stale + random.below(last - stale + 3);
      await owner.trim(before);
      expected = expected.filter(({ sequence }) => sequence >= Math.min(before, last));
      if (random.chance(0.05)) await broker.restart();
      for (const from of [0, stale]) {
        await expect(zombie.append(text('zombie'), from)).rejects.toMatchObject(REFUSED);
      }
      expect(await until('it answers', () => owner.confirm(last).catch(() => false))).toBe(true);
    }
    await append();
    expect(await contents(owner)).toEqual(expected.map(({ value }) => value));
  }, 60_000);

  it('of an empty log does nothing', async () => {
    const log = await writer();
    await log.trim(100);
    expect(await log.last()).toBeUndefined();
  });
});

describe('replay', () => {
  const COUNT = 600;

  /** Straight to the stream: faster than one after the other. */
  async function fill(count: number): Promise<void> {
    const sent = Array.from({ length: count }, async (_, index) =>
      nats.request(`millrace.log.journal-${partition}`, text(`${index}`), { timeout: 20_000 }),
    );
    await Promise.all(sent);
  }
  const numbers = (from: number, to = COUNT): string[] =>
    Array.from({ length: to - from }, (_, index) => `${from + index}`);

  it('gives a range in order', async () => {
    const log = await writer();
    await fill(COUNT);
    const all: [number, string][] = [];
    const last = await log.lastSequence();
    await log.read(1, last, (sequence, bytes) => all.push([sequence, textOf(bytes)]));
    expect(all.map(([, value]) => value)).toEqual(numbers(0));
    const [from, to] = [all[10]?.[0] ?? 0, all[20]?.[0] ?? 0];
    const some: number[] = [];
    await log.read(from, to, (sequence) => some.push(sequence));
    expect(some).toEqual(all.slice(10, 21).map(([sequence]) => sequence));
    await log.read(last + 1, last, () => expect.unreachable());
    await log.read(last + 1, last + 5, () => expect.unreachable());
  });

  it('goes on when its consumer, or the broker, is gone in the middle', async () => {
    const found: string[] = [];
    let lost = 0;
    const log = await writer((bus) => {
      const subscribe = bus.subscribe.bind(bus);
      bus.subscribe = (subject, handler, queue) =>
        subscribe(
          subject,
          (message) => {
            // Every 200th message gets lost.
            if (subject.includes('.r.') && found.length % 200 === 199 && lost < 2) lost += 1;
            else handler(message);
          },
          queue,
        );
    });
    await fill(COUNT);
    const last = await log.lastSequence();
    await log.read(1, last, (_, bytes) => found.push(textOf(bytes)));
    expect(found).toEqual(numbers(0));
    expect(lost).toBe(2);
    found.length = 0;
    const read = log.read(1, last, (_, bytes) => found.push(textOf(bytes)));
    await broker.restart();
    await read;
    expect(found).toEqual(numbers(0));
  }, 60_000);

  it('goes on in order to the end where it is trimmed meanwhile', async () => {
    const log = await writer();
    await fill(COUNT);
    const last = await log.lastSequence();
    const found: number[] = [];
    const trimming: Promise<void>[] = [];
    await log.read(1, last, (sequence) => {
      if (trimming.length === 0) trimming.push(log.trim(last - 5));
      found.push(sequence);
    });
    await Promise.all(trimming);
    expect(found).toEqual(found.toSorted((left, right) => left - right));
    expect(found.at(-1)).toBe(last);
    expect(await contents(log)).toHaveLength(6);
  });

  it('asks for more of one consumer', async () => {
    const bus = await Bus.open({ servers: broker.url, name: 'test', namespace: 'millrace' });
    closing.push(async () => bus.close());
    let consumers = 0;
    const subscribe = bus.subscribe.bind(bus);
    bus.subscribe = (...given) => {
      consumers += 1;
      return subscribe(...given);
    };
    const log = await writer();
    await fill(COUNT);
    const reader = new StreamReader(bus, new JetStreamApi(bus), 10);
    const found: string[] = [];
    const subject = `millrace.log.journal-${partition}`;
    await reader.read('millrace-log', subject, 1, await log.lastSequence(), (_, bytes) =>
      found.push(textOf(bytes)),
    );
    expect(found).toEqual(numbers(0));
    expect(consumers).toBe(1);
  });

  it('ends with what the reader of an append throws', async () => {
    const log = await writer();
    await fill(3);
    const read = log.read(1, await log.lastSequence(), () => {
      throw new Error('no sense');
    });
    await expect(read).rejects.toThrow('no sense');
  });

  it('of claims of which none can be read does not pass for one that is empty', async () => {
    const streams = await member();
    const subject = `millrace.log.claims-${partition}`;
    await nats.request(subject, '{"stream":"orders","seq":1}', { timeout: 20_000 });
    expect(await streams.claims(partition).last()).toBeUndefined();
    await nats.request(subject, 'x', { timeout: 20_000 });
    await expect(streams.claims(partition).last()).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringContaining(`nats stream purge millrace-log --subject=${subject}`),
    });
  });

  it('leaves out what was never appended, wherever it lies, and an append that somebody has changed', async () => {
    const subject = `millrace.log.journal-${partition}`;
    const strangers = ['', 'x', '{"stream":"orders","seq":1}', randomBytes(100)];
    const put = async (): Promise<void> => {
      for (const bytes of strangers) await nats.request(subject, bytes, { timeout: 20_000 });
    };
    await put();
    const log = await writer();
    // Nothing of ours is there; the next append has to follow what is.
    expect(await log.last()).toBeUndefined();
    const append = (index: number): Uint8Array =>
      encodeAppend({
        kind: 'records',
        nonce: 2n,
        index,
        sections: [{ partition: 1, epoch: 1, records: text('records') }],
      });
    await log.append(append(1), 0);
    const changed = Buffer.from(append(2));
    changed[20] = (changed[20] ?? 0) ^ 1;
    await nats.request(subject, changed, { timeout: 20_000 });
    const last = await log.last();
    expect(decodeAppend(last?.bytes ?? Buffer.alloc(0))).toMatchObject({ index: 1 });
    await log.append(append(2), last?.sequence ?? 0);
    await put();
    const indexes: (number | undefined)[] = [];
    await log.read(1, await log.lastSequence(), (_, bytes) =>
      indexes.push(decodeAppend(bytes)?.index),
    );
    expect(indexes).toEqual([1, 2]);
    // What is trimmed leaves the last one of ours.
    await log.trim(Number.MAX_SAFE_INTEGER);
    expect(decodeAppend((await log.last())?.bytes ?? Buffer.alloc(0))).toMatchObject({ index: 2 });
  });
});
