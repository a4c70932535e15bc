import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Caller } from '../../src/bus/caller.ts';
import { decodeCalls, encodeReplies, replySizeBytes, ReplyStatus } from '../../src/bus/frame.ts';
import { writeControl } from '../../src/bus/messages.ts';
import type { MillraceError } from '../../src/core/errors.ts';
import { ContentType } from '../../src/core/payload.ts';
import { parseSettings, type SettingsInput } from '../../src/core/settings.ts';
import { FakeBus, type Published } from '../support/fake-bus.ts';

const settings: SettingsInput = {
  discoveryWaitMs: 100,
  rerouteWaitMs: 2_000,
  probeAfterMs: 250,
  frameMaxCalls: 4,
  maxCallsInFlight: 20,
};

let bus: FakeBus;
let caller: Caller;

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
  caller = new Caller(bus.asBus(), parseSettings(settings), () => 0);
});
afterEach(() => {
  caller.close();
  vi.useRealTimers();
});

function announce(id: string, options: { epoch?: number; state?: string } = {}): void {
  const { epoch = 1, state = 'running' } = options;
  const announcement = { id, connectionEpoch: epoch, state, revision: 1, functions: ['f'] };
  bus.deliver('millrace.members.announce', writeControl(announcement));
}

interface Outcome {
  result?: string;
  error?: MillraceError;
}

/** Makes a call and gives an object that is filled when it is settled. */
function call(
  body = '1',
  options: { retry?: boolean; signal?: AbortSignal; name?: string } = {},
): Outcome {
  const outcome: Outcome = {};
  caller
    .call(
      {
        functionName: options.name ?? 'f',
        encoded: { type: ContentType.json, body },
        eventId: '',
        headers: '',
        timeoutMs: 10_000,
        retry: options.retry ?? true,
        signal: options.signal,
      },
      (answer) => String(answer.body),
    )
    .then(
      (result) => (outcome.result = result),
      (error: MillraceError) => (outcome.error = error),
    );
  return outcome;
}

const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);
/** The end of this turn: frames leave. */
const turn = (): Promise<unknown> => pass(0);

function frames(worker: string): Published[] {
  return bus.take(`millrace.worker.${worker}.call`);
}

function callsIn(frame: Published | undefined): NonNullable<ReturnType<typeof decodeCalls>> {
  const calls = decodeCalls(frame?.data ?? new Uint8Array());
  if (calls === undefined) throw new Error('no frame of calls');
  return calls;
}

function answer(callId: number, body: string, status: ReplyStatus = ReplyStatus.ok): void {
  const reply = { callId, status, encoded: { type: ContentType.json, body } };
  bus.deliver(`${bus.inbox}.c.r`, encodeReplies([reply], replySizeBytes(reply)));
}

function refuseCall(callId: number, code: string, message: string): void {
  answer(callId, JSON.stringify({ error: { code, message, retryable: false } }), ReplyStatus.error);
}

function beat(id: string, subject = 'millrace.members.beat'): void {
  const message = { id, connectionEpoch: 1, state: 'running', revision: 1 };
  bus.deliver(subject, writeControl(message));
}

/** Worker a answers a ping. */
function pong({ reply }: Published): void {
  beat('a', reply);
}

/** The broker's word on the probe of a worker. */
function bury(worker: string): void {
  const [probe] = bus.take(`millrace.worker.${worker}.ping`);
  if (probe === undefined) throw new Error(`${worker} was not probed`);
  bus.refuse(probe);
}

describe('calls made in one turn', () => {
  it('travel in one frame, and each gets its own answer', async () => {
    announce('a');
    const outcomes = [call('"x"'), call('"y"')];
    await turn();
    const sent = frames('a');
    expect(sent).toHaveLength(1);
    const calls = callsIn(sent[0]);
    expect(calls.map(({ body }) => body)).toEqual(['"x"', '"y"']);
    for (const { callId, body } of calls.toReversed()) answer(callId, `[${String(body)}]`);
    await turn();
    expect(outcomes).toEqual([{ result: '["x"]' }, { result: '["y"]' }]);
  });

  it('are split over frames by number and by size', async () => {
    announce('a');
    for (let n = 0; n < 10; n += 1) call();
    await turn();
    expect(frames('a').map((frame) => callsIn(frame).length)).toEqual([4, 4, 2]);
    for (let n = 0; n < 3; n += 1) call(JSON.stringify('x'.repeat(15_000)));
    await turn();
    expect(frames('a').map((frame) => callsIn(frame).length)).toEqual([1, 1, 1]);
  });
});

describe('a call of a function that nobody has announced', () => {
  it('waits for an announcement, and is sent when it comes', async () => {
    call();
    await pass(90);
    announce('a');
    await turn();
    expect(frames('a')).toHaveLength(1);
  });

  it('is UNKNOWN_FUNCTION after the discovery wait', async () => {
    announce('a');
    const outcome = call('1', { name: 'g' });
    await pass(99);
    expect(outcome).toEqual({});
    await pass(50);
    expect(outcome.error?.code).toBe('UNKNOWN_FUNCTION');
  });

  it('is UNAVAILABLE at once when the broker says that there is no worker at all', async () => {
    const outcome = call();
    for (const hello of bus.take('millrace.hello')) bus.refuse(hello);
    await turn();
    expect(outcome.error).toMatchObject({ code: 'UNAVAILABLE', retryable: true });
    expect(outcome.error?.message).toContain('no worker is running');
  });

  it('is UNAVAILABLE after the discovery wait while no worker has said anything', async () => {
    const outcome = call();
    await pass(150);
    expect(outcome.error).toMatchObject({ code: 'UNAVAILABLE', retryable: true });
  });
});

describe('a frame that reached nobody', () => {
  it('is sent to another worker as the same attempt, even with retry: false', async () => {
    announce('a');
    announce('b');
    const outcome = call('1', { retry: false });
    await turn();
    const [frame] = frames('a');
    bus.refuse(frame as Published);
    await turn();
    const [again] = callsIn(frames('b')[0]);
    expect(again?.attempt).toBe(1);
    answer(again?.callId ?? 0, '2');
    await turn();
    expect(outcome).toEqual({ result: '2' });
  });

  it('waits for a worker again when there is no other', async () => {
    announce('a');
    const outcome = call();
    await turn();
    bus.refuse(frames('a')[0] as Published);
    await pass(1_900);
    expect(outcome).toEqual({});
    announce('a', { epoch: 2 });
    await turn();
    expect(frames('a')).toHaveLength(1);
  });

  it('is not believed with numbers that no frame has', async () => {
    announce('a');
    const outcome = call();
    await turn();
    for (const numbers of ['1.Infinity', 'NaN.1', '-5.1e9', 'x.y', '']) {
      bus.refuse({ subject: '', data: new Uint8Array(), reply: `${bus.inbox}.c.f.${numbers}` });
    }
    await turn();
    expect(outcome).toEqual({});
  });
});

describe('a call that finds its function just dropped', () => {
  const NOT_HERE = 'This worker has no function f.';

  it('goes to another worker that has it, as the same attempt, even with retry: false', async () => {
    announce('a');
    announce('b');
    const outcome = call('1', { retry: false });
    await turn();
    refuseCall(callsIn(frames('a')[0])[0]?.callId ?? 0, 'UNKNOWN_FUNCTION', NOT_HERE);
    await turn();
    const [again] = callsIn(frames('b')[0]);
    expect(again?.attempt).toBe(1);
    answer(again?.callId ?? 0, '2');
    await turn();
    expect(outcome).toEqual({ result: '2' });
  });

  it('is UNKNOWN_FUNCTION where nobody else has it', async () => {
    announce('a');
    const outcome = call();
    await turn();
    refuseCall(callsIn(frames('a')[0])[0]?.callId ?? 0, 'UNKNOWN_FUNCTION', NOT_HERE);
    await turn();
    expect(outcome.error?.code).toBe('UNKNOWN_FUNCTION');
  });

  it('is UNKNOWN_FUNCTION after maxCallAttempts workers without it', async () => {
    announce('a');
    announce('b');
    const outcome = call();
    let sent = 0;
    for (let round = 0; round < 10; round += 1) {
      await turn();
      for (const { callId } of [...frames('a'), ...frames('b')].flatMap(callsIn)) {
        sent += 1;
        refuseCall(callId, 'UNKNOWN_FUNCTION', NOT_HERE);
      }
    }
    expect(sent).toBe(5);
    expect(outcome.error?.code).toBe('UNKNOWN_FUNCTION');
  });

  it('is not one whose handler answers UNKNOWN_FUNCTION: that has run', async () => {
    announce('a');
    announce('b');
    const outcome = call();
    await turn();
    refuseCall(callsIn(frames('a')[0])[0]?.callId ?? 0, 'UNKNOWN_FUNCTION', 'No such thing.');
    await turn();
    expect(outcome.error?.message).toBe('No such thing.');
    expect(frames('b')).toEqual([]);
  });
});

describe('a worker that answers its probe', () => {
  async function probed(): Promise<Published> {
    await pass(300);
    const [probe] = bus.take('millrace.worker.a.ping');
    if (probe === undefined) throw new Error('a was not probed');
    return probe;
  }

  it('keeps its calls, whatever their kind, and they are not sent again', async () => {
    announce('a');
    announce('b');
    const outcomes = [call(), call('1', { retry: false })];
    await turn();
    const sent = callsIn(frames('a')[0]);
    pong(await probed());
    await turn();
    expect([outcomes, frames('a'), frames('b')]).toEqual([[{}, {}], [], []]);
    expect(caller.members.directory.has('a')).toBe(true);
    for (const { callId } of sent) answer(callId, '1');
    await turn();
    expect(outcomes).toEqual([{ result: '1' }, { result: '1' }]);
  });

  it('is sent again what was in flight when the connection broke', async () => {
    announce('a');
    announce('b');
    const outcome = call();
    await turn();
    frames('a');
    bus.lose();
    bus.restore();
    // Its announcement is lost; in this time nobody is probed.
    await pass(2_000);
    expect(frames('a')).toEqual([]);
    pong(await probed());
    await turn();
    const [again] = callsIn(frames('a')[0]);
    expect(again?.attempt).toBe(2);
    expect(frames('b')).toEqual([]);
    answer(again?.callId ?? 0, '1');
    await turn();
    expect(outcome).toEqual({ result: '1' });
  });
});

describe('a worker that dies', () => {
  it('has its calls run again elsewhere, with the same id and the next attempt', async () => {
    announce('a');
    announce('b');
    const outcome = call();
    await turn();
    const [first] = callsIn(frames('a')[0]);
    await pass(300);
    bury('a');
    await turn();
    const [second] = callsIn(frames('b')[0]);
    expect(second?.attempt).toBe(2);
    expect(second?.eventId).toBe(`TESTCALLER-${first?.callId}`);
    answer(first?.callId ?? 0, '"late"');
    await turn();
    expect(outcome).toEqual({});
    answer(second?.callId ?? 0, '"second"');
    await turn();
    expect(outcome).toEqual({ result: '"second"' });
  });

  it('leaves a call with retry: false with an unknown outcome', async () => {
    announce('a');
    announce('b');
    const outcome = call('1', { retry: false });
    await turn();
    await pass(300);
    bury('a');
    await turn();
    expect(outcome.error).toMatchObject({
      code: 'UNAVAILABLE',
      details: { outcome: 'unknown', attempts: 1 },
    });
    expect(frames('b')).toEqual([]);
  });

  it('is not given up while it is only silent', async () => {
    announce('a');
    announce('b');
    const outcome = call();
    await turn();
    frames('a');
    await pass(9_900);
    expect(bus.take('millrace.worker.a.ping').length).toBeGreaterThan(5);
    expect(outcome).toEqual({});
    expect(frames('b')).toEqual([]);
    await pass(150);
    expect(outcome.error?.code).toBe('TIMEOUT');
  });

  it('is tried again at most maxCallAttempts times', async () => {
    const outcome = call();
    for (let attempt = 1; attempt <= 5; attempt += 1) {
      announce(`w${attempt}`);
      await turn();
      expect(callsIn(frames(`w${attempt}`)[0])[0]?.attempt).toBe(attempt);
      await pass(300);
      bury(`w${attempt}`);
      await turn();
    }
    expect(outcome.error).toMatchObject({ code: 'UNAVAILABLE', details: { attempts: 5 } });
  });
});

describe('a worker that sends no beats', () => {
  /** Longer than `missedAfterMs`, in which b beats and a does not. */
  async function missBeats(): Promise<void> {
    for (let second = 0; second < 5; second += 1) {
      await pass(1_000);
      if (caller.members.directory.has('b')) beat('b');
    }
  }

  it('is asked whether it lives, and gets calls as long as nobody says that it is gone', async () => {
    announce('a');
    await missBeats();
    expect(bus.take('millrace.worker.a.ping').length).toBeGreaterThan(0);
    const outcome = call();
    await turn();
    const [sent] = callsIn(frames('a')[0]);
    answer(sent?.callId ?? 0, '1');
    await turn();
    expect(outcome).toEqual({ result: '1' });
  });

  it('gets none while another has the function, until it is heard again', async () => {
    announce('a');
    announce('b');
    await missBeats();
    call();
    await turn();
    expect([frames('a').length, frames('b').length]).toEqual([0, 1]);
    const [ping] = bus.take('millrace.worker.a.ping');
    pong(ping as Published);
    call();
    await turn();
    expect(frames('a')).toHaveLength(1);
  });

  it('is gone once the broker says that nobody listens there', async () => {
    announce('a');
    await missBeats();
    bury('a');
    call();
    await turn();
    expect(frames('a')).toEqual([]);
  });
});

describe('a connection', () => {
  it('that comes back has calls sent that were held, and sent again that were in flight', async () => {
    announce('a');
    call('"flying"');
    const once = call('"once"', { retry: false });
    await turn();
    frames('a');
    bus.lose();
    call('"held"');
    await pass(500);
    expect(frames('a')).toEqual([]);
    bus.restore();
    await turn();
    expect(
      frames('a')
        .flatMap(callsIn)
        .map(({ body }) => body),
    ).toEqual(['"held"']);
    announce('a', { epoch: 2 });
    await turn();
    const calls = frames('a').flatMap(callsIn);
    expect(
      new Set(
        calls.map(
          ({ body, attempt, timeoutMs }) =>
            `${String(body)} ${attempt} ${timeoutMs > 0 ? 'run' : 'ask'}`,
        ),
      ),
    ).toEqual(new Set(['"flying" 2 run', '"held" 2 run', '"once" 2 ask']));
    expect(once).toEqual({});
  });

  describe('that breaks under a call with retry: false', () => {
    /** The call, its number, and the question whether it still runs. */
    async function askedCall(): Promise<{ outcome: Outcome; callId: number; question: Published }> {
      announce('a');
      announce('b');
      const outcome = call('1', { retry: false });
      await turn();
      const [sent] = callsIn(frames('a')[0]);
      bus.lose();
      bus.restore();
      announce('a');
      await turn();
      const [question] = frames('a');
      const asked = callsIn(question);
      expect(asked).toMatchObject([{ callId: sent?.callId, attempt: 2, timeoutMs: 0 }]);
      return { outcome, callId: sent?.callId ?? 0, question: question as Published };
    }

    it('has its worker asked; one that runs it still answers', async () => {
      const { outcome, callId } = await askedCall();
      await pass(5_000);
      expect(outcome).toEqual({});
      answer(callId, '"done"');
      await turn();
      expect(outcome).toEqual({ result: '"done"' });
    });

    it.each(['TIMEOUT', 'UNAVAILABLE', 'UNKNOWN_FUNCTION'])(
      'leaves it with an unknown outcome at once when its worker says %s',
      async (code) => {
        const { outcome, callId } = await askedCall();
        refuseCall(callId, code, 'This worker has no function f.');
        await turn();
        expect(outcome.error).toMatchObject({
          code: 'UNAVAILABLE',
          details: { outcome: 'unknown', attempts: 1 },
        });
        expect(frames('b')).toEqual([]);
      },
    );

    it('lets its failure through as it is', async () => {
      const { outcome, callId } = await askedCall();
      refuseCall(callId, 'FUNCTION_FAILED', 'no');
      await turn();
      expect(outcome.error?.code).toBe('FUNCTION_FAILED');
    });

    it('never has it sent elsewhere when nobody hears the question', async () => {
      const { outcome, question } = await askedCall();
      bus.refuse(question);
      await pass(100);
      expect([outcome, frames('a'), frames('b')]).toEqual([{}, [], []]);
      await pass(2_500);
      bury('a');
      await turn();
      expect(outcome.error).toMatchObject({ details: { outcome: 'unknown' } });
      expect(frames('b')).toEqual([]);
    });

    it('has it asked once more after the next break', async () => {
      await askedCall();
      bus.lose();
      bus.restore();
      announce('a');
      await turn();
      expect(frames('a')).toHaveLength(1);
    });
  });

  it('that comes back bears a worker that is not back yet: refused frames prove no death', async () => {
    announce('a');
    announce('b');
    const flying = call('"flying"');
    await turn();
    const [sent] = callsIn(frames('a')[0]);
    bus.lose();
    bus.restore();
    const fresh = call('"fresh"');
    await turn();
    // Nobody listens on a's subjects for another second: it is reconnecting too.
    const [refused] = frames('a');
    bus.refuse(refused as Published);
    await pass(1_000);
    for (const probe of bus.take('millrace.worker.a.ping')) bus.refuse(probe);
    await turn();
    expect(
      frames('b')
        .flatMap(callsIn)
        .map(({ body }) => body),
    ).toEqual(['"fresh"']);
    announce('a', { epoch: 2 });
    await turn();
    const [again] = callsIn(frames('a')[0]);
    expect(again).toMatchObject({ body: '"flying"', eventId: `TESTCALLER-${sent?.callId}` });
    answer(again?.callId ?? 0, '1');
    await turn();
    expect([flying, fresh]).toEqual([{ result: '1' }, {}]);
  });

  it('of the worker that was a new one has the calls sent again', async () => {
    announce('a');
    call();
    await turn();
    frames('a');
    announce('a', { epoch: 2 });
    await turn();
    expect(callsIn(frames('a')[0])[0]?.attempt).toBe(2);
  });
});

describe('a caller', () => {
  it('settles everything when it is closed', async () => {
    announce('a');
    const outcomes = [call(), call('1', { name: 'g' })];
    await turn();
    outcomes.push(call());
    caller.close();
    outcomes.push(call());
    await turn();
    expect(outcomes.map(({ error }) => error?.code)).toEqual(Array(4).fill('UNAVAILABLE'));
    expect(caller.inFlight).toBe(0);
    expect(bus.subscriptions).toBe(0);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('refuses the call that would be one too many', async () => {
    announce('a');
    const outcomes = Array.from({ length: 21 }, () => call());
    await turn();
    expect(outcomes.filter(({ error }) => error?.code === 'UNAVAILABLE')).toHaveLength(1);
    const [first] = callsIn(frames('a')[0]);
    answer(first?.callId ?? 0, '1');
    await turn();
    expect(call()).toEqual({});
  });

  it('gives up a call when its signal says so, and before it is sent', async () => {
    announce('a');
    const abort = new AbortController();
    const outcome = call('1', { signal: abort.signal });
    abort.abort();
    await turn();
    expect(outcome.error?.code).toBe('CANCELLED');
    expect(frames('a')).toEqual([]);
  });

  it('ignores what it cannot read, and answers to calls that it does not have', async () => {
    announce('a');
    const outcome = call();
    await turn();
    bus.deliver(`${bus.inbox}.c.r`, Buffer.from('nonsense'));
    bus.deliver(`${bus.inbox}.c.x.y`, Buffer.from('nonsense'));
    bus.deliver('millrace.members.announce', Buffer.from('{"id":7}'));
    announce('a b');
    announce('>');
    expect(caller.members.directory.size).toBe(1);
    answer(999, '1');
    await turn();
    expect(outcome).toEqual({});
  });

  it('sends nothing to a worker that drains', async () => {
    announce('a', { state: 'draining' });
    announce('b');
    call();
    await turn();
    expect(frames('a')).toEqual([]);
    expect(frames('b')).toHaveLength(1);
  });
});
