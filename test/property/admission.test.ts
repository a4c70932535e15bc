import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { Admission } from '../../src/core/admission.ts';

it('admission behaves as a counter and a first-in first-out list', () => {
  const steps = fc.array(fc.constantFrom('offer', 'offer', 'release'), {
    maxLength: 150,
    size: 'max',
  });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5 }),
      fc.nat(8),
      steps,
      (concurrency, maxQueued, steps) => {
        const admission = new Admission<number>(concurrency, maxQueued);
        const waiting: number[] = [];
        let running = 0;
        for (const [item, step] of steps.entries()) {
          let given: unknown;
          let wanted: unknown;
          if (step === 'offer') {
            given = admission.offer(item);
            const mayWait = waiting.length < maxQueued;
            wanted = running < concurrency ? 'run' : mayWait ? 'wait' : 'refused';
            if (wanted === 'run') running += 1;
            else if (wanted === 'wait') waiting.push(item);
          } else if (running > 0) {
            given = admission.release();
            wanted = waiting.shift();
            if (wanted === undefined) running -= 1;
          }
          expect([given, admission.running, admission.queued]).toEqual([
            wanted,
            running,
            waiting.length,
          ]);
          expect(admission.running).toBeLessThanOrEqual(concurrency);
        }
      },
    ),
    { numRuns: 200 },
  );
});
