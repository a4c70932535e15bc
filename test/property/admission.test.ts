import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { Admission } from '../../src/core/admission.ts';

interface Model {
  concurrency: number;
  maxQueued: number;
  running: number;
  waiting: number[];
  next: number;
}

class Offer implements fc.Command<Model, Admission<number>> {
  check(): boolean {
    return true;
  }
  run(model: Model, real: Admission<number>): void {
    const item = model.next;
    model.next += 1;
    const admitted = real.offer(item);
    if (model.running < model.concurrency) {
      model.running += 1;
      expect(admitted).toBe('run');
    } else if (model.waiting.length < model.maxQueued) {
      model.waiting.push(item);
      expect(admitted).toBe('wait');
    } else expect(admitted).toBe('refused');
    expectSame(model, real);
  }
  toString(): string {
    return 'offer';
  }
}

class Release implements fc.Command<Model, Admission<number>> {
  check(model: Readonly<Model>): boolean {
    return model.running > 0;
  }
  run(model: Model, real: Admission<number>): void {
    const next = model.waiting.shift();
    if (next === undefined) model.running -= 1;
    expect(real.release()).toBe(next);
    expectSame(model, real);
  }
  toString(): string {
    return 'release';
  }
}

function expectSame(model: Model, real: Admission<number>): void {
  expect(real.running).toBe(model.running);
  expect(real.queued).toBe(model.waiting.length);
  expect(real.running).toBeLessThanOrEqual(model.concurrency);
}

it('admission behaves as a counter and a first-in first-out list', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 0, max: 8 }),
      fc.commands(
        [fc.constant(new Offer()), fc.constant(new Offer()), fc.constant(new Release())],
        {
          maxCommands: 120,
          size: 'max',
        },
      ),
      (concurrency, maxQueued, commands) => {
        fc.modelRun(
          () => ({
            model: { concurrency, maxQueued, running: 0, waiting: [], next: 0 },
            real: new Admission<number>(concurrency, maxQueued),
          }),
          commands,
        );
      },
    ),
    { numRuns: 300 },
  );
});
