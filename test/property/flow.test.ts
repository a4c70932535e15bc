/** Flow control under random events, runs and failures: no bound is ever exceeded, nothing waits for ever, order holds. */
import { describe, expect, it } from 'vitest';
import { Dispatch, type FlowControl, type Held } from '../../src/core/delivery/dispatch.ts';
import { NO_LOT } from '../../src/core/delivery/flow.ts';
import { Random } from '../support/random.ts';

const LIMITS = { maxEventsHeld: 1_000, maxEventBytesHeld: 1_000_000, maxEventsRunning: 8 };
const EVENTS = 60;
const MAX_STEPS = 20_000;

interface Begun {
  atMs: number;
  run: Held<null>[];
}

class Trial {
  readonly random: Random;
  readonly flow: FlowControl;
  readonly keyed: boolean;
  readonly dispatch: Dispatch<null>;
  readonly all: Held<null>[] = [];
  readonly begun: Begun[] = [];
  readonly running: Held<null>[][] = [];
  readonly settled: Held<null>[] = [];
  readonly refused: Held<null>[] = [];
  nowMs = 1_000;

  constructor(seed: number) {
    this.random = new Random(seed);
    const { random } = this;
    this.keyed = random.chance(0.5);
    const one = random.below(4);
    this.flow = {
      concurrency: random.chance(0.6) ? 1 + random.below(3) : undefined,
      rate: random.chance(0.6)
        ? {
            limit: 1 + random.below(4),
            periodMs: 10 + random.below(90),
            refuse: random.chance(0.3),
          }
        : undefined,
      batch:
        one === 1
          ? { maxSize: 1 + random.below(5), waitMs: 20, maxBytes: 40, ordered: this.keyed }
          : undefined,
      debounce: one === 2 ? { waitMs: 15, maxWaitMs: 60 } : undefined,
      singleton: one === 3,
    };
    this.dispatch = new Dispatch<null>({ next: 1, open: [] }, LIMITS, this.flow);
  }

  add(): void {
    const { random } = this;
    const sequence = this.all.length + 1;
    const name = (what: string, kinds: number): string => `${what}${random.below(kinds)}`;
    const key = this.keyed ? name('key', 4) : undefined;
    const ordered = this.flow.batch?.ordered === true;
    const held: Held<null> = {
      sequence,
      key,
      // Batches of a key are in one order.
      lot: ordered
        ? { ...NO_LOT, batch: key ?? '' }
        : {
            ...NO_LOT,
            concurrency: name('c', 3),
            rate: name('r', 2),
            fair: name('f', 2),
            batch: key ?? name('b', 2),
            debounce: name('d', 3),
            singleton: name('s', 3),
            priority: random.below(3) - 1,
          },
      bytes: 1 + random.below(20),
      arrivedMs: this.nowMs,
      failures: 0,
      again: false,
      dueMs: 0,
      retryAtMs: undefined,
      event: null,
    };
    this.all.push(held);
    this.dispatch.add(held, this.nowMs);
  }

  take(): void {
    const { runs, refused } = this.dispatch.take(this.nowMs);
    for (const run of runs) {
      this.begun.push({ atMs: this.nowMs, run });
      this.running.push(run);
    }
    for (const held of refused) {
      this.refused.push(held);
      this.dispatch.settled(held);
    }
  }

  end(): void {
    const [run] = this.running.splice(this.random.below(this.running.length), 1);
    if (run === undefined) return;
    const fails = this.random.chance(0.15);
    for (const held of run) {
      if (fails) {
        held.failures += 1;
        this.dispatch.retry(held, this.nowMs + 5 + held.failures);
      } else {
        this.settled.push(held);
        this.dispatch.settled(held);
      }
    }
  }

  check(): void {
    const { concurrency, batch } = this.flow;
    if (concurrency !== undefined) {
      const counts = new Map<string, number>();
      for (const [first] of this.running) {
        const key = first?.lot?.concurrency ?? '';
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
      // A batch counts under the key of its group.
      must(Math.max(0, ...counts.values()) <= concurrency, 'too many run');
    }
    for (const run of this.running) {
      must(run.length > 0 && run.length <= (batch?.maxSize ?? 1), 'a batch of the wrong size');
    }
    if (!this.keyed) return;
    const keys = this.running.flatMap((run) => [...new Set(run.map(({ key }) => key))]);
    must(new Set(keys).size === keys.length, 'two of a key run');
  }

  run(): void {
    for (let step = 0; step < MAX_STEPS; step += 1) {
      const draw = this.random.next();
      if (draw < 0.3 && this.all.length < EVENTS) this.add();
      else if (draw < 0.6) this.end();
      else this.nowMs += this.random.below(12);
      this.take();
      this.check();
      const dueMs = this.dispatch.dueMs;
      // Whoever waits is told when to look again, unless something runs.
      const idle = this.running.length === 0 && this.all.length === EVENTS;
      if (idle && this.dispatch.held > 0) {
        must(dueMs !== undefined, 'nobody looks again');
        this.nowMs = Math.max(this.nowMs, dueMs ?? 0);
        this.take();
      } else if (idle) return;
    }
    throw new Error('it did not come to rest');
  }
}

function checkRate({ flow: { rate }, begun }: Trial): void {
  if (rate === undefined) return;
  const byKey = grouped(begun, ({ run }) => run[0]?.lot?.rate);
  for (const runs of byKey.values()) {
    for (let index = rate.limit; index < runs.length; index += 1) {
      const apartMs = (runs[index] as Begun).atMs - (runs[index - rate.limit] as Begun).atMs;
      must(apartMs >= rate.periodMs, 'the rate is exceeded');
    }
  }
}

function grouped<Item, Key>(items: readonly Item[], keyOf: (item: Item) => Key): Map<Key, Item[]> {
  const groups = new Map<Key, Item[]>();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return groups;
}

function checkRest({ all, settled, refused, dispatch, flow }: Trial): void {
  must(dispatch.held === 0, 'something is held');
  must(settled.length + refused.length + dispatch.dropped === all.length, 'not each once');
  must(new Set([...settled, ...refused]).size === settled.length + refused.length, 'one twice');
  const drops = flow.debounce !== undefined || flow.singleton === true;
  must(drops || dispatch.dropped === 0, 'dropped for nothing');
  if (flow.debounce !== undefined) return;
  for (const key of ['key0', 'key1', 'key2', 'key3']) {
    const order = settled.filter((held) => held.key === key).map(({ sequence }) => sequence);
    const sorted = order.toSorted((left, right) => left - right);
    must(JSON.stringify(order) === JSON.stringify(sorted), 'out of order');
  }
}

function must(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise);
}

describe('flow control', () => {
  it('exceeds no bound, loses nothing and keeps the order of keys', () => {
    let committed = 0;
    for (let seed = 1; seed <= 800; seed += 1) {
      const trial = new Trial(seed);
      try {
        trial.run();
        checkRate(trial);
        checkRest(trial);
        committed += trial.settled.length;
      } catch (error) {
        throw new Error(`seed ${seed}: ${JSON.stringify(trial.flow)}`, { cause: error });
      }
    }
    expect(committed).toBeGreaterThan(20_000);
  });
});
