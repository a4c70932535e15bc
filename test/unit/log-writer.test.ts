/** What the broker may say to an append, or not say; the real one is in test/integration/subject-log.test.ts. */
import type { Msg } from 'nats';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { JetStreamApi } from '../../src/bus/jetstream-api.ts';
import { LogWriter, type AppendError } from '../../src/bus/log-writer.ts';
import { parseSettings } from '../../src/core/settings.ts';
import { FakeBus } from '../support/fake-bus.ts';

// node:timers/promises is not faked by fake timers.
vi.mock('node:timers/promises', () => ({
  setTimeout: (ms: number) => new Promise((resolve) => setTimeout(resolve, ms)),
}));

const SUBJECT = 'millrace.log.1';
const BYTES = Buffer.from('mine');

let bus: FakeBus;
let writer: LogWriter;
/** What a read back finds behind sequence 5. */
let stored: { seq: number; data: string } | undefined;
let leader: boolean;

beforeEach(() => {
  vi.useFakeTimers({
    toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'performance'],
  });
  bus = new FakeBus();
  bus.maxMessageBytes = 10_000;
  stored = undefined;
  leader = true;
  bus.onRequest = () => {
    const none = { error: { err_code: 10037, description: 'no message found' } };
    const away = { error: { err_code: 10008, description: 'no leader' } };
    const answer = leader ? (stored === undefined ? none : { message: stored }) : away;
    return Promise.resolve({ data: Buffer.from(JSON.stringify(answer)) } as unknown as Msg);
  };
  const settings = parseSettings({ appendTimeoutMs: 1_000 });
  writer = new LogWriter(bus.asBus(), settings, new JetStreamApi(bus.asBus()));
});
afterEach(() => {
  writer.close();
  vi.useRealTimers();
});

const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);
const base64 = (text: string): string => Buffer.from(text).toString('base64');

interface Outcome {
  sequence?: number;
  error?: AppendError;
}

function append(expected = 5): Outcome {
  const outcome: Outcome = {};
  writer.append('millrace-log', SUBJECT, BYTES, expected).then(
    (sequence) => (outcome.sequence = sequence),
    (error: AppendError) => (outcome.error = error),
  );
  return outcome;
}

/** The broker's answer to the last append that was sent. */
async function answer(words: object): Promise<void> {
  const sent = bus.take(SUBJECT).at(-1);
  bus.deliver(sent?.reply ?? '', Buffer.from(JSON.stringify(words)));
  await pass(0);
}
const refusal = { error: { err_code: 10071, description: 'wrong last sequence: 9' }, seq: 0 };

describe('an append', () => {
  it('is made when the stream says so', async () => {
    const outcome = append();
    await answer({ stream: 'millrace-log', seq: 6 });
    expect(outcome).toEqual({ sequence: 6 });
    expect(writer.inFlight).toBe(0);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('is refused by a refusal, which names a stream and a sequence as well', async () => {
    const outcome = append();
    await answer({ stream: 'millrace-log', ...refusal });
    expect(outcome.error).toMatchObject({ outcome: 'refused', retryable: false });
  });

  const doubtful: [string, object][] = [
    ['a duplicate', { stream: 'millrace-log', seq: 6, duplicate: true }],
    ['another stream’s message', { stream: 'all', seq: 6 }],
    ['a message before it', { stream: 'millrace-log', seq: 5 }],
    ['JetStream being off', { error: { err_code: 10039, description: 'jetstream not enabled' } }],
  ];
  it.each(doubtful)('is looked for where the answer is of %s', async (_, words) => {
    stored = { seq: 7, data: base64('mine') };
    const found = append();
    await answer(words);
    expect(found).toEqual({ sequence: 7 });
    stored = { seq: 7, data: base64('theirs') };
    const lost = append();
    await answer(words);
    expect(lost.error?.outcome).toBe('refused');
    stored = undefined;
    const again = append();
    await answer(words);
    await pass(500);
    await answer({ stream: 'millrace-log', seq: 8 });
    expect(again).toEqual({ sequence: 8 });
  });

  it('is not stored where there is no space, and is stored when there is some', async () => {
    const outcome = append();
    await answer({ error: { err_code: 10023, description: 'insufficient resources' }, seq: 0 });
    await pass(500);
    expect(outcome).toEqual({});
    await answer({ stream: 'millrace-log', seq: 6 });
    expect(outcome).toEqual({ sequence: 6 });
    const never = append();
    for (let tries = 0; tries < 40; tries += 1) {
      await answer({ error: { err_code: 10023, description: 'insufficient resources' }, seq: 0 });
      await pass(500);
    }
    expect(never.error).toMatchObject({ outcome: 'not-stored' });
  });

  it('does not hear what others say to its reply subject', async () => {
    const outcome = append();
    const [sent] = bus.take(SUBJECT);
    for (const words of ['null', '7', '{}', '{"seq":6}', '{"stream":"millrace-log"}', '\u0000']) {
      bus.deliver(sent?.reply ?? '', Buffer.from(words));
    }
    await pass(0);
    expect(outcome).toEqual({});
  });

  it('is tried again while another one is under way', async () => {
    const outcome = append();
    for (let tries = 0; tries < 3; tries += 1) {
      await answer({ error: { err_code: 10164 } });
      await pass(500);
    }
    await answer({ stream: 'millrace-log', seq: 6 });
    expect(outcome).toEqual({ sequence: 6 });
  });

  it('that always meets another one was surely not made', async () => {
    const outcome = append();
    while (outcome.error === undefined) {
      await answer({ error: { err_code: 10164 } });
      await pass(500);
    }
    expect(outcome.error.outcome).toBe('not-stored');
  });

  it('that cannot leave was surely not made', async () => {
    bus.lose();
    const outcome = append();
    await pass(13_000);
    expect(outcome.error?.outcome).toBe('not-stored');
    expect(bus.take(SUBJECT)).toEqual([]);
  });

  it('is read back at once when the connection is lost, and not repeated before', async () => {
    const outcome = append();
    bus.take(SUBJECT);
    leader = false;
    bus.lose();
    bus.restore();
    await pass(3_000);
    expect(outcome).toEqual({});
    expect(bus.take(SUBJECT)).toEqual([]);
    leader = true;
    stored = { seq: 6, data: base64('mine') };
    await pass(500);
    expect(outcome).toEqual({ sequence: 6 });
  });

  it('is unknown where no leader tells in time', async () => {
    const outcome = append();
    leader = false;
    await pass(11_000);
    expect(outcome).toEqual({});
    await pass(3_000);
    expect(outcome.error).toMatchObject({
      code: 'UNAVAILABLE',
      outcome: 'unknown',
      details: { outcome: 'unknown' },
    });
    expect(vi.getTimerCount()).toBe(0);
  });

  it('is unknown where nobody takes it in time, though nothing is there', async () => {
    const outcome = append();
    for (let waitedMs = 0; waitedMs < 14_000; waitedMs += 100) {
      for (const sent of bus.take(SUBJECT)) bus.refuse(sent);
      await pass(100);
    }
    expect(outcome.error?.outcome).toBe('unknown');
  });

  it('is unknown when the writer is closed', async () => {
    const outcome = append();
    writer.close();
    leader = false;
    await pass(0);
    expect(outcome.error?.outcome).toBe('unknown');
    const late = append();
    await pass(0);
    expect(late.error?.outcome).toBe('not-stored');
  });

  it('that the broker would not take is refused before it is sent', async () => {
    const large = writer.append('millrace-log', SUBJECT, Buffer.alloc(9_000), 0);
    await expect(large).rejects.toMatchObject({ code: 'PAYLOAD_TOO_LARGE' });
    expect(bus.take(SUBJECT)).toEqual([]);
  });

  it('is not settled by the answer to another writer on the same connection', async () => {
    const api = new JetStreamApi(bus.asBus());
    const other = new LogWriter(bus.asBus(), parseSettings(), api);
    const mine = append();
    bus.take(SUBJECT);
    const theirs = other.append('millrace-log', SUBJECT, Buffer.from('theirs'), 5);
    await answer({ stream: 'millrace-log', seq: 6 });
    expect(await theirs).toBe(6);
    expect(mine).toEqual({});
    other.close();
  });
});
