import { defineFunction } from 'millrace';

/** One counter, by the event's key. */
export default defineFunction({
  on: 'bench.count',
  from: 'start',
  key: ({ data }) => (data as { key: string }).key,
  async handler({ data }, ctx) {
    const { key } = data as { key: string };
    const counters = ctx.state<number>('counters');
    await counters.set(key, ((await counters.get(key)) ?? 0) + 1);
  },
});
