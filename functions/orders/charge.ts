import { setTimeout as delay } from 'node:timers/promises';
import { defineFunction } from 'millrace';
import { orderSchema, type Order } from './_order.ts';

/** Stands for a payment provider: slow, now and then without an answer, and sometimes away (`millrace invoke outage true`). */
async function charge(order: string, attempt: number, away: boolean): Promise<void> {
  await delay(5);
  if (away) throw new Error(`the payment provider is away: ${order} is not paid`);
  const hiccup = Number(/\d+$/.exec(order)?.[0] ?? 0) % 5 === 0;
  if (hiccup && attempt === 1) throw new Error('the payment provider has not answered');
}

export default defineFunction({
  description: 'Has an order paid; tries again when the provider fails, three times in all.',
  on: 'orders.to-pay',
  input: orderSchema,
  key: ({ data }) => data.order,
  retries: { maxAttempts: 3, minDelayMs: 50, maxDelayMs: 500 },
  async handler({ data: { order, amount }, attempt }, ctx) {
    const away = await ctx.state<boolean>('provider').get('away');
    await charge(order, attempt, away === true);
    await ctx.state<Order>('orders').set(order, { amount, status: 'paid' });
    await ctx.emit('orders.to-ship', { order, amount });
  },
});
