/** What one dispatcher hands to the next when workers come and go in order. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect, type Mill } from '../../src/client/client.ts';
import { defineFunction } from '../../src/function/define.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const LIMIT = 2;
/** Longer than it takes the next dispatcher to begin. */
const RUN_MS = 1_200;
const RETRY_AFTER_MS = 3_000;
let atOnce = 0;
let most = 0;
let ended = 0;
let triedAtMs: number[] = [];

const limited = defineFunction({
  name: 'limited',
  on: 'limited',
  concurrency: LIMIT,
  handler: async () => {
    atOnce += 1;
    most = Math.max(most, atOnce);
    await delay(RUN_MS);
    atOnce -= 1;
    ended += 1;
  },
});
const patient = defineFunction({
  name: 'patient',
  on: 'patient',
  handler: () => {
    triedAtMs.push(performance.now());
    if (triedAtMs.length > 1) return;
    throw Object.assign(new Error('not yet'), { retryAfterMs: RETRY_AFTER_MS });
  },
});
const functions = [limited, patient];

let broker: TestBroker;
let workers: TestWorker[];
let mill: Mill;

beforeEach(async () => {
  [atOnce, most, ended, triedAtMs] = [0, 0, 0, []];
  broker = await startTestBroker();
  mill = await connect({ servers: broker.url });
  workers = [await startTestWorker(broker.url, functions)];
});

afterEach(async () => {
  await mill.close();
  for (const worker of workers) await worker.stop();
  await broker.stop();
});

describe('another dispatcher', () => {
  it('waits for what the one before has running, where runs are limited', async () => {
    const count = 16;
    for (let index = 0; index < count; index += 1) await mill.publish('limited', index);
    await until('some run', () => atOnce === LIMIT);
    for (let index = 0; index < 4; index += 1) {
      workers.push(await startTestWorker(broker.url, functions));
    }
    // One of them is the dispatcher by then, most likely.
    await until('more have run', () => ended >= count * 0.6, 15_000);
    await workers.shift()?.stop();
    await until('all have run', () => ended >= count, 30_000);
    expect(most).toBe(LIMIT);
  }, 60_000);

  it('keeps to the time for which an event is to wait', async () => {
    await mill.publish('patient', 1);
    await until('it has failed', () => triedAtMs.length === 1);
    workers.push(await startTestWorker(broker.url, functions));
    // Its cursor says so by then at the latest.
    await workers.shift()?.stop();
    await until('it has run again', () => triedAtMs.length === 2, 15_000);
    const [first = 0, second = 0] = triedAtMs;
    // Clocks are read twice.
    expect(second - first).toBeGreaterThan(RETRY_AFTER_MS - 50);
  }, 30_000);
});
