import { defineFunction } from 'millrace';

/** One counter, in a transaction. */
export default defineFunction({
  delivery: 'ephemeral',
  async handler({ data }, ctx) {
    const { key } = data as { key: string };
    const counters = ctx.state<number>('counters');
    await counters.set(key, ((await counters.get(key)) ?? 0) + 1);
  },
});
