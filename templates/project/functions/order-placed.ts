import { defineFunction } from 'millrace';
import { z } from 'zod';
import add from './add.ts';

/** Runs for each event on orders.placed, exactly once: what it writes and emits happens wholly or not at all. */
export default defineFunction({
  name: 'order-placed',
  on: 'orders.placed',
  input: z.object({ customer: z.string().min(1), items: z.array(z.number()) }),
  handler: async ({ data: { customer, items } }, ctx) => {
    const customers = ctx.state<{ orders: number; total: number }>('customers');
    const { orders, total } = (await customers.get(customer)) ?? { orders: 0, total: 0 };
    let sum = total;
    for (const item of items) sum = await ctx.invoke(add, { left: sum, right: item });
    await customers.set(customer, { orders: orders + 1, total: sum });
    await ctx.emit('orders.counted', { customer, orders: orders + 1 });
  },
});
