import { defineFunction } from 'millrace';

/** One counter, by the event's key; says when it is committed. */
export default defineFunction({
  on: 'bench.timed',
  key: ({ data }) => (data as { key: string }).key,
  async handler({ data }, ctx) {
    const { key, sentMs } = data as { key: string; sentMs: number };
    const counters = ctx.state<number>('timed');
    await counters.set(key, ((await counters.get(key)) ?? 0) + 1);
    await ctx.emit('bench-done', { sentMs });
  },
});
