import { describe, expect, it } from 'vitest';
import { guardSignal } from '../../src/worker/guarded-signal.ts';

function rig(): { controller: AbortController; signal: AbortSignal; mistakes: unknown[] } {
  const controller = new AbortController();
  const mistakes: unknown[] = [];
  guardSignal(controller.signal, (thrown) => mistakes.push(thrown));
  return { controller, signal: controller.signal, mistakes };
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('a guarded signal', () => {
  it('tells of what listeners of every kind throw, and runs the others', async () => {
    const { controller, signal, mistakes } = rig();
    let ran = 0;
    const listeners = [
      () => {
        throw 'function';
      },
      () => Promise.reject(new Error('promise')),
      {
        handleEvent: () => {
          throw 'object';
        },
      },
      () => {
        ran += 1;
      },
    ];
    for (const listener of listeners) signal.addEventListener('abort', listener);
    Object.assign(signal, {
      onabort: () => {
        throw 'onabort';
      },
    });
    controller.abort('why');
    await settle();
    expect(mistakes).toEqual(['function', 'object', 'onabort', new Error('promise')]);
    expect(ran).toBe(1);
    expect(signal.reason).toBe('why');
  });

  it('adds a listener once, calls it with the signal as this, and removes it', () => {
    const { controller, signal } = rig();
    const calls: unknown[] = [];
    const twice = function (this: unknown): void {
      calls.push(this);
    };
    const removed = (): void => void calls.push('removed');
    signal.addEventListener('abort', twice);
    signal.addEventListener('abort', twice, { once: true });
    signal.addEventListener('abort', removed);
    signal.removeEventListener('abort', removed);
    Object.assign(signal, { onabort: removed });
    expect(signal.onabort).toBe(removed);
    Object.assign(signal, { onabort: null });
    controller.abort();
    expect(calls).toEqual([signal]);
  });

  it('is an AbortSignal to what takes one', async () => {
    const { controller, signal } = rig();
    const any = AbortSignal.any([signal]);
    const waits = new Promise((resolve) => any.addEventListener('abort', resolve));
    const fetched = fetch('http://127.0.0.1:1/', { signal }).catch((error: unknown) => error);
    controller.abort(new Error('over'));
    await waits;
    expect(await fetched).toBeInstanceOf(Error);
    expect(() => signal.throwIfAborted()).toThrow('over');
    expect(() => signal.addEventListener('abort', null as never)).not.toThrow();
    expect(() => signal.addEventListener('abort', 7 as never)).toThrow(/listener/);
  });
});
