import { defineFunction } from 'millrace';

/** The sum of these counters. */
export default defineFunction({
  async handler({ data }, ctx) {
    const counters = ctx.state<number>('counters');
    const counts = await Promise.all((data as string[]).map(async (key) => counters.get(key)));
    return counts.reduce<number>((sum, count) => sum + (count ?? 0), 0);
  },
});
