/** Kept answers: what a caller may see of a source that changes, while calls take their time and entries are dropped. */
import { describe, expect, it } from 'vitest';
import { AnswerCache, type Answer, type CacheRules } from '../../src/core/answer-cache.ts';
import { MillraceError, type ErrorCode } from '../../src/core/errors.ts';
import { ContentType } from '../../src/core/payload.ts';
import { Random } from '../support/random.ts';

const MAX_BYTES = 100_000;
const RULES: CacheRules = { ttlMs: 100, staleMs: 0, errorMs: 0, maxEntries: 10 };

const answer = (text: string): Answer => ({ encoded: { type: ContentType.json, body: text } });
const failure = (code: ErrorCode): Answer => ({ error: new MillraceError(code, 'no') });
const textOf = (given: Answer): string =>
  'encoded' in given ? String(given.encoded.body) : given.error.code;

class World {
  nowMs = 0;
  calls = 0;
  readonly cache: AnswerCache;
  #open: ((given: Answer) => void)[] = [];

  constructor(rules: Partial<CacheRules> = {}, maxBytes = MAX_BYTES) {
    this.cache = new AnswerCache({ ...RULES, ...rules }, maxBytes, () => this.nowMs);
  }

  /** The call that it makes, if it makes one, ends with `end`. */
  ask(key: string): Promise<string> {
    const given = this.cache.get(key, () => {
      this.calls += 1;
      return new Promise((resolve) => this.#open.push(resolve));
    });
    return given instanceof Promise ? given.then(textOf) : Promise.resolve(textOf(given));
  }

  async end(given: Answer): Promise<void> {
    this.#open.shift()?.(given);
    await Promise.resolve();
    await Promise.resolve();
  }

  async told(key: string, given: Answer): Promise<string> {
    const asked = this.ask(key);
    await this.end(given);
    return asked;
  }
}

describe('an answer that is kept', () => {
  it('is given again until its time is over', async () => {
    const world = new World();
    expect(await world.told('a', answer('1'))).toBe('1');
    world.nowMs = 99;
    expect(await world.ask('a')).toBe('1');
    world.nowMs = 100;
    expect(await world.told('a', answer('2'))).toBe('2');
    expect(world.calls).toBe(2);
    expect(world.cache.counts).toMatchObject({ hits: 1, misses: 2, stale: 0, collapsed: 0 });
  });

  it('is fetched once for all who ask meanwhile, whatever comes of it', async () => {
    const world = new World();
    const asked = [world.ask('a'), world.ask('a'), world.ask('a'), world.ask('b')];
    expect(world.calls).toBe(2);
    await world.end(failure('UNAVAILABLE'));
    await world.end(answer('b'));
    expect(await Promise.all(asked)).toEqual(['UNAVAILABLE', 'UNAVAILABLE', 'UNAVAILABLE', 'b']);
    expect(await world.told('a', answer('1'))).toBe('1');
  });

  it('is given a while longer when it is out of date, and fetched behind that once', async () => {
    const world = new World({ staleMs: 50 });
    await world.told('a', answer('1'));
    world.nowMs = 120;
    expect([await world.ask('a'), await world.ask('a')]).toEqual(['1', '1']);
    expect(world.calls).toBe(2);
    await world.end(answer('2'));
    expect(await world.ask('a')).toBe('2');
    expect(world.calls).toBe(2);
  });

  it('is better, out of date, than none', async () => {
    const world = new World({ staleMs: 50, errorMs: 1_000 });
    await world.told('a', answer('1'));
    world.nowMs = 120;
    expect(await world.told('a', failure('FUNCTION_FAILED'))).toBe('1');
    expect(await world.told('a', failure('UNAVAILABLE'))).toBe('1');
    world.nowMs = 150;
    expect(await world.told('a', failure('UNAVAILABLE'))).toBe('UNAVAILABLE');
  });

  it.each<[ErrorCode, number]>([
    ['FUNCTION_FAILED', 1],
    ['INVALID_INPUT', 1],
    ['UNAVAILABLE', 2],
    ['TIMEOUT', 2],
    ['TRANSACTION_CONFLICT', 2],
  ])('may be a failure of the function, not of the platform: %s', async (code, calls) => {
    const world = new World({ errorMs: 10 });
    await world.told('a', failure(code));
    await world.told('a', failure(code));
    expect(world.calls).toBe(calls);
    world.nowMs = 10;
    expect(await world.told('a', answer('1'))).toBe('1');
  });

  it('goes when there are too many, the longest unused one first, or when they are too large', async () => {
    const world = new World({ maxEntries: 2 });
    for (const key of ['a', 'b']) await world.told(key, answer(key));
    await world.ask('a');
    await world.told('c', answer('c'));
    expect(world.cache.size).toBe(2);
    expect(await world.ask('a')).toBe('a');
    expect(await world.told('b', answer('again'))).toBe('again');
    const small = new World({}, 1_000);
    await small.told('a', answer('x'.repeat(5_000)));
    expect(small.cache.size).toBe(0);
    for (let index = 0; index < 20; index += 1)
      await small.told(`${index}`, answer('x'.repeat(300)));
    expect(small.cache.size).toBe(2);
  });

  it('goes when it is dropped, by its key or with all', async () => {
    const world = new World();
    for (const key of ['a', 'b']) await world.told(key, answer(key));
    world.cache.drop(['a', 'unknown']);
    expect(await world.told('a', answer('new'))).toBe('new');
    expect(await world.ask('b')).toBe('b');
    world.cache.drop();
    expect(await world.told('b', answer('new'))).toBe('new');
    expect(world.cache.counts.dropped).toBe(3);
  });
});

/** A source that changes, calls that read it at some moment of their way, and callers who are told of each change at once. */
describe('a caller', () => {
  it('never sees, in an answer that it has asked for after it was told of a change, what was before', async () => {
    for (let seed = 1; seed <= 300; seed += 1) {
      const random = new Random(seed);
      let version = 0;
      const reads: { read: () => void; end: () => void }[] = [];
      const cache = new AnswerCache(
        { ...RULES, ttlMs: 1_000_000, staleMs: random.chance(0.5) ? 1_000 : 0 },
        MAX_BYTES,
        () => 0,
      );
      /** What each was given, and what it must not be older than. */
      const seen: Promise<[given: number, least: number]>[] = [];
      for (let step = 0; step < 100; step += 1) {
        const draw = random.next();
        if (draw < 0.4) {
          const key = random.pick(['a', 'b']);
          const least = version;
          const given = cache.get(key, () => {
            let found = -1;
            return new Promise((resolve) => {
              reads.push({
                read: () => (found = version),
                end: () => resolve(answer(String(found < 0 ? version : found))),
              });
            });
          });
          seen.push(Promise.resolve(given).then((got) => [Number(textOf(got)), least]));
        } else if (draw < 0.6 && reads.length > 0) random.pick(reads).read();
        else if (draw < 0.85 && reads.length > 0) {
          reads.splice(random.below(reads.length), 1)[0]?.end();
          await Promise.resolve();
        } else if (draw > 0.9) {
          version += 1;
          cache.drop(random.chance(0.5) ? undefined : ['a', 'b']);
        }
      }
      for (const { end } of reads) end();
      const old = (await Promise.all(seen)).filter(([given, least]) => given < least);
      expect(old, `seed ${seed}`).toEqual([]);
    }
  });
});
