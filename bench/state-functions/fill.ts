import { defineFunction } from 'millrace';

/** Writes `count` items, from number `from` on, of about 40 characters each. */
export default defineFunction({
  name: 'fill',
  async handler({ data }, ctx) {
    const { from, count } = data as { from: number; count: number };
    const items = ctx.state<object>('items');
    for (let index = from; index < from + count; index += 1) {
      await items.set(`item-${index}`, { name: `item number ${index}`, amount: index });
    }
  },
});
