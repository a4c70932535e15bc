/** Bugs planted into what makes events happen once, in order and within bounds: do the property tests of deliveries find them? */
import type { Mutant } from './planted.ts';

const MARKER = 'src/core/delivery/marker.ts';
const DISPATCH = 'src/core/delivery/dispatch.ts';
const FLOW = 'src/core/delivery/flow.ts';
const QUOTA = 'src/core/delivery/quota.ts';
const RATES = 'src/core/delivery/rates.ts';

export const DELIVERY_MUTANTS: readonly Mutant[] = [
  {
    bug: 'an event that is marked is settled again',
    file: MARKER,
    from: 'if (isSettled(lane, sequence)) return undefined;',
    to: '',
  },
  {
    bug: "a key's marker forgets the event itself",
    file: MARKER,
    from: 'return sequence <= highest ? undefined',
    to: 'return sequence < highest ? undefined',
  },
  {
    bug: 'an old dispatcher opens again what is settled',
    file: MARKER,
    from: 'open: open.filter((each) => each < below && !isSettled(lane, each)),',
    to: 'open: open.filter((each) => each < below),',
  },
  {
    bug: 'what a dispatcher has not seen settled counts as settled',
    file: MARKER,
    from: 'open: open.filter((each) => each < below && !isSettled(lane, each)),',
    to: 'open: [],',
  },
  {
    bug: 'the word of an old dispatcher goes before the lane',
    file: MARKER,
    from: '    below > lane.below\n',
    to: '    below !== lane.below\n',
  },
  {
    bug: 'the cursor does not say what runs',
    file: DISPATCH,
    from: 'for (const held of this.#held.values()) add(held.sequence, held);',
    to: 'for (const held of this.#held.values()) if (!this.#running.has(held.sequence)) add(held.sequence, held);',
  },
  {
    bug: 'the cursor does not say what was open and has not been read again',
    file: DISPATCH,
    from: 'for (const [sequence, known] of this.#missing) add(sequence, known);',
    to: '',
  },
  {
    bug: 'reading begins behind what is open',
    file: DISPATCH,
    from: 'for (const sequence of this.#missing.keys()) from = Math.min(from, sequence);',
    to: '',
  },
  {
    bug: 'events of a key do not wait for each other',
    file: DISPATCH,
    from: 'if (chain !== undefined) {',
    to: 'if (chain === null) {',
  },
  {
    bug: 'events of a key do not wait for the retry of the one before',
    file: DISPATCH,
    from: '    held.retryAtMs = retryAtMs;\n',
    to: '    held.retryAtMs = retryAtMs;\n    if (held.key !== undefined) { const next = this.#chains.get(held.key)?.behind.shift(); if (next !== undefined) this.#ready.push(next, dueMs); }\n',
  },
  {
    bug: 'a retry that another dispatcher has planned is overtaken',
    file: DISPATCH,
    from: 'if (early) this.#delay(held, held.dueMs);',
    to: 'if (early) { this.#chains.delete(held.key ?? ""); this.#delay(held, held.dueMs); }',
  },
  {
    bug: 'too many run at once',
    file: QUOTA,
    from: 'return (this.#running.get(key) ?? 0) < this.#concurrency;',
    to: 'return (this.#running.get(key) ?? 0) <= this.#concurrency;',
  },
  {
    bug: 'a place is not given back after a failure',
    file: FLOW,
    from: 'if (this.#leaders.delete(sequence)) this.#quota',
    to: 'if (settled && this.#leaders.delete(sequence)) this.#quota',
  },
  {
    bug: 'a place that is free wakes nobody',
    file: FLOW,
    from: 'if (group !== undefined) this.#turn(group);',
    to: 'if (group === undefined) this.#turn(group as never);',
  },
  {
    bug: 'one more in a period',
    file: RATES,
    from: 'begun.length < limit) return nowMs;',
    to: 'begun.length <= limit) return nowMs;',
  },
  {
    bug: 'batches are too large',
    file: FLOW,
    from: 'if (index >= maxSize ||',
    to: 'if (index > maxSize ||',
  },
  {
    bug: 'batches of a key run beside each other',
    file: FLOW,
    from: 'if (batch?.ordered === true) {',
    to: 'if (batch?.ordered === undefined) {',
  },
  {
    bug: 'a failed batch is overtaken by the next one of its key',
    file: FLOW,
    from: 'if (settled && group?.out.delete(sequence) === true',
    to: 'if (group?.out.delete(sequence) === true',
  },
  {
    bug: 'a debounced event is run beside the one that stands for it',
    file: DISPATCH,
    from: 'if (before !== undefined) this.#drop(before.held);',
    to: '',
  },
];
