/**
 * Several dispatchers of one function at once, on old cursors, with lost answers and crashes: each event's effect is there
 * once, in order by key, and none is missing in the end (SPEC.md, D1 to D5). Only the marker is shared.
 */
import { describe, expect, it } from 'vitest';
import { Dispatch, type Cursor, type Held } from '../../src/core/delivery/dispatch.ts';
import {
  floorName,
  LANES,
  markerKey,
  readKeyMarker,
  settle,
} from '../../src/core/delivery/marker.ts';
import { Random } from '../support/random.ts';

const LIMITS = { maxEventsHeld: 12, maxEventBytesHeld: 100, maxEventsRunning: 4 };
/** Sequences of three lanes only: those of a lane have much in common. Some are of subjects that are others'. */
const STREAM = Array.from(
  { length: 60 },
  (_, index) => Math.floor(index / 3) * LANES + (index % 3) + 1,
);
const WANTED = STREAM.filter((_, index) => index % 4 !== 0);
const STEPS = 600;
/** Markers are kept for so many steps; of an event that was read so long ago its cursor is asked. */
const KEEP_STEPS = 40;
const OLD_STEPS = 8;

interface Run {
  held: Held<number>;
  /** What the dispatcher said when it sent it. */
  below: number;
  open: number[];
}

interface Actor {
  dispatch: Dispatch<number>;
  /** Of the cursor, as it has stored it last. */
  revision: number;
  unread: number[];
  running: Run[];
}

/** The world that dispatchers share: markers, effects, and the cursor that was stored last. */
class World {
  readonly random: Random;
  readonly keyed: boolean;
  readonly markers = new Map<string, string>();
  readonly effects: number[] = [];
  cursor: Cursor = { next: 1, open: [] };
  revision = 0;
  swept = 0;
  nowMs = 1;

  constructor(seed: number) {
    this.random = new Random(seed);
    this.keyed = this.random.chance(0.5);
  }

  keyOf(sequence: number): string | undefined {
    return this.keyed ? `key-${(sequence * 7) % 5}` : undefined;
  }

  begin(): Actor {
    const dispatch = new Dispatch<number>(structuredClone(this.cursor), LIMITS);
    const unread = WANTED.filter((each) => each >= dispatch.from);
    // Who begins claims the cursor.
    this.revision += 1;
    return { dispatch, unread, running: [], revision: this.revision };
  }

  step(actor: Actor): void {
    const { dispatch, running } = actor;
    const draw = this.random.next();
    if (draw < 0.4) this.read(actor);
    else if (draw < 0.6) {
      for (const held of dispatch.take(this.nowMs).runs.flat()) {
        const open = dispatch.openBeside(held.sequence);
        running.push({ held, below: dispatch.next, open });
      }
    } else if (draw < 0.95) {
      const [run] = running.splice(this.random.below(Math.max(1, running.length)), 1);
      if (run !== undefined) this.end(actor, run);
    } else if (actor.revision === this.revision) {
      this.cursor = structuredClone(dispatch.cursor());
      this.revision += 1;
      actor.revision = this.revision;
    }
    if (this.random.chance(0.1)) this.sweep();
  }

  /** As sweepMarkers does. */
  sweep(): void {
    const { next, open } = this.cursor;
    const floor = Math.min(next, ...open.map(([sequence]) => sequence));
    for (const [item, value] of this.markers) {
      const marker = readKeyMarker(item, value);
      if (marker === undefined || marker.settledAtMs > this.nowMs - KEEP_STEPS) continue;
      if (marker.source !== floorName('f', 's') || marker.sequence >= floor) continue;
      this.markers.delete(item);
      this.swept += 1;
    }
  }

  /** As Deliveries.past does. */
  isPast({ sequence, key, event: heldAt }: Held<number>): boolean {
    if (key === undefined || heldAt > this.nowMs - OLD_STEPS) return false;
    const { next, open } = this.cursor;
    return sequence < next && !open.some(([each]) => each === sequence);
  }

  read(actor: Actor): void {
    const sequence = actor.dispatch.room === 0 ? undefined : actor.unread.shift();
    if (sequence === undefined) return;
    const known = actor.dispatch.read(sequence);
    if (known === undefined) return;
    // A dispatcher keeps to what the one before has said.
    const dueMs = known.retryAtMs ?? 0;
    actor.dispatch.add(
      {
        sequence,
        key: this.keyOf(sequence),
        bytes: 1,
        ...known,
        dueMs,
        arrivedMs: 0,
        event: this.nowMs,
      },
      this.nowMs,
    );
  }

  end({ dispatch }: Actor, { held, below, open }: Run): void {
    const fails = this.random.chance(0.2);
    if (!fails) this.commit(held, below, open);
    // The answer is lost, too.
    const dueMs = this.nowMs + this.random.below(20);
    if (fails) dispatch.retry(held, dueMs, dueMs);
    else if (this.random.chance(0.2)) dispatch.retry(held, dueMs);
    else dispatch.settled(held);
  }

  commit(held: Held<number>, below: number, open: number[]): void {
    if (this.isPast(held)) return;
    const { sequence, key } = held;
    const source = key === undefined ? 's' : 's.which';
    const delivery = { source, sequence, key, below, open };
    const name = markerKey('f', delivery);
    const marker = settle(this.markers.get(name) ?? null, delivery, this.nowMs);
    if (marker === undefined) return;
    this.markers.set(name, marker);
    this.effects.push(sequence);
  }
}

function run(seed: number): World {
  const world = new World(seed);
  let actors = [world.begin()];
  for (let step = 0; step < STEPS; step += 1) {
    world.nowMs += 1;
    if (world.random.chance(0.01)) actors = actors.slice(1);
    if (actors.length < 3 && world.random.chance(0.02)) actors.push(world.begin());
    if (actors.length > 0) world.step(world.random.pick(actors));
  }
  // One that is left alone comes to the end.
  const last = world.begin();
  const rests = (): boolean => last.unread.length === 0 && last.dispatch.held === 0;
  for (let step = 0; step < 100_000 && !rests(); step += 1) {
    world.nowMs += 1;
    world.step(last);
  }
  return world;
}

describe('dispatchers, however many and old', () => {
  it('settle each event once, in order by key, though old markers are removed', () => {
    let swept = 0;
    for (let seed = 1; seed <= 1_500; seed += 1) {
      const world = run(seed);
      swept += world.swept;
      const settled = world.effects.toSorted((left, right) => left - right);
      expect(settled, `seed ${seed}`).toEqual(WANTED);
      if (!world.keyed) continue;
      for (const key of new Set(WANTED.map((sequence) => world.keyOf(sequence)))) {
        const own = world.effects.filter((sequence) => world.keyOf(sequence) === key);
        expect(own, `seed ${seed}`).toEqual(own.toSorted((left, right) => left - right));
      }
    }
    expect(swept).toBeGreaterThan(1_000);
  });
});

describe('a dispatch', () => {
  const held = (sequence: number, key?: string, bytes = 1): Held<null> => ({
    sequence,
    key,
    bytes,
    failures: 0,
    again: false,
    dueMs: 0,
    retryAtMs: undefined,
    arrivedMs: 0,
    event: null,
  });
  const taken = (dispatch: Dispatch<null>, nowMs: number): Held<null>[] =>
    dispatch.take(nowMs).runs.flat();
  const sequences = (taken: readonly Held<null>[]): number[] =>
    taken.map(({ sequence }) => sequence);

  it('has no room beyond its bounds, in events and in bytes, and runs no more than it may', () => {
    const dispatch = new Dispatch<null>({ next: 1, open: [] }, LIMITS);
    for (let sequence = 1; sequence <= 12; sequence += 1) dispatch.add(held(sequence), 0);
    expect(dispatch.room).toBe(0);
    const first = taken(dispatch, 0);
    expect(sequences(first)).toEqual([1, 2, 3, 4]);
    expect(taken(dispatch, 0)).toEqual([]);
    for (const each of first) dispatch.settled(each);
    expect(dispatch.room).toBe(4);
    dispatch.add(held(13, undefined, 200), 0);
    expect(dispatch.room).toBe(0);
  });

  it('says of its cursor what is open, with its failures, also before it has read it again', () => {
    const dispatch = new Dispatch<null>({ next: 10, open: [[4, 2]] }, LIMITS);
    expect(dispatch.from).toBe(4);
    expect(dispatch.cursor()).toEqual({ next: 10, open: [[4, 2]] });
    expect(dispatch.openBeside(4)).toEqual([4]);
    expect(dispatch.read(4)).toMatchObject({ failures: 2, again: true });
    expect(dispatch.read(5)).toBeUndefined();
    expect(dispatch.read(10)).toMatchObject({ failures: 0, again: false });
  });

  it('keeps to the time that the cursor has for a retry, those of its key behind it', () => {
    const dispatch = new Dispatch<null>({ next: 1, open: [] }, LIMITS);
    for (const sequence of [1, 2]) dispatch.add(held(sequence, 'a'), 0);
    const [one] = taken(dispatch, 0);
    dispatch.retry(one as Held<null>, 100, 5_100);
    const cursor = dispatch.cursor();
    expect(cursor).toEqual({
      next: 3,
      open: [
        [1, 0, 5_100],
        [2, 0],
      ],
    });
    const next = new Dispatch<null>(cursor, LIMITS);
    const known = next.read(1);
    expect(known?.retryAtMs).toBe(5_100);
    next.add({ ...held(1, 'a'), dueMs: 300 }, 200);
    next.add(held(2, 'a'), 200);
    expect(taken(next, 299)).toEqual([]);
    expect(next.dueMs).toBe(300);
    const [again] = taken(next, 300);
    next.settled(again as Held<null>);
    expect(sequences(taken(next, 300))).toEqual([2]);
  });

  it('forgets what its stream has not any more', () => {
    const dispatch = new Dispatch<null>({ next: 10, open: [[4, 2]] }, LIMITS);
    expect(dispatch.read(6)).toBeUndefined();
    expect(dispatch.cursor()).toEqual({ next: 10, open: [] });
  });

  it('lets those of a key wait behind one that failed, and no others', () => {
    const dispatch = new Dispatch<null>({ next: 1, open: [] }, LIMITS);
    for (const [sequence, key] of [
      [1, 'a'],
      [2, 'a'],
      [3, 'b'],
    ] as const) {
      dispatch.add(held(sequence, key), 0);
    }
    const [one, three] = taken(dispatch, 0);
    expect([one?.sequence, three?.sequence]).toEqual([1, 3]);
    dispatch.retry(one as Held<null>, 100);
    dispatch.settled(three as Held<null>);
    expect(taken(dispatch, 99)).toEqual([]);
    expect(dispatch.dueMs).toBe(100);
    const [again] = taken(dispatch, 100);
    expect(again).toMatchObject({ sequence: 1, again: true });
    dispatch.settled(again as Held<null>);
    expect(sequences(taken(dispatch, 100))).toEqual([2]);
  });
});
