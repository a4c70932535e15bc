import { defineFunction } from 'millrace';
import { orderSchema, type Order } from './_order.ts';

/** The first of three: what it writes and the event that it emits are there together or not at all. */
export default defineFunction({
  description: 'Takes an order and asks for its payment.',
  on: 'orders.placed',
  input: orderSchema,
  key: ({ data }) => data.order,
  async handler({ data: { order, amount } }, ctx) {
    await ctx.state<Order>('orders').set(order, { amount, status: 'placed' });
    await ctx.emit('orders.to-pay', { order, amount });
  },
});
