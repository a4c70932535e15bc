/**
 * Orders go through three functions. While some of them come in the payment provider is away: their payments are tried three
 * times and set aside as dead letters. Then it is back, the dead letters are replayed, and each order has one parcel.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Mill } from '../src/index.ts';
import { asked } from './system.ts';

const ORDERS = 60;
/** The last ones, which come in while the provider is away. */
const DURING_OUTAGE = 10;
const TIMEOUT_MS = 60_000;

const print = (line: string): void => void process.stdout.write(`${line}\n`);

export async function takeOrders(mill: Mill): Promise<void> {
  print(
    `${ORDERS} orders on orders.placed: placed, paid, shipped; every fifth payment fails the first time …`,
  );
  const place = async (from: number, to: number): Promise<void> => {
    const numbers = Array.from({ length: to - from }, (_, index) => from + index);
    await Promise.all(
      numbers.map(async (number) =>
        mill.publish(
          'orders.placed',
          { order: `order-${number}`, amount: 10 },
          { id: `order-${number}` },
        ),
      ),
    );
  };
  await place(0, ORDERS - DURING_OUTAGE);
  await reach('parcels', async () => parcels(mill), ORDERS - DURING_OUTAGE);
  await mill.invoke('outage', true);
  await place(ORDERS - DURING_OUTAGE, ORDERS);
  await reach('dead letters', async () => (await deadPayments(mill)).length, DURING_OUTAGE);
  const dead = await deadPayments(mill);
  print(
    `  the payment provider is away: ${dead.length} payments are dead letters after ${dead[0]?.attempts} attempts`,
  );
  await mill.invoke('outage', false);
  for (const { number } of dead) await mill.dead.replay(number);
  print('  it is back: they are replayed');
  await reach('parcels', async () => parcels(mill), ORDERS);
  const { items } = await asked(() => mill.inspect.list<number>('parcels', { limit: 1_000 }));
  const { items: orders } = await asked(() =>
    mill.inspect.list<{ status: string }>('orders', { limit: 1_000 }),
  );
  if (items.some(({ value }) => value !== 1)) throw new Error('An order has more than one parcel.');
  if (orders.some(({ value }) => value.status !== 'shipped'))
    throw new Error('An order is not shipped.');
  print(`All ${orders.length} orders are shipped, each in one parcel.\n`);
}

const deadPayments = (mill: Mill) => mill.dead.list({ function: 'charge', limit: 1_000 });

async function parcels(mill: Mill): Promise<number> {
  return (await asked(() => mill.inspect.list('parcels', { limit: 1_000 }))).items.length;
}

async function reach(what: string, count: () => Promise<number>, wanted: number): Promise<void> {
  const deadlineMs = performance.now() + TIMEOUT_MS;
  for (;;) {
    const now = await count();
    if (now >= wanted) return;
    if (performance.now() > deadlineMs) throw new Error(`Only ${now} of ${wanted} ${what}.`);
    await delay(50);
  }
}
