import { describe, expect, it } from 'vitest';
import { Histogram } from '../../src/core/histogram.ts';
import { inspectedWorker, mergeFunctions } from '../../src/core/merge-reports.ts';
import type { FunctionReport, WorkerReport } from '../../src/core/report.ts';

function latencyOf(...samplesMs: number[]): FunctionReport['latency'] {
  const histogram = new Histogram();
  for (const sample of samplesMs) histogram.recordMs(sample);
  return histogram.toSparse();
}

const functionReport = (name: string, more: Partial<FunctionReport> = {}): FunctionReport => ({
  name,
  version: 'v1',
  on: [],
  delivery: 'durable',
  balance: 'random',
  calls: 0,
  errors: 0,
  refused: 0,
  running: 0,
  queued: 0,
  abandoned: 0,
  waiting: 0,
  perSecond: 0,
  busy: 0,
  slots: 256,
  subjects: [],
  latency: [],
  ...more,
});

const worker = (id: string, ...functions: FunctionReport[]): WorkerReport => ({
  id,
  pid: 1,
  host: 'here',
  startedAt: '2026-01-01T00:00:00.000Z',
  state: 'running',
  functions,
  partitions: [],
  inFlight: 0,
  utilization: 0,
  capacity: 100,
  slots: 256,
});

describe('the reports of several workers', () => {
  it('are summed by function', () => {
    const [merged, ...others] = mergeFunctions([
      worker(
        'a',
        functionReport('f', {
          calls: 10,
          errors: 1,
          refused: 2,
          running: 3,
          queued: 4,
          subjects: [
            ['x', 6],
            ['y', 4],
          ],
          latency: latencyOf(1, 1, 1),
        }),
      ),
      worker(
        'b',
        functionReport('f', {
          calls: 100,
          errors: 10,
          refused: 20,
          running: 30,
          queued: 40,
          subjects: [
            ['y', 60],
            ['z', 40],
          ],
          latency: latencyOf(100),
        }),
      ),
    ]);
    expect(others).toEqual([]);
    expect(merged).toMatchObject({
      name: 'f',
      workers: 2,
      calls: 110,
      errors: 11,
      refused: 22,
      pending: 77,
      subjects: { x: 6, y: 64, z: 40 },
    });
    expect(merged?.latencyMs.p50).toBeGreaterThan(0.95);
    expect(merged?.latencyMs.p50).toBeLessThan(1.05);
    expect(merged?.latencyMs.p99).toBeGreaterThan(95);
    expect(merged?.latencyMs.p99).toBeLessThan(105);
  });

  it('name the version that most workers run, with what it says of itself, and count all of them', () => {
    const [merged] = mergeFunctions([
      worker('a', functionReport('f', { version: 'old', on: ['before'] })),
      worker('b', functionReport('f', { version: 'new', on: ['after'], delivery: 'ephemeral' })),
      worker('c', functionReport('f', { version: 'new', on: ['after'], delivery: 'ephemeral' })),
    ]);
    expect(merged).toMatchObject({
      version: 'new',
      versions: { old: 1, new: 2 },
      on: ['after'],
      delivery: 'ephemeral',
      workers: 3,
    });
  });

  it('come sorted by name, each function once', () => {
    const names = mergeFunctions([
      worker('a', functionReport('b'), functionReport('a')),
      worker('b', functionReport('c'), functionReport('a')),
    ]).map(({ name }) => name);
    expect(names).toEqual(['a', 'b', 'c']);
  });

  it('are nothing where there are none', () => {
    expect(mergeFunctions([])).toEqual([]);
  });

  it('keep functions apart whose names an object has anyway', () => {
    const merged = mergeFunctions([
      worker('a', functionReport('constructor'), functionReport('__proto__', { calls: 1 })),
    ]);
    expect(merged.map(({ name, calls }) => [name, calls])).toEqual([
      ['__proto__', 1],
      ['constructor', 0],
    ]);
  });
});

it('an inspected worker has the names of its functions instead of their counts', () => {
  const shown = inspectedWorker(worker('a', functionReport('f'), functionReport('g')));
  expect(shown).toEqual({ ...worker('a'), functions: ['f', 'g'] });
});
