import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestMill, type TestMill } from 'millrace/testing';

let mill: TestMill;

beforeAll(async () => {
  mill = await startTestMill({ functions: 'functions', workers: 2 });
}, 60_000);

afterAll(async () => mill.close());

test('add adds', async () => {
  expect(await mill.invoke('add', { left: 1, right: 2 })).toBe(3);
});

test('an order counts once, though it is published twice and a worker is killed', async () => {
  const counted = mill.record('orders.counted');
  await mill.publish('orders.placed', { customer: 'Ada', items: [3, 4] }, { id: 'order-1' });
  await mill.publish('orders.placed', { customer: 'Ada', items: [3, 4] }, { id: 'order-1' });
  await mill.killWorker();
  await mill.publish('orders.placed', { customer: 'Ada', items: [5] }, { id: 'order-2' });
  await mill.settled();
  expect(await mill.state('customers', 'Ada')).toEqual({ orders: 2, total: 12 });
  expect(counted.map(({ data }) => data)).toEqual([
    { customer: 'Ada', orders: 1 },
    { customer: 'Ada', orders: 2 },
  ]);
}, 60_000);
