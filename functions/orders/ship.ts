import { defineFunction } from 'millrace';
import { orderSchema, type Order } from './_order.ts';

export default defineFunction({
  description: 'Ships an order that is paid; counts its parcels.',
  on: 'orders.to-ship',
  input: orderSchema,
  key: ({ data }) => data.order,
  async handler({ data: { order, amount } }, ctx) {
    const parcels = ctx.state<number>('parcels');
    await ctx.state<Order>('orders').set(order, { amount, status: 'shipped' });
    await parcels.set(order, ((await parcels.get(order)) ?? 0) + 1);
  },
});
