/** Flow control of a function's durable events: what its options may be, and what they say of an event. */
import type { FlowControl } from '../core/delivery/dispatch.ts';
import { NO_LOT, type Lot } from '../core/delivery/flow.ts';
import { fields, isFunction, whole, type Check } from './checks.ts';
import type { FunctionEvent } from './context.ts';

/** Counts by what this gives, 1 to 512 bytes of text; without it all events of the function count together. */
export type FlowKey<Data = unknown> = (event: FunctionEvent<Data>) => string;

/** All times in milliseconds. */
export interface FlowOptions<Data = unknown> {
  /** So many runs at once, over all workers: 1 to 65,536. What is more waits. */
  concurrency?: number | { limit: number; key?: FlowKey<Data> | undefined };
  /** So many runs begin in any period, over all workers; what is more waits (default) or is refused: a dead letter. */
  rateLimit?: {
    limit: number;
    periodMs: number;
    key?: FlowKey<Data> | undefined;
    exceeded?: 'delay' | 'refuse' | undefined;
  };
  /** Only the last event runs (of each key, if the function has one), when none has come for `waitMs`; at the latest `maxWaitMs` (default ten times that) after the first. */
  debounce?: { waitMs: number; maxWaitMs?: number | undefined; key?: FlowKey<Data> | undefined };
  /** Up to `maxSize` events run together, `event.batch`; a smaller batch when its first event has waited for `waitMs`. By `key`, too, if the function has one. */
  batch?: { maxSize: number; waitMs: number; key?: FlowKey<Data> | undefined };
  /** While an event waits or runs others are dropped. */
  singleton?: boolean | { key?: FlowKey<Data> | undefined };
  /** Higher ones run first, of those that wait: an integer from -1,000 to 1,000. */
  priority?: (event: FunctionEvent<Data>) => number;
  /** Those with the same text take turns with others: a busy one doesn't hold up the rest. */
  fair?: FlowKey<Data>;
}

/** What a definition has of it, defaults filled in. */
export interface FlowDefinition extends FlowControl {
  readonly keys: Readonly<Partial<Record<KeyedOption, FlowKey>>>;
  readonly priority: ((event: FunctionEvent) => number) | undefined;
}
type KeyedOption = Exclude<keyof Lot, 'priority'>;

export const MAX_CONCURRENCY = 65_536;
export const MAX_RATE = 10_000;
export const MAX_BATCH_EVENTS = 1_000;
/** Of a batch's events together. */
export const MAX_BATCH_BYTES = 512 * 1024;
export const MAX_WAIT_MS = 86_400_000;
export const MAX_PRIORITY = 1_000;
export const MAX_FLOW_KEY_BYTES = 512;
const DEBOUNCE_FACTOR = 10;

const wait = whole(1, MAX_WAIT_MS);

const concurrencyFields = fields({ limit: whole(1, MAX_CONCURRENCY) }, { key: isFunction });
const singletonFields = fields({}, { key: isFunction });

/** By option: what is wrong with its value, to be put behind the option's name. */
export const FLOW_CHECKS: Readonly<Record<keyof FlowOptions, Check>> = {
  concurrency: (given) =>
    typeof given === 'number' ? whole(1, MAX_CONCURRENCY)(given) : concurrencyFields(given),
  rateLimit: fields(
    { limit: whole(1, MAX_RATE), periodMs: wait },
    {
      key: isFunction,
      exceeded: (value) =>
        value === 'delay' || value === 'refuse' ? undefined : "must be 'delay' or 'refuse'",
    },
  ),
  debounce: (given) => {
    const reason = fields({ waitMs: wait }, { maxWaitMs: wait, key: isFunction })(given);
    if (reason !== undefined) return reason;
    const { waitMs, maxWaitMs = waitMs } = given as { waitMs: number; maxWaitMs?: number };
    return maxWaitMs < waitMs ? 'has maxWaitMs below waitMs' : undefined;
  },
  batch: fields({ maxSize: whole(1, MAX_BATCH_EVENTS), waitMs: wait }, { key: isFunction }),
  singleton: (given) => (typeof given === 'boolean' ? undefined : singletonFields(given)),
  priority: isFunction,
  fair: isFunction,
};

/** Options that make no sense together, or without events that are kept. */
export function flowReason(options: Readonly<Record<string, unknown>>): string | undefined {
  const given = Object.keys(FLOW_CHECKS).filter(
    (name) => options[name] !== undefined && options[name] !== false,
  );
  const [first] = given;
  if (first === undefined) return undefined;
  if (options['delivery'] === 'ephemeral') return `${first} needs delivery 'durable', the default`;
  if (options['on'] === undefined && options['cron'] === undefined) {
    return `${first} is for events, and the function has none: it needs on or cron`;
  }
  const alone = ['debounce', 'batch', 'singleton'].filter((name) => given.includes(name));
  if (alone.length > 1) return `${alone[0]} and ${alone[1]} cannot be used together`;
  const { batch, debounce, key } = options as Record<
    'batch' | 'debounce' | 'key',
    { key?: unknown } | undefined
  >;
  if (debounce?.key !== undefined && key !== undefined) {
    return 'debounce.key cannot be used together with key: the last event of each key runs then';
  }
  if (batch?.key !== undefined && key !== undefined) {
    return 'batch.key cannot be used together with key: batches are made by key then';
  }
  const other = given.find((name) => isByEvent(name, options[name]));
  if (batch !== undefined && key !== undefined && other !== undefined) {
    return `batch and key are one order for all events of a key, which ${other} would divide`;
  }
  return undefined;
}

/** Undefined for a function without any. Only for options that have no reason against them. */
export function toFlow(
  options: FlowOptions<never> & { key?: FlowKey<never> | undefined },
): FlowDefinition | undefined {
  const { concurrency, rateLimit, debounce, batch, singleton, priority, fair } =
    options as FlowOptions;
  const limit = typeof concurrency === 'number' ? { limit: concurrency } : concurrency;
  const single = singleton === true ? {} : singleton || undefined;
  const ways = [limit, rateLimit, debounce, batch, single, priority, fair];
  if (ways.every((each) => each === undefined)) return undefined;
  const ordered = options.key as FlowKey | undefined;
  const keys = {
    concurrency: limit?.key,
    rate: rateLimit?.key,
    debounce: debounce && (debounce.key ?? ordered),
    batch: batch && (batch.key ?? ordered),
    singleton: single?.key,
    fair,
  };
  return {
    concurrency: limit?.limit,
    rate: rateLimit && {
      limit: rateLimit.limit,
      periodMs: rateLimit.periodMs,
      refuse: rateLimit.exceeded === 'refuse',
    },
    debounce: debounce && {
      waitMs: debounce.waitMs,
      maxWaitMs: debounce.maxWaitMs ?? debounce.waitMs * DEBOUNCE_FACTOR,
    },
    batch: batch && {
      maxSize: batch.maxSize,
      waitMs: batch.waitMs,
      maxBytes: MAX_BATCH_BYTES,
      ordered: ordered !== undefined,
    },
    singleton: single !== undefined,
    keys: Object.fromEntries(Object.entries(keys).filter(([, key]) => key !== undefined)),
    priority,
  };
}

/** Throws what a key or the priority throws, and where one gives something that it must not. */
export function lotOf({ keys, priority }: FlowDefinition, event: FunctionEvent): Lot {
  const lot = { ...NO_LOT };
  for (const [option, find] of Object.entries(keys)) {
    const key: unknown = find(event);
    const legal = typeof key === 'string' && Buffer.byteLength(key) <= MAX_FLOW_KEY_BYTES;
    if (!legal || key === '') {
      throw new Error(`the key of ${option} must be a text of 1 to ${MAX_FLOW_KEY_BYTES} bytes`);
    }
    lot[option as KeyedOption] = key;
  }
  if (priority === undefined) return lot;
  const level: unknown = priority(event);
  if (!Number.isInteger(level) || Math.abs(level as number) > MAX_PRIORITY) {
    throw new Error(`the priority must be an integer from -${MAX_PRIORITY} to ${MAX_PRIORITY}`);
  }
  return { ...lot, priority: level as number };
}

/** Does it tell events of the same key apart? */
function isByEvent(name: string, option: unknown): boolean {
  if (name === 'priority' || name === 'fair') return true;
  return name !== 'batch' && (option as { key?: unknown }).key !== undefined;
}
