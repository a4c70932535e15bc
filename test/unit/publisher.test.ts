import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Msg } from 'nats';
import { mayBeForgotten, Publisher, type PublishReceipt } from '../../src/bus/publisher.ts';
import { MillraceError } from '../../src/core/errors.ts';
import { parseSettings } from '../../src/core/settings.ts';
import { FakeBus } from '../support/fake-bus.ts';

let bus: FakeBus;
let publisher: Publisher;

beforeEach(() => {
  vi.useFakeTimers({
    toFake: [
      'setTimeout',
      'clearTimeout',
      'setInterval',
      'clearInterval',
      'setImmediate',
      'performance',
    ],
  });
  bus = new FakeBus();
  publisher = new Publisher(bus.asBus(), parseSettings({ callTimeoutMs: 3_000 }));
});
afterEach(() => {
  publisher.close();
  vi.useRealTimers();
});

const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

/** JetStream's answer to the question which streams capture a subject. */
function jetStreamSays(answer: object): void {
  bus.onRequest = () =>
    Promise.resolve({ data: Buffer.from(JSON.stringify(answer)) } as unknown as Msg);
}

interface Outcome {
  receipt?: PublishReceipt;
  error?: MillraceError;
}

function publish(subject = 'orders.new'): Outcome {
  const outcome: Outcome = {};
  publisher.send(publisher.prepare(subject, 1, { id: 'e' })).then(
    (receipt) => (outcome.receipt = receipt),
    (error: MillraceError) => (outcome.error = error),
  );
  return outcome;
}

describe('an event whose capture JetStream cannot tell', () => {
  const failing: [string, () => void][] = [
    [
      'answers with an error',
      () => jetStreamSays({ error: { code: 503, description: 'no leader' } }),
    ],
    ['answers with nonsense', () => jetStreamSays({ streams: 7 })],
    [
      'does not answer',
      () => (bus.onRequest = () => Promise.reject(new MillraceError('TIMEOUT', 'no answer'))),
    ],
  ];
  it.each(failing)('does not pass for stored: it %s', async (_, fail) => {
    fail();
    const outcome = publish();
    await pass(0);
    expect(outcome.receipt).toBeUndefined();
    expect(outcome.error?.retryable).toBe(true);
    expect(bus.take('orders.new')).toEqual([]);
    jetStreamSays({ streams: [] });
    const next = publish();
    await pass(0);
    expect(next.receipt).toEqual({ id: 'e' });
  });

  it('is core NATS where nobody answers for JetStream at all', async () => {
    const outcome = publish();
    await pass(0);
    expect(outcome.receipt).toEqual({ id: 'e' });
    expect(bus.take('orders.new')).toHaveLength(1);
  });
});

describe('an event that the broker does not confirm', () => {
  beforeEach(() => {
    bus.onFlush = () => new Promise(() => {});
  });

  it('fails as TIMEOUT with an unknown outcome at its deadline', async () => {
    const outcome = publish();
    await pass(2_900);
    expect(outcome).toEqual({});
    await pass(200);
    expect(outcome.error).toMatchObject({ code: 'TIMEOUT', details: { outcome: 'unknown' } });
  });

  it('fails when the client is closed', async () => {
    const outcome = publish();
    await pass(10);
    publisher.close();
    await pass(0);
    expect(outcome.error?.code).toBe('UNAVAILABLE');
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe('an event on a subject of a stream', () => {
  let asked: string[];
  /** What JetStream says of the configuration of the stream ORDERS. */
  let info: () => Promise<object>;

  beforeEach(() => {
    asked = [];
    bus.onRequest = async (subject) => {
      asked.push(subject);
      const answer = subject.endsWith('.NAMES') ? { streams: ['ORDERS'] } : await info();
      return { data: Buffer.from(JSON.stringify(answer)) } as unknown as Msg;
    };
  });

  it('that never acknowledges is published as where there is none', async () => {
    info = () => Promise.resolve({ config: { name: 'ORDERS', no_ack: true } });
    const outcome = publish();
    await pass(0);
    expect(outcome.receipt).toEqual({ id: 'e' });
    expect(bus.take('orders.new')).toMatchObject([{ reply: '' }]);
  });

  const acknowledging: [string, () => Promise<object>][] = [
    ['says that it acknowledges', () => Promise.resolve({ config: { no_ack: false } })],
    ['says nothing of it', () => Promise.resolve({ config: {} })],
    ['is gone', () => Promise.resolve({ error: { code: 404 } })],
    ['may not be asked', () => Promise.reject(new MillraceError('TIMEOUT', 'no answer'))],
    [
      'was asked on a broken connection',
      () => Promise.reject(new MillraceError('UNAVAILABLE', '')),
    ],
  ];
  it.each(acknowledging)(
    'is not settled without its acknowledgement where it %s',
    async (_, says) => {
      info = says;
      const outcome = publish();
      await pass(0);
      expect(outcome).toEqual({});
      expect(bus.take('orders.new')).toMatchObject([
        { reply: expect.stringMatching(/./) as string },
      ]);
    },
  );

  it('has its stream asked once for all subjects, and again after half a minute', async () => {
    info = () => Promise.resolve({ config: { no_ack: true } });
    const infos = (): number => asked.filter((subject) => subject.includes('INFO')).length;
    publish('orders.new');
    publish('orders.old');
    await pass(10_000);
    publish('orders.new');
    await pass(0);
    expect(asked.filter((subject) => subject.endsWith('NAMES'))).toHaveLength(3);
    expect(infos()).toBe(1);
    await pass(21_000);
    publish('orders.new');
    await pass(0);
    expect(infos()).toBe(2);
  });
});

describe('a stored event', () => {
  beforeEach(() => jetStreamSays({ streams: ['ORDERS'] }));

  it('is settled by the stream’s own words only', async () => {
    const outcome = publish();
    await pass(0);
    const [sent] = bus.take('orders.new');
    for (const answer of ['null', '3', '"text"', '{"stream":"X"}', '{"error":{}}', '', '\u0000']) {
      bus.deliver(sent?.reply ?? '', Buffer.from(answer));
    }
    await pass(0);
    expect(outcome).toEqual({});
    bus.deliver(sent?.reply ?? '', Buffer.from('{"stream":"ORDERS","seq":7}'));
    await pass(0);
    expect(outcome.receipt).toEqual({ id: 'e', stream: 'ORDERS', sequence: 7, duplicate: false });
  });

  it('that was not acknowledged is sent again after a reconnect, with the same id', async () => {
    publish();
    await pass(0);
    const [first] = bus.take('orders.new');
    bus.lose();
    bus.restore();
    expect(bus.take('orders.new')).toEqual([first]);
  });

  it('that cannot be sent at all fails, and is not tried again at a reconnect', async () => {
    bus.maxMessageBytes = 0;
    const outcome = publish();
    await pass(0);
    expect(outcome.error).toBeDefined();
    bus.lose();
    expect(() => bus.restore()).not.toThrow();
  });
});

describe('an event that is published again', () => {
  it('is looked for in its stream where a clock that was set back hides its age', () => {
    const capture = { rememberedMs: 120_000, remembersSinceMs: 0 };
    expect(mayBeForgotten(capture, Date.now() - 5_000, true)).toBe(false);
    expect(mayBeForgotten(capture, Date.now() - 300_000, true)).toBe(true);
    // By up to a minute clocks may differ.
    expect(mayBeForgotten(capture, Date.now() + 30_000, true)).toBe(false);
    expect(mayBeForgotten(capture, Date.now() + 3_600_000, true)).toBe(true);
    expect(mayBeForgotten(capture, Date.now() + 3_600_000, false)).toBe(true);
  });
});
