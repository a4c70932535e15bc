import { defineFunction } from 'millrace';

/** Adds one to each of the keys: with two of them a transfer, with one the simplest update. */
export default defineFunction({
  name: 'bump',
  async handler({ data }, ctx) {
    const { keys } = data as { keys: string[] };
    const counters = ctx.state<number>('counters');
    const values = await Promise.all(keys.map(async (key) => counters.get(key)));
    for (const [index, key] of keys.entries()) await counters.set(key, (values[index] ?? 0) + 1);
  },
});
