import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ReceiveWindow,
  SendWindow,
  WINDOW_BYTES,
  WINDOW_CHUNKS,
} from '../../src/core/stream-window.ts';

describe('the windows of an answer in parts', () => {
  it('bring all in order, whatever is lost, repeated or late, and keep within their bounds', () => {
    const step = fc.constantFrom('send', 'arrive', 'lose', 'repeat', 'take', 'tell', 'again');
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 400 }),
        fc.integer({ min: 1, max: 90_000 }),
        (steps, bytes) => {
          const [sender, receiver] = [new SendWindow<number>(), new ReceiveWindow<number>()];
          let wire: [number, number][] = [];
          let made = 0;
          const taken: number[] = [];
          const take = (): void => {
            const item = receiver.take();
            if (item !== undefined) taken.push(item);
          };
          const again = (): void => {
            wire = [...wire, ...sender.untaken()];
          };
          const arrive = (): void => {
            const [first, ...rest] = wire;
            wire = rest;
            if (first !== undefined) receiver.receive(first[0], first[1], bytes);
          };
          const send = (): void => {
            if (sender.full) return;
            made += 1;
            wire.push([sender.add(made, bytes), made]);
          };
          for (const each of steps) {
            if (each === 'send') send();
            else if (each === 'arrive') arrive();
            else if (each === 'lose') wire.pop();
            else if (each === 'repeat') wire = [...wire, ...wire.slice(0, 1)];
            else if (each === 'take') take();
            else if (each === 'tell') sender.taken(receiver.taken);
            else again();
            expect([...sender.untaken()].length).toBeLessThanOrEqual(WINDOW_CHUNKS);
            expect([...sender.untaken()].length * bytes).toBeLessThan(WINDOW_BYTES + bytes);
            wire = wire.slice(0, 200);
          }
          // What is asked for again comes in the end.
          while (taken.length < made) {
            sender.taken(receiver.taken);
            again();
            while (wire.length > 0) arrive();
            while (!receiver.empty) take();
          }
          expect(taken).toEqual(Array.from({ length: made }, (_, index) => index + 1));
        },
      ),
    );
  });

  it('never let a reader wait for what the sender holds back: it tells before the window is full', () => {
    for (const bytes of [1, 5_000, WINDOW_BYTES * 2]) {
      const [sender, receiver] = [new SendWindow<number>(), new ReceiveWindow<number>()];
      for (let at = 1; at <= 1_000; at += 1) {
        expect(sender.full).toBe(false);
        receiver.receive(sender.add(at, bytes), at, bytes);
        expect(receiver.take()).toBe(at);
        if (receiver.worthTelling) {
          receiver.told();
          sender.taken(receiver.taken);
        }
      }
    }
  });

  it('ignore a number that cannot be', () => {
    const sender = new SendWindow<string>();
    sender.add('one', 1);
    for (const wrong of [2, -1, Number.NaN, Number.POSITIVE_INFINITY, 0.5]) sender.taken(wrong);
    expect([...sender.untaken()]).toEqual([[1, 'one']]);
  });
});
