/** What a worker removes while a backup is taken: nothing, and afterwards what it would have. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Bus, MessageHandler } from '../../src/bus/connection.ts';
import { Retention } from '../../src/bus/retention.ts';
import { parseSettings } from '../../src/core/settings.ts';

const KEEP_MS = 5_000;

let hold: (keepMs: number) => void;
let answered: number;
let retention: Retention;
let removed: string[];

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  answered = 0;
  removed = [];
  let handler: MessageHandler = () => {};
  const bus = {
    subscribe: (_subject: string, given: MessageHandler) => {
      handler = given;
      return { unsubscribe: () => {} };
    },
    answer: () => (answered += 1),
  } as unknown as Bus;
  retention = new Retention(bus, parseSettings(), 'worker');
  hold = (keepMs) =>
    handler({ data: Buffer.from(JSON.stringify({ keepMs })), reply: 'x' } as never);
});

afterEach(() => {
  retention.close();
  vi.useRealTimers();
});

const removeBefore =
  (what: string) =>
  async (before: number): Promise<void> =>
    void removed.push(`${what} ${before}`);

describe('what is removed', () => {
  it('goes at once while nobody takes a backup', async () => {
    await retention.whenFree('journal', 3, removeBefore('journal'));
    expect(removed).toEqual(['journal 3']);
  });

  it('stays while one is taken, and goes afterwards, each once, up to where it was last wanted', async () => {
    hold(KEEP_MS);
    const done = Promise.all([
      retention.whenFree('journal', 3, removeBefore('journal')),
      retention.whenFree('claims', 7, removeBefore('claims')),
      retention.whenFree('journal', 5, removeBefore('journal')),
      retention.whenFree('journal', 4, removeBefore('journal')),
    ]);
    expect(await retention.unlessHeld(async () => void removed.push('event'))).toBe(false);
    await vi.advanceTimersByTimeAsync(KEEP_MS - 1_000);
    hold(KEEP_MS);
    await vi.advanceTimersByTimeAsync(KEEP_MS - 1_000);
    expect(removed).toEqual([]);
    await vi.advanceTimersByTimeAsync(1_500);
    await done;
    expect(removed.toSorted()).toEqual(['claims 7', 'journal 5']);
  });

  it('is over before a worker says that it keeps everything', async () => {
    let end = (): void => {};
    const removing = retention.unlessHeld(() => new Promise((resolve) => (end = resolve)));
    hold(KEEP_MS);
    await vi.advanceTimersByTimeAsync(100);
    expect(answered).toBe(0);
    end();
    await removing;
    await vi.advanceTimersByTimeAsync(0);
    expect(answered).toBe(1);
  });

  it('is not waited for by a worker that stops', async () => {
    hold(KEEP_MS);
    const waiting = retention.whenFree('journal', 3, removeBefore('journal'));
    retention.close();
    await expect(waiting).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(removed).toEqual([]);
  });
});
