import { defineFunction } from 'millrace';

/** Adds one to an item's amount. */
export default defineFunction({
  name: 'touch',
  async handler({ data }, ctx) {
    const { key } = data as { key: string };
    const items = ctx.state<{ amount: number }>('items');
    const item = await items.get(key);
    if (item === undefined) throw new Error(`there is no ${key}`);
    await items.set(key, { ...item, amount: item.amount + 1 });
  },
});
