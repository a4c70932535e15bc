import { describe, expect, it } from 'vitest';
import { Directory, type WorkerRecord } from '../../src/core/directory.ts';

const worker = (id: string, more: Partial<WorkerRecord> = {}): WorkerRecord => ({
  id,
  connectionEpoch: 1,
  state: 'running',
  functions: ['f'],
  revision: 1,
  ...more,
});
const first = (): number => 0;
const last = (): number => 1 - Number.EPSILON;

function directoryOf(...records: WorkerRecord[]): Directory {
  const directory = new Directory();
  for (const record of records) directory.announced(record, 0);
  return directory;
}

describe('pick', () => {
  it('gives only workers that have the function', () => {
    const directory = directoryOf(worker('a', { functions: ['g'] }), worker('b'));
    expect([directory.pick('f', first), directory.pick('f', last)]).toEqual(['b', 'b']);
    expect(directory.pick('h', first)).toBeUndefined();
  });

  it('gives no draining worker', () => {
    const directory = directoryOf(worker('a', { state: 'draining' }));
    expect(directory.pick('f', first)).toBeUndefined();
  });

  it('notices that a worker drains by its beat', () => {
    const directory = directoryOf(worker('a'), worker('b'));
    expect(directory.pick('f', first)).toBe('a');
    directory.beat(worker('a', { state: 'draining' }), 1);
    expect(directory.pick('f', first)).toBe('b');
  });

  it('notices a worker that was announced, removed, or has changed its functions', () => {
    const directory = directoryOf(worker('b'));
    expect(directory.pick('f', first)).toBe('b');
    directory.announced(worker('a'), 1);
    expect(directory.pick('f', first)).toBe('a');
    directory.announced(worker('a', { functions: [], revision: 2 }), 2);
    expect(directory.pick('f', first)).toBe('b');
    directory.remove('b');
    expect(directory.pick('f', first)).toBeUndefined();
  });

  it('gives another worker than the excepted one if there is another', () => {
    const directory = directoryOf(worker('a'), worker('b'));
    expect([directory.pick('f', first, 'a'), directory.pick('f', last, 'a')]).toEqual(['b', 'b']);
    expect([directory.pick('f', first, 'b'), directory.pick('f', last, 'b')]).toEqual(['a', 'a']);
  });

  it('gives the excepted worker where it is the only one', () => {
    expect(directoryOf(worker('a')).pick('f', first, 'a')).toBe('a');
  });
});

describe('announcements and beats', () => {
  it('tell a worker that came back on a new connection from one that did not', () => {
    const directory = new Directory();
    expect(directory.announced(worker('a'), 0)).toBe(false);
    expect(directory.announced(worker('a'), 1)).toBe(false);
    expect(directory.announced(worker('a', { connectionEpoch: 2 }), 2)).toBe(true);
    expect(directory.beat(worker('a', { connectionEpoch: 3 }), 3)).toBe('new-connection');
    expect(directory.beat(worker('a', { connectionEpoch: 3 }), 4)).toBe('known');
  });

  it('of an unknown worker or an unknown revision are unknown', () => {
    const directory = directoryOf(worker('a'));
    expect(directory.beat(worker('b'), 1)).toBe('unknown');
    expect(directory.beat(worker('a', { revision: 2 }), 1)).toBe('unknown');
    expect(directory.size).toBe(1);
  });

  it('keep the functions that a beat does not name', () => {
    const directory = directoryOf(worker('a'));
    directory.beat({ id: 'a', connectionEpoch: 2, state: 'running', revision: 1 }, 1);
    expect(directory.workers()).toEqual([worker('a', { connectionEpoch: 2 })]);
  });
});

describe('a worker without beats', () => {
  it('is silent once the bound has passed, and not before', () => {
    const directory = directoryOf(worker('a'));
    expect(directory.silence(100, 100)).toEqual([]);
    expect(directory.silence(100.5, 100)).toEqual(['a']);
    // Again and again, so that it is asked again and again.
    expect(directory.silence(101, 100)).toEqual(['a']);
    expect(directory.has('a')).toBe(true);
  });

  it('is chosen only where no other can be, and again after its next beat', () => {
    const directory = directoryOf(worker('a'), worker('b'));
    directory.beat(worker('b'), 50);
    expect(directory.silence(120, 100)).toEqual(['a']);
    expect([directory.pick('f', first), directory.pick('f', last)]).toEqual(['b', 'b']);
    expect(directory.pick('f', first, 'b')).toBe('a');
    directory.remove('b');
    expect(directory.pick('f', first)).toBe('a');
    directory.announced(worker('b'), 120);
    expect(directory.pick('f', first)).toBe('b');
    directory.beat(worker('a'), 121);
    expect(directory.pick('f', first)).toBe('a');
  });

  it('does not count as heard since, nor does one that drains', () => {
    const directory = directoryOf(worker('a'), worker('b'), worker('c'));
    expect(directory.heardSince(0)).toEqual(['a', 'b', 'c']);
    directory.beat(worker('b'), 50);
    directory.beat(worker('c', { state: 'draining' }), 60);
    expect(directory.heardSince(50)).toEqual(['b']);
    expect(directory.heardSince(51)).toEqual([]);
  });

  it('is silent from its last beat or announcement on', () => {
    const directory = directoryOf(worker('a'), worker('b'));
    directory.beat(worker('a'), 50);
    directory.announced(worker('b'), 60);
    expect(directory.silence(155, 100)).toEqual(['a']);
    expect(directory.silence(160, 100)).toEqual(['a']);
    expect(directory.silence(161, 100)).toEqual(['a', 'b']);
  });
});

describe('a flood of announcements', () => {
  it('is remembered up to a bound, and does not push out those that are there', () => {
    const directory = directoryOf(worker('real'));
    for (let index = 0; index < 20_000; index += 1) {
      directory.announced(worker(`forged-${index}`, { functions: ['g'] }), 0);
    }
    expect(directory.size).toBe(10_000);
    expect(directory.announced(worker('real', { connectionEpoch: 2 }), 1)).toBe(true);
    expect(directory.pick('f', first)).toBe('real');
  });
});
