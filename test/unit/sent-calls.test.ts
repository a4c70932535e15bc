import { describe, expect, it } from 'vitest';
import { newCall, type Call } from '../../src/bus/call.ts';
import { SentCalls } from '../../src/bus/sent-calls.ts';
import { ContentType } from '../../src/core/payload.ts';

const LAST = 2 ** 32 - 1;

const aCall = (): Call =>
  newCall(
    {
      functionName: 'f',
      encoded: { type: ContentType.json, body: '1' },
      eventId: '',
      headers: '',
      timeoutMs: 1_000,
      retry: true,
    },
    () => undefined,
    () => {},
    () => {},
  );

function send(sent: SentCalls, count: number): Call[] {
  const calls = Array.from({ length: count }, aCall);
  sent.add(sent.freeIds(count), calls);
  return calls;
}

const idsOf = (calls: Call[]): number[] => calls.map(({ wireId }) => wireId);

describe('the numbers of calls', () => {
  it('are in a row, frame after frame', () => {
    const sent = new SentCalls();
    expect([idsOf(send(sent, 2)), idsOf(send(sent, 3))]).toEqual([
      [1, 2],
      [3, 4, 5],
    ]);
  });

  it('go up to the last that four bytes hold, and begin at 1 again', () => {
    const sent = new SentCalls(LAST - 1);
    expect(idsOf(send(sent, 2))).toEqual([LAST - 1, LAST]);
    expect(idsOf(send(sent, 2))).toEqual([1, 2]);
  });

  it('leave out what is still open, and a row that would not fit before the last', () => {
    const sent = new SentCalls();
    const [, second, third] = send(sent, 3);
    if (second === undefined || third === undefined) throw new Error('three calls');
    sent.delete(second);
    sent.add(LAST, [aCall()]);
    // 1 and 3 are open.
    expect(sent.freeIds(1)).toBe(2);
    expect(sent.freeIds(2)).toBe(4);
    expect(idsOf(send(sent, 2))).toEqual([4, 5]);
    expect(sent.get(3)).toBe(third);
    expect(new SentCalls(LAST).freeIds(2)).toBe(1);
  });

  it('find their calls, however many there are and however long one has been under way', () => {
    const sent = new SentCalls(LAST - 4_000);
    const [slow] = send(sent, 1);
    if (slow === undefined) throw new Error('a call');
    for (let frame = 0; frame < 100; frame += 1) {
      for (const call of send(sent, 64)) {
        if (sent.get(call.wireId) !== call) throw new Error('it is not found');
        sent.delete(call);
        if (sent.get(call.wireId) !== undefined) throw new Error('it is found still');
      }
    }
    const many = Array.from({ length: 50 }, () => send(sent, 64)).flat();
    expect(sent.size).toBe(3_201);
    // The slow one is the oldest, though its number is the greatest.
    expect(sent.to('')).toEqual([slow, ...many]);
    expect(many.map(({ wireId }) => sent.get(wireId))).toEqual(many);
    for (const call of [slow, ...many]) sent.delete(call);
    expect([sent.size, sent.all()]).toEqual([0, []]);
  });

  it('belong to one call: one that was settled before does not take the next one along', () => {
    const sent = new SentCalls();
    const [first] = send(sent, 1);
    if (first === undefined) throw new Error('a call');
    sent.delete(first);
    const next = aCall();
    sent.add(1, [next]);
    sent.delete(first);
    expect(sent.get(1)).toBe(next);
    expect([sent.size, sent.frame(1, 2), sent.to('')]).toEqual([1, [next], [next]]);
  });
});
