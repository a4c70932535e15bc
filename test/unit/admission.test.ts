import { describe, expect, it } from 'vitest';
import { Admission } from '../../src/core/admission.ts';

describe('admission', () => {
  it('runs up to its concurrency, queues up to its bound, and refuses the next', () => {
    const admission = new Admission<string>(2, 1);
    expect(['a', 'b', 'c', 'd'].map((item) => admission.offer(item))).toEqual([
      'run',
      'run',
      'wait',
      'refused',
    ]);
    expect([admission.running, admission.queued]).toEqual([2, 1]);
  });

  it('hands a freed slot to the one that waits longest', () => {
    const admission = new Admission<string>(1, 9);
    for (const item of ['a', 'b', 'c']) admission.offer(item);
    expect([admission.release(), admission.release(), admission.release()]).toEqual([
      'b',
      'c',
      undefined,
    ]);
    expect([admission.running, admission.queued]).toEqual([0, 0]);
  });

  it('refuses at once what finds no slot where nothing may wait', () => {
    const admission = new Admission<string>(1, 0);
    expect([admission.offer('a'), admission.offer('b')]).toEqual(['run', 'refused']);
  });

  it('takes a hundred thousand from its queue in less than a second', () => {
    const admission = new Admission<number>(1, 100_000);
    for (let item = 0; item <= 100_000; item += 1) admission.offer(item);
    const start = performance.now();
    const taken = Array.from({ length: 100_000 }, () => admission.release());
    expect(performance.now() - start).toBeLessThan(1_000);
    expect(taken.every((item, index) => item === index + 1)).toBe(true);
  });
});
