import { beforeEach, describe, expect, it } from 'vitest';
import { LockTable, type LockAnswer } from '../../src/core/state/locks.ts';
import { Random } from '../support/random.ts';

class Owner {
  readonly name: string;
  readonly age: { startMs: number; first: string };

  constructor(name: string, startMs: number) {
    this.name = name;
    this.age = { startMs, first: name };
  }
}

const [oldest, middle, youngest] = [new Owner('a', 1), new Owner('b', 2), new Owner('c', 3)];
let granted: string[];
let table: LockTable<Owner>;

function waiting(answer: LockAnswer<Owner>): { behind: string; wounds: string[] } {
  if (answer.granted) throw new Error('granted');
  return { behind: answer.behind.name, wounds: answer.wounds.map(({ name }) => name) };
}

beforeEach(() => {
  granted = [];
  table = new LockTable((owner, key, mode) => granted.push(`${owner.name} ${key} ${mode}`));
});

describe('LockTable', () => {
  it('shares shared locks and nothing else', () => {
    expect(table.request(oldest, 'k', 'shared').granted).toBe(true);
    expect(table.request(middle, 'k', 'shared').granted).toBe(true);
    expect(waiting(table.request(youngest, 'k', 'exclusive'))).toEqual({ behind: 'a', wounds: [] });
    table.free(oldest, 'k');
    expect(granted).toEqual([]);
    table.free(middle, 'k');
    expect(granted).toEqual(['c k exclusive']);
  });

  it('tells an older one which younger ones stand in its way', () => {
    table.request(youngest, 'k', 'shared');
    table.request(middle, 'k', 'shared');
    expect(waiting(table.request(oldest, 'k', 'exclusive')).wounds).toEqual(['c', 'b']);
    expect(table.request(oldest, 'k', 'exclusive')).toMatchObject({ asksAgain: true });
  });

  it('lets the older one go first, and nobody overtake it', () => {
    table.request(middle, 'k', 'exclusive');
    table.request(youngest, 'k', 'shared');
    table.request(oldest, 'k', 'shared');
    table.free(middle, 'k');
    expect(granted).toEqual(['a k shared', 'c k shared']);
    granted = [];
    table.request(middle, 'k', 'exclusive');
    expect(waiting(table.request(new Owner('d', 4), 'k', 'shared')).behind).toBe('b');
  });

  it('turns a shared lock into an exclusive one', () => {
    table.request(middle, 'k', 'shared');
    table.request(youngest, 'k', 'shared');
    expect(waiting(table.request(middle, 'k', 'exclusive'))).toEqual({
      behind: 'c',
      wounds: ['c'],
    });
    expect(waiting(table.request(youngest, 'k', 'exclusive')).wounds).toEqual([]);
    table.free(youngest, 'k');
    expect(granted).toEqual(['b k exclusive']);
    expect(table.modeOf(middle, 'k')).toBe('exclusive');
  });

  it('keeps what one has when it asks for less', () => {
    table.request(oldest, 'k', 'exclusive');
    expect(table.request(oldest, 'k', 'shared').granted).toBe(true);
    expect(table.modeOf(oldest, 'k')).toBe('exclusive');
  });

  it('chains tentative values', () => {
    table.push('k', { owner: oldest, value: '1', version: 1 });
    table.push('k', { owner: middle, value: '2', version: 2 });
    expect(table.tail('k')?.value).toBe('2');
    expect(table.contention('k')).toBe(2);
    table.settle(middle, 'k');
    expect(table.tail('k')?.owner).toBe(oldest);
    table.settle(oldest, 'k');
    expect(table.size).toBe(0);
  });

  it('is never unjust, whatever comes', () => {
    for (let seed = 1; seed <= 300; seed += 1) {
      const random = new Random(seed);
      const owners = Array.from({ length: 6 }, (_, at) => new Owner(`o${at}`, random.below(4)));
      const queued = new Set<Owner>();
      const each = new LockTable<Owner>((owner) => queued.delete(owner));
      for (let step = 0; step < 60; step += 1) {
        const owner = random.pick(owners);
        if (random.chance(0.4)) {
          each.free(owner, 'k');
          queued.delete(owner);
        } else {
          const mode = random.chance(0.5) ? 'shared' : 'exclusive';
          if (!each.request(owner, 'k', mode).granted) queued.add(owner);
        }
        const holders = owners.filter((one) => each.modeOf(one, 'k') !== undefined);
        const exclusive = holders.filter((one) => each.modeOf(one, 'k') === 'exclusive');
        expect(exclusive.length === 0 || holders.length === 1, `seed ${seed}`).toBe(true);
        // Somebody holds the key whenever somebody waits for it.
        expect(queued.size === 0 || holders.length > 0, `seed ${seed}`).toBe(true);
      }
      for (const owner of owners) each.free(owner, 'k');
      expect(each.size).toBe(0);
    }
  });
});
