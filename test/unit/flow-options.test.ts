import { describe, expect, it } from 'vitest';
import { lotOf, toFlow, type FlowDefinition } from '../../src/function/flow.ts';
import { defineFunction } from '../../src/function/define.ts';

const key = (): string => 'a';
const define = (options: object): unknown =>
  defineFunction({ name: 'f', on: 'a', handler: () => 1, ...options } as never);

describe('flow control', () => {
  it.each([
    [{ concurrency: 5 }],
    [{ concurrency: { limit: 5, key } }],
    [{ rateLimit: { limit: 1, periodMs: 1_000, key, exceeded: 'refuse' } }],
    [{ debounce: { waitMs: 10, maxWaitMs: 10, key } }],
    [{ batch: { maxSize: 10, waitMs: 10 }, key }],
    [{ batch: { maxSize: 10, waitMs: 10, key }, concurrency: { limit: 1, key } }],
    [{ singleton: true, concurrency: 1, priority: () => 1, fair: key }],
    [{ singleton: false, delivery: 'ephemeral' }],
    [{ on: undefined, cron: '* * * * *', singleton: { key } }],
  ])('may be %j', (options) => {
    expect(() => define(options)).not.toThrow();
  });

  it.each([
    [{ concurrency: 0 }, /concurrency must be an integer from 1 to 65536/],
    [{ concurrency: 1.5 }, /concurrency must be an integer/],
    [{ concurrency: { key } }, /concurrency has limit, which must be an integer/],
    [{ concurrency: { limit: 1, keys: key } }, /concurrency has no option "keys"/],
    [{ concurrency: 'many' }, /concurrency must be \{ limit, key \}/],
    [{ rateLimit: { limit: 1 } }, /rateLimit has periodMs, which must be/],
    [{ rateLimit: { limit: 1, periodMs: -1 } }, /rateLimit has periodMs, which must be/],
    [{ rateLimit: { limit: 1, periodMs: 1, exceeded: 'drop' } }, /'delay' or 'refuse'/],
    [{ rateLimit: { limit: 1, periodMs: 1, key: 'a' } }, /key, which must be a function/],
    [{ debounce: { waitMs: 10, maxWaitMs: 5 } }, /maxWaitMs below waitMs/],
    [{ debounce: 10 }, /debounce must be \{ waitMs, maxWaitMs, key \}/],
    [{ batch: { maxSize: 10_000, waitMs: 1 } }, /maxSize, which must be an integer from 1 to 1000/],
    [{ batch: { maxSize: 10, waitMs: 1, key }, key }, /batch.key cannot be used together with key/],
    [{ batch: { maxSize: 10, waitMs: 1 }, key, fair: key }, /which fair would divide/],
    [{ batch: { maxSize: 10, waitMs: 1 }, debounce: { waitMs: 1 } }, /cannot be used together/],
    [{ singleton: 1 }, /singleton must be/],
    [{ priority: 5 }, /priority must be a function/],
    [{ concurrency: 1, delivery: 'ephemeral' }, /concurrency needs delivery 'durable'/],
    [{ concurrency: 1, on: undefined }, /is for events, and the function has none/],
  ])('may not be %j', (options, message) => {
    expect(() => define(options)).toThrow(message);
  });

  it('makes an event unreadable for which a key or the priority is not legal', () => {
    const event = { data: undefined } as never;
    const lot = (options: object): unknown => lotOf(toFlow(options) as FlowDefinition, event);
    expect(lot({ fair: key, priority: () => -3 })).toMatchObject({ fair: 'a', priority: -3 });
    expect(() => lot({ fair: () => 7 })).toThrow('the key of fair must be a text');
    expect(() => lot({ fair: () => '' })).toThrow('the key of fair must be a text');
    expect(() => lot({ concurrency: { limit: 1, key: () => 'x'.repeat(513) } })).toThrow(
      'concurrency',
    );
    expect(() => lot({ priority: () => 0.5 })).toThrow('the priority must be an integer');
    expect(() => lot({ priority: () => 1_001 })).toThrow('the priority must be an integer');
  });
});
